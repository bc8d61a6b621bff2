# SPDX-License-Identifier: Apache-2.0
"""Which numbers of a (slot, CPU) sequence have been seen, and which are lost for certain.

Why: every record that is due takes a number in the kernel, whether it reaches the ring or not. A
number that never comes is a loss; saying so too early declares a record that still arrives, saying
it never is a silent loss. The exact rule: read the kernel's counters, then note the ring's end,
then read up to it. A number up to the counter that was not seen by then cannot come any more,
because a program reserves its place in the ring before it takes its number.

Who calls it: :class:`headwater_agent.pipeline.Pipeline`; the compiled walker shares `high` and asks
`unexpected` only when a number does not follow the one before. Next: the gap documents of
:mod:`headwater_agent.batch`. Promise G2.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
from headwater_prov.vocabulary import GapReason
from numpy.typing import NDArray

from headwater_agent.layout import SLOTS, Loss

REASONS: Final = {
    Loss.RING: GapReason.RING,
    Loss.STORAGE: GapReason.STORAGE,
    Loss.SCRATCH: GapReason.SCRATCH,
    Loss.CONTENTION: GapReason.CONTENTION,
    Loss.MAPPINGS: GapReason.MAPPINGS,
    Loss.READ: GapReason.READ,
    Loss.RATE: GapReason.RATE_LIMIT,
}
"""The kernel's reasons by the names of the record format."""

_HALF = 1 << 31
_LOW = (1 << 32) - 1


class CpuCounters(Protocol):
    """The kernel's counts of one slot on one CPU."""

    @property
    def captured(self) -> int:
        """The number given last."""

    @property
    def lost(self) -> Sequence[int]:
        """Lost records by reason, in the order of :class:`headwater_agent.layout.Loss`."""


@dataclass(slots=True)
class SequenceStatistics:
    """What should never be anything but zero."""

    late: int = 0
    """Records that came after their number was declared lost, or twice: dropped."""


class SequenceTracker:
    """Seen and missing numbers of all slots on all CPUs."""

    def __init__(self, cpus: int) -> None:
        """Start with no number seen.

        Args:
            cpus: how many CPU numbers the kernel can use.
        """
        self.high: Final[NDArray[np.uint64]] = np.zeros((SLOTS, cpus), np.uint64)
        """The highest number seen by slot and CPU."""
        self.statistics: Final = SequenceStatistics()
        # Runs (first, last) of missing numbers, in order, below `high`.
        self._missing: dict[tuple[int, int], list[tuple[int, int]]] = {}
        self._explained: dict[int, list[int]] = {}
        # What was left out on purpose, by slot: its numbers are missing, or will be.
        self._left_out: dict[int, dict[GapReason, int]] = {}

    def leave_out(self, slot: int, reason: GapReason, count: int) -> None:
        """Say why numbers of a slot will be missing that no counter of the kernel explains."""
        left_out = self._left_out.setdefault(slot, {})
        left_out[reason] = left_out.get(reason, 0) + count

    def start(self, slot: int, counters: Sequence[CpuCounters]) -> None:
        """Begin to watch a slot whose sequences are under way; what was before is not missed."""
        for cpu, counter in enumerate(counters):
            self.high[slot, cpu] = counter.captured
            self._missing.pop((slot, cpu), None)
        self._explained[slot] = _sum_of_losses(counters)

    def extend(self, slot: int, cpu: int, low: int) -> int:
        """The 64-bit number whose lower half is `low`: the one nearest to the highest seen."""
        high = int(self.high[slot, cpu])
        return high + ((low - high + _HALF) & _LOW) - _HALF

    def unexpected(self, slot: int, cpu: int, low: int) -> bool:
        """Note a number that is not the one after the highest; return whether its record counts.

        It may skip numbers, which are missing from now on, or be one that was missing: a program
        interrupted between its number and its record lets others pass.
        """
        number = self.extend(slot, cpu, low)
        high = int(self.high[slot, cpu])
        if number > high:
            if number > high + 1:
                self._missing.setdefault((slot, cpu), []).append((high + 1, number - 1))
            self.high[slot, cpu] = number
            return True
        if self._found(slot, cpu, number):
            return True
        self.statistics.late += 1
        return False

    def refuse(self, slot: int, cpu: int, low: int) -> None:
        """Take back a number just seen: its record cannot be delivered and has to be declared."""
        number = self.extend(slot, cpu, low)
        runs = self._missing.setdefault((slot, cpu), [])
        runs.append((number, number))
        runs.sort()

    def missing(self, slot: int) -> int:
        """How many numbers of a slot are missing so far."""
        return sum(
            last - first + 1
            for (watched, _), runs in self._missing.items()
            if watched == slot
            for first, last in runs
        )

    def settle(self, slot: int, counters: Sequence[CpuCounters]) -> dict[GapReason, int]:
        """Lost records of a slot by reason, after the ring has been read by the exact rule.

        Args:
            slot: whose counters they are.
            counters: by CPU, read before the ring's end was noted.

        Returns:
            How many numbers are lost, by the reasons that the kernel counted or that
            :meth:`leave_out` was told; what neither explains is `UNEXPLAINED`. Empty where nothing
            is lost. Each number is returned once.
        """
        lost = sum(
            self._settle_cpu(slot, cpu, counter.captured) for cpu, counter in enumerate(counters)
        )
        explained = self._explained.setdefault(slot, [0] * len(Loss))
        reasons: dict[GapReason, int] = {}
        for reason, total in zip(Loss, _sum_of_losses(counters), strict=True):
            # More than is missing: counted already, their numbers not yet read. Next time.
            count = min(lost, total - explained[reason])
            if count > 0:
                reasons[REASONS[reason]] = count
                explained[reason] += count
                lost -= count
        left_out = self._left_out.get(slot, {})
        for kind, total in left_out.items():
            if count := min(lost, total):
                reasons[kind] = count
                left_out[kind] -= count
                lost -= count
        if lost:
            reasons[GapReason.UNEXPLAINED] = lost
        return reasons

    def _settle_cpu(self, slot: int, cpu: int, captured: int) -> int:
        lost = 0
        runs = self._missing.get((slot, cpu))
        if runs:
            left = [(max(first, captured + 1), last) for first, last in runs if last > captured]
            lost = sum(last - first + 1 for first, last in runs)
            lost -= sum(last - first + 1 for first, last in left)
            self._missing[slot, cpu] = left
        high = int(self.high[slot, cpu])
        if captured > high:
            lost += captured - high
            self.high[slot, cpu] = captured
        return lost

    def _found(self, slot: int, cpu: int, number: int) -> bool:
        runs = self._missing.get((slot, cpu), [])
        at = bisect_right(runs, number, key=lambda run: run[0]) - 1
        if at < 0 or runs[at][1] < number:
            return False
        first, last = runs[at]
        rest = [(first, number - 1), (number + 1, last)]
        runs[at : at + 1] = [run for run in rest if run[0] <= run[1]]
        return True


def _sum_of_losses(counters: Sequence[CpuCounters]) -> list[int]:
    return [sum(counter.lost[reason] for counter in counters) for reason in Loss]
