# SPDX-License-Identifier: Apache-2.0
"""When a node's status is written: soon after a change, else once a minute, else as a sign of life.

Why: each write of 5,000 nodes goes through etcd, so counters alone are worth one a minute; but who
has just applied a policy waits for the nodes to say that they have it. Called by `main`; what is
written is :mod:`.status`'s business. A write that fails is tried again by the same rules.
"""

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from headwater_agent.cluster.api_errors import ApiError, ApiNotFoundError
from headwater_agent.cluster.backoff import Backoff, BackoffSettings, Chance
from headwater_agent.cluster.resources import node_path
from headwater_agent.cluster.status import has_same_counts, is_same

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ReporterSettings:
    """How often a status is written."""

    gather_s: float = 0.5
    """Wait after a change, half of it by chance: what changes together is written together, and
    nodes that are told together do not answer together."""

    changes_interval_s: float = 2.0
    """Least time between two writes for changes: a tenant that edits all the time costs no more."""

    counts_interval_s: float = 60.0
    """Least time between two writes for nothing but counts."""

    life_interval_s: float = 300.0
    """Longest time without a write. 5,000 nodes are then 17 writes a second."""


class PatchStatus(Protocol):
    """What is needed of the API client."""

    async def patch_status(self, path: str, status: Mapping[str, Any]) -> dict[str, Any]:
        """Merge a status into an object's."""
        ...


class Reporter:
    """Writes one node's status."""

    def __init__(
        self,
        api: PatchStatus,
        node: str,
        build: Callable[[], dict[str, Any] | None],
        settings: ReporterSettings | None = None,
        *,
        chance: Chance = random.random,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Describe it; `run` begins.

        Args:
            api: the client.
            node: its name.
            build: makes the status as it is now; None while there is no object to write it to.
            settings: how often.
            chance: where jitter comes from.
            clock: monotonic seconds.
        """
        self._api = api
        self._node = node
        self._build = build
        self._settings = settings or ReporterSettings()
        self._chance = chance
        self._clock = clock
        self._backoff = Backoff(BackoffSettings(), chance)
        self._changed = asyncio.Event()
        self.written: dict[str, Any] = {}
        """What was written last; empty before the first."""
        self._written_at = float("-inf")
        self.writes = 0

    def forget(self) -> None:
        """What was written is not there any more."""
        self.written = {}

    def change(self) -> None:
        """Something that a status says may be different."""
        self._changed.set()

    async def run(self) -> None:
        """Report until cancelled."""
        settings = self._settings
        while True:
            await self._wait(settings.counts_interval_s * (0.9 + self._chance() * 0.2))
            if self._changed.is_set():
                since = self._clock() - self._written_at
                pause = max(settings.gather_s, settings.changes_interval_s - since)
                await asyncio.sleep(pause * (0.5 + self._chance() / 2))
            self._changed.clear()
            try:
                await self.write_if_due()
            except ApiError as error:
                self._changed.set()
                if not isinstance(error, ApiNotFoundError):
                    log.warning("cannot write the status of node %s: %s", self._node, error)
                await asyncio.sleep(self._backoff.fail(error.retry_after_s))
            else:
                self._backoff.succeed()

    async def write_if_due(self) -> bool:
        """Write the status if it says something new or is old; tell whether it was written.

        Raises:
            ApiError: it could not be written.
        """
        status = self._build()
        if status is None:
            return False
        age = self._clock() - self._written_at
        if is_same(status, self.written):
            interval = (
                self._settings.life_interval_s
                if has_same_counts(status, self.written)
                else self._settings.counts_interval_s
            )
            if age < interval * 0.9:
                return False
        await self.write(status)
        return True

    async def write(self, status: dict[str, Any]) -> None:
        """Write a status now.

        Raises:
            ApiError: it could not be written.
        """
        await self._api.patch_status(node_path(self._node), status)
        self.written = status
        self._written_at = self._clock()
        self.writes += 1

    async def _wait(self, longest_s: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._changed.wait(), longest_s)
