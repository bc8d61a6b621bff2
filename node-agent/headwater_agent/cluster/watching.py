# SPDX-License-Identifier: Apache-2.0
"""A selection of objects, kept up to date: list, then watch, for ever.

Why: a watch ends, goes silent, falls behind, or is answered with an error inside a success; each of
these has its own way back, and none may lose a change or storm the server. Whoever wants the
objects gets them by three calls, and nothing of how they came.
Called by `main` for the node's own ProvenanceNode and for the pods of the node; asks :mod:`.api`.
Promise: G8, what was told last stays in force while the API server is away.
"""

import asyncio
import logging
import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Protocol

from headwater_agent.cluster.api import ApiTimeouts, WatchEvent
from headwater_agent.cluster.api_errors import ApiError, ApiExpiredError
from headwater_agent.cluster.backoff import Backoff, BackoffSettings, Chance

log = logging.getLogger(__name__)

_HEALTHY_S = 5.0
"""A watch that lasted this long, or brought something, is no failure whatever ended it."""

_IN_MEMORY = "0"
"""Resource version of a first list: what the server has in memory, at no cost to etcd."""


class ObjectHandler(Protocol):
    """Takes the objects of one selection; called from the event loop, must not wait."""

    def replace(self, objects: list[dict[str, Any]]) -> None:
        """These are all there are."""
        ...

    def change(self, content: dict[str, Any]) -> None:
        """One is new or different."""
        ...

    def remove(self, content: dict[str, Any]) -> None:
        """One is gone; this is how it was last."""
        ...


class ListWatch(Protocol):
    """What a watch needs of the API client."""

    timeouts: ApiTimeouts

    async def list(
        self, path: str, *, field_selector: str, resource_version: str | None
    ) -> tuple[list[dict[str, Any]], str]:
        """Return the selected objects and their version."""
        ...

    def watch(
        self, path: str, *, field_selector: str, resource_version: str, lasting_s: int
    ) -> AsyncIterator[WatchEvent]:
        """Yield changes."""
        ...


@dataclass(slots=True)
class WatchStatistics:
    """Counts since the start."""

    lists: int = 0
    watches: int = 0
    events: int = 0
    """Bookmarks not included."""

    failures: int = 0
    expired: int = 0
    """Of them, resource versions that were too old."""

    last_error: str = ""
    """Why the last one failed; empty once a later one worked."""

    last_word: float = 0.0
    """Monotonic time of the last answer, event or bookmark."""


class Watch:
    """Follows one selection."""

    def __init__(
        self,
        api: ListWatch,
        path: str,
        field_selector: str,
        handler: ObjectHandler,
        *,
        backoff: BackoffSettings | None = None,
        chance: Chance = random.random,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Describe it; `run` begins.

        Args:
            api: the client.
            path: of the resource.
            field_selector: which objects.
            handler: takes them.
            backoff: pauses after failures.
            chance: where jitter comes from.
            clock: monotonic seconds.
        """
        self._api = api
        self._path = path
        self._field_selector = field_selector
        self._handler = handler
        self._chance = chance
        self._clock = clock
        self._backoff = Backoff(backoff or BackoffSettings(), chance)
        self._version: str | None = _IN_MEMORY
        self._is_listed = False
        self.listed = asyncio.Event()
        self.statistics = WatchStatistics()

    async def run(self) -> None:
        """Follow until cancelled."""
        while True:
            began = self._clock()
            events = self.statistics.events
            try:
                if not self._is_listed:
                    await self._list()
                await self._follow()
            except ApiError as error:
                retry_after_s = self._note(error)
                if self._clock() - began >= _HEALTHY_S or self.statistics.events > events:
                    self._backoff.succeed()
                await asyncio.sleep(self._backoff.fail(retry_after_s))
            else:
                # The server ended the watch in good order: go on where it was.
                self._backoff.succeed()
                await asyncio.sleep(self._chance() * 0.1)

    def _note(self, error: ApiError) -> float | None:
        statistics = self.statistics
        statistics.failures += 1
        if isinstance(error, ApiExpiredError):
            statistics.expired += 1
            if not self._is_listed:
                self._version = None  # even the list: only the newest will do
            self._is_listed = False
        if str(error) != statistics.last_error:
            log.warning("watch of %s (%s): %s", self._path, self._field_selector, error)
        statistics.last_error = str(error)
        return error.retry_after_s

    async def _list(self) -> None:
        self.statistics.lists += 1
        objects, version = await self._api.list(
            self._path, field_selector=self._field_selector, resource_version=self._version
        )
        self._heard()
        self._version = version
        self._is_listed = True
        self._handler.replace(objects)
        self.listed.set()

    async def _follow(self) -> None:
        self.statistics.watches += 1
        # Watches that began together need not end together.
        lasting_s = round(self._api.timeouts.watch_s * (0.5 + self._chance() / 2))
        events = self._api.watch(
            self._path,
            field_selector=self._field_selector,
            resource_version=self._version or "",
            lasting_s=max(1, lasting_s),
        )
        async with aclosing(events) as stream:  # type: ignore[type-var]  # a generator in truth
            async for event in stream:
                self._heard()
                self._take(event)

    def _take(self, event: WatchEvent) -> None:
        metadata = event.object.get("metadata")
        version = metadata.get("resourceVersion") if isinstance(metadata, dict) else None
        if event.kind in ("ADDED", "MODIFIED"):
            self._handler.change(event.object)
        elif event.kind == "DELETED":
            self._handler.remove(event.object)
        elif event.kind != "BOOKMARK":
            log.warning("watch of %s: event of unknown type %r", self._path, event.kind)
            return
        if event.kind != "BOOKMARK":
            self.statistics.events += 1
        if isinstance(version, str):
            self._version = version

    def _heard(self) -> None:
        self.statistics.last_word = self._clock()
        self.statistics.last_error = ""
