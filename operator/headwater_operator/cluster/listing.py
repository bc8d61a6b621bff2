# SPDX-License-Identifier: Apache-2.0
"""Lists: the model's beginning, and from then on its check.

Why: only a list says that something is *not* there, so nothing may be deleted before every kind was
listed once. A watch begins with a list of its own, and says nothing of what was deleted between
ours and that one: it is looked for soon after. And a watch can go silent without an error: what a
list has and the watch has not brought half a minute later shows it. Such a kind is listed again, so
the model is right, and `/healthz` says that the process wants to be started again.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import partial
from typing import Any, Final, NamedTuple

from headwater_operator.cluster.api import Api, ApiError
from headwater_operator.cluster.kinds import READ, Kind
from headwater_operator.cluster.observed import Cluster, Key, observe
from headwater_operator.cluster.settings import OperatorSettings

log = logging.getLogger(__name__)

_FIRST_RETRY_S: Final = 0.5
_LAST_RETRY_S: Final = 15.0


class Listing:
    """Lists what the model is made of.

    Args:
        api: to list from.
        cluster: the model.
        settings: how often, and how long a watch may be behind.
    """

    def __init__(self, api: Api, cluster: Cluster, settings: OperatorSettings) -> None:
        self.dead_watches: set[Kind] = set()
        """Kinds whose watch did not bring what a list had."""
        self._api = api
        self._cluster = cluster
        self._settings = settings

    async def run(self) -> None:
        """List every kind, then check them until cancelled."""
        await asyncio.gather(*(self._begin(kind) for kind in READ))
        for wait_s in self._settings.first_looks_s:
            await asyncio.sleep(wait_s)
            await self._each(self.forget_deleted)
        while True:
            await asyncio.sleep(self._settings.resync_s)
            await self._each(self.check)

    async def _each(self, look: Callable[[Kind], Awaitable[object]]) -> None:
        for kind in READ:
            try:
                await look(kind)
            except ApiError as error:
                log.warning("%s cannot be listed: %s", kind.plural, error)

    async def _begin(self, kind: Kind) -> None:
        wait = _FIRST_RETRY_S
        while True:
            try:
                await self._list(kind)
                return
            except ApiError as error:
                remedy = "; install the definitions: kubectl apply -f crds/" * error.is_absent
                log.warning(
                    "%s cannot be listed: %s%s; again in %.1f s", kind.plural, error, remedy, wait
                )
            await asyncio.sleep(wait)
            wait = min(_LAST_RETRY_S, wait * 2)

    async def _list(self, kind: Kind) -> None:
        objects, version = await self._api.list(kind, partial(observe, kind))
        self._cluster.relist(kind, objects, version)

    async def forget_deleted(self, kind: Kind) -> None:
        """Take out of the model what a list of a kind does not have any more.

        Raises:
            ApiError: it cannot be listed.
        """
        listed, version = await self._api.list(kind, _identify, metadata_only=True)
        known = self._cluster.of(kind)
        for key in self._extra(kind, listed, version):
            log.info(
                "%s %s was deleted before its watch began", kind.name, "/".join(key).strip("/")
            )
            self._cluster.remove(kind, key, known[key].uid)

    async def check(self, kind: Kind) -> bool:
        """Hold the model of a kind against a list of it; returns whether its watch is alive.

        Raises:
            ApiError: it cannot be listed.
        """
        listed, version = await self._api.list(kind, _identify, metadata_only=True)
        known = self._cluster.of(kind)
        behind = [one for one in listed if self._is_missed(kind, one)]
        extra = self._extra(kind, listed, version)
        if not behind and not extra:
            self.dead_watches.discard(kind)
            return True
        await asyncio.sleep(self._settings.dead_watch_s)
        missed = [one.key for one in behind if self._is_missed(kind, one)]
        missed += [key for key in extra if key in known and known[key].version <= version]
        if not missed:
            self.dead_watches.discard(kind)
            return True
        log.error(
            "the watch of %s is dead: it has not brought %d changes in %.0f s; listing again",
            kind.plural,
            len(missed),
            self._settings.dead_watch_s,
        )
        self.dead_watches.add(kind)
        await self._list(kind)
        return False

    def _extra(self, kind: Kind, listed: Iterable["_Listed"], version: int) -> set[Key]:
        """What the model has, and a list that was made at `version` has not."""
        present = {one.key for one in listed}
        known = self._cluster.of(kind)
        return {key for key, one in known.items() if key not in present and one.version <= version}

    def _is_missed(self, kind: Kind, one: "_Listed") -> bool:
        """Whether the watch has brought neither this state of an object, nor a later one."""
        known = self._cluster.of(kind).get(one.key)
        if known is None:
            return not self._cluster.has_seen_end(kind, one.uid)
        return known.version < one.version


class _Listed(NamedTuple):
    """What of an object tells whether the model has it."""

    key: Key
    uid: str
    version: int


def _identify(item: Mapping[str, Any]) -> _Listed:
    metadata = item["metadata"]
    key = (metadata.get("namespace") or "", metadata["name"])
    return _Listed(key, metadata["uid"], int(metadata["resourceVersion"]))
