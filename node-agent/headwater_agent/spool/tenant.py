# SPDX-License-Identifier: Apache-2.0
"""All logs of one tenant: those that earlier agents left, the oldest first, and this load's.

Why: what is owed longest goes first, whichever load it is of. Made by `spools`, used by
`delivery.DeliveryQueue`. Promises: G3 (an earlier load's messages keep their ids and places), G8.
"""

import logging
from collections import deque
from collections.abc import Callable
from typing import Final, TypeVar

from headwater_agent.batch import Batch
from headwater_agent.spool.log import Entry, Place, SpoolLog

log = logging.getLogger(__name__)

Result = TypeVar("Result")


class TenantSpool:
    """What is on disk for one tenant.

    Args:
        tenant: whose.
        current: the log of this load.
    """

    def __init__(self, tenant: str, current: SpoolLog) -> None:
        self.tenant: Final = tenant
        self.current: Final = current
        self._earlier: deque[SpoolLog] = deque()
        self._is_failing = False

    def add_earlier(self, found: SpoolLog) -> None:
        """Take over a log of an earlier load; add the oldest first."""
        self._earlier.append(found)
        found.join(self.current.usage)
        self._drop_answered(found)

    @property
    def size(self) -> int:
        """Bytes of the files."""
        return self.current.size + sum(each.size for each in self._earlier)

    @property
    def unread(self) -> int:
        """Messages that are on disk only."""
        return self.current.unread + sum(each.unread for each in self._earlier)

    @property
    def oldest_unread_ns(self) -> int | None:
        """When the file of the next message to read was written last; None: nothing is unread."""
        found = self._next_log()
        return found.next_to_read_ns if found is not None else None

    def log_of(self, load: str) -> SpoolLog:
        """The log of a load; this load's where there is none."""
        return next((each for each in self._earlier if each.load == load), self.current)

    def append(self, batch: Batch, *, keep: bool) -> Place | None:
        """Write a batch of this load; None: it could not be written, and that was logged."""
        return self._try(lambda: self.current.append(batch, keep=keep))

    def pass_by(self, batch: Batch) -> None:
        """Note that the numbers of a batch that is not written are given."""
        self._try(lambda: self.current.pass_by(batch))

    def offer(self, place: Place | None, batch: Batch, load: str, position: int) -> Place | None:
        """Write down what a message is, before it is sent for the first time."""
        written = self._try(lambda: self.log_of(load).offer(place, batch, position))
        return written if written is not None else place

    def settle(
        self, place: Place | None, batch: Batch, load: str, settled: int, digest: bytes
    ) -> None:
        """A message is stored."""
        found = self.log_of(load)
        self._try(lambda: found.settle(place, batch, settled, digest))
        self._drop_answered(found)

    def give_up(self, place: Place | None, load: str) -> None:
        """A message will not be sent any more."""
        found = self.log_of(load)
        found.give_up(place)
        self._drop_answered(found)

    def read(self) -> Entry | None:
        """The next message that is on disk only."""
        while (found := self._next_log()) is not None:
            entry = self._try(found.read)
            if entry is not None:
                return entry
            self._drop_answered(found)
        return None

    def drop_file(self) -> tuple[SpoolLog, list[Entry]] | None:
        """Take what is unread of the oldest file; None: nothing is unread."""
        found = self._next_log()
        if found is None:
            return None
        return found, list(found.read_file())

    def begin_sync(self, now: float, wait_s: float) -> list[int]:
        """Descriptors to be synced, and closed, by another thread."""
        return [
            each
            for found in (*self._earlier, self.current)
            for each in found.begin_sync(now, wait_s)
        ]

    def close(self) -> None:
        """Close all files; what is not owed any more goes."""
        for found in (*self._earlier, self.current):
            found.close()

    def _next_log(self) -> SpoolLog | None:
        return next((each for each in (*self._earlier, self.current) if each.unread), None)

    def _drop_answered(self, found: SpoolLog) -> None:
        if found is not self.current and found.is_answered:
            self._earlier.remove(found)
            found.close()

    def _try(self, action: Callable[[], Result]) -> Result | None:
        """Do something to a disk that may be full; what fails is logged once until it works."""
        try:
            result = action()
        except OSError as error:
            if not self._is_failing:
                log.warning("the spool of tenant %s cannot be used: %s", self.tenant, error)
            self._is_failing = True
            return None
        self._is_failing = False
        return result
