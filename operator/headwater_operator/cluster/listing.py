# SPDX-License-Identifier: Apache-2.0
"""Lists: the model's beginning, and from then on its check.

Why: only a list says that something is *not* there, so nothing may be deleted before every kind was
listed once. And a watch can go silent without an error: what a list has and the watch has not
brought half a minute later shows it. Such a kind is listed again, so the model is right, and
`/healthz` says that the process wants to be started again.
"""

import asyncio
import logging
from collections.abc import Mapping
from typing import Any, Final

from headwater_operator.cluster.api import Api, ApiError
from headwater_operator.cluster.kinds import READ, Kind
from headwater_operator.cluster.observed import Cluster, observe
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
        while True:
            await asyncio.sleep(self._settings.resync_s)
            for kind in READ:
                try:
                    await self.check(kind)
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
        items, version = await self._api.list(kind)
        self._cluster.relist(kind, (observe(kind, item) for item in items), version)

    async def check(self, kind: Kind) -> bool:
        """Hold the model of a kind against a list of it; returns whether its watch is alive.

        Raises:
            ApiError: it cannot be listed.
        """
        items, version = await self._api.list(kind, metadata_only=True)
        behind = {
            (metadata.get("namespace") or "", metadata["name"]): int(metadata["resourceVersion"])
            for metadata in (item["metadata"] for item in items)
            if self._is_behind(kind, metadata)
        }
        present = {
            (item["metadata"].get("namespace") or "", item["metadata"]["name"]) for item in items
        }
        extra = {
            key
            for key, one in self._cluster.of(kind).items()
            if key not in present and one.version <= version
        }
        if not behind and not extra:
            self.dead_watches.discard(kind)
            return True
        await asyncio.sleep(self._settings.dead_watch_s)
        known = self._cluster.of(kind)
        missed = [key for key, at in behind.items() if key not in known or known[key].version < at]
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

    def _is_behind(self, kind: Kind, metadata: Mapping[str, Any]) -> bool:
        key = (metadata.get("namespace") or "", metadata["name"])
        known = self._cluster.of(kind).get(key)
        return known is None or known.version < int(metadata["resourceVersion"])
