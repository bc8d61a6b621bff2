# SPDX-License-Identifier: Apache-2.0
"""What is left to be written, each object once, whoever asked for it how often.

Why: a worker that takes an item looks at the newest state, so ten edits that come while a node
waits for its turn are one write (level, not edge). An item is never worked on twice at a time.
Failed ones come again after a while that doubles, without holding up the others. No API, no model.
"""

import asyncio
import heapq
import itertools
import random
from collections.abc import Hashable
from typing import Final

FIRST_RETRY_S: Final = 0.1
LAST_RETRY_S: Final = 30.0


class WorkQueue:
    """Items by priority; smaller numbers first, then first come, first served."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, Hashable]] = []
        self._waiting: dict[Hashable, int] = {}
        self._active: set[Hashable] = set()
        self._again: dict[Hashable, int] = {}
        self._failures: dict[Hashable, int] = {}
        self._later: dict[Hashable, asyncio.TimerHandle] = {}
        self._order = itertools.count()
        self._ready = asyncio.Event()

    def __len__(self) -> int:
        return len(self._waiting) + len(self._active) + len(self._again) + len(self._later)

    def __repr__(self) -> str:
        return (
            f"WorkQueue(waiting={list(self._waiting)}, active={list(self._active)}, "
            f"again={list(self._again)}, later={list(self._later)})"
        )

    def add(self, item: Hashable, priority: int) -> None:
        """Have an item worked on; at once, even if it was to wait after a failure."""
        later = self._later.pop(item, None)
        if later is not None:
            later.cancel()
        if item in self._active:
            self._again[item] = min(priority, self._again.get(item, priority))
            return
        if self._waiting.get(item, priority + 1) <= priority:
            return
        # An older entry with a larger number stays in the heap and is skipped when its turn comes.
        self._waiting[item] = priority
        heapq.heappush(self._heap, (priority, next(self._order), item))
        self._ready.set()

    async def take(self) -> Hashable:
        """The next item, when there is one. The caller ends it by `done` or `retry`."""
        while True:
            while self._heap:
                priority, _, item = heapq.heappop(self._heap)
                if self._waiting.get(item) == priority and item not in self._active:
                    del self._waiting[item]
                    self._active.add(item)
                    return item
            self._ready.clear()
            await self._ready.wait()

    def done(self, item: Hashable) -> None:
        """An item is as it should be."""
        self._failures.pop(item, None)
        self._end(item)

    def retry(self, item: Hashable, priority: int, after_s: float | None = None) -> float:
        """An item is to be tried again; returns in how many seconds.

        Args:
            item: which.
            priority: with which it comes again.
            after_s: when; by default after twice as long as the last time, at most half a minute.
        """
        if after_s is None:
            failures = self._failures.get(item, 0)
            self._failures[item] = failures + 1
            # Half of it by chance, so that what failed together does not come back together.
            after_s = min(LAST_RETRY_S, FIRST_RETRY_S * 2 ** min(failures, 16))
            after_s *= 0.5 + random.random() / 2
        self._active.discard(item)
        again = self._again.pop(item, None)
        if again is not None:
            priority = min(priority, again)

        def come() -> None:
            self._later.pop(item, None)
            self.add(item, priority)

        if item not in self._waiting:
            self._later[item] = asyncio.get_running_loop().call_later(after_s, come)
        return after_s

    def close(self) -> None:
        """Forget everything that waits."""
        for later in self._later.values():
            later.cancel()
        self._later.clear()
        self._waiting.clear()
        self._heap.clear()
        self._again.clear()

    def _end(self, item: Hashable) -> None:
        self._active.discard(item)
        again = self._again.pop(item, None)
        if again is not None:
            self.add(item, again)
