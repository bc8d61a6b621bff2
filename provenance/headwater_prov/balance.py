# SPDX-License-Identifier: Apache-2.0
"""The account of a stream: captured = delivered + declared lost, to the record (G2).

Why: "no silent loss" is a claim about numbers, so the numbers are added up in one pure place.
Every captured record of one tenant on one load of one node has a number, counted from 1. A batch
says which numbers it delivers, a gap which it declares lost; what is in neither is missing.

Who calls it: auditors and the commands that print the account; :mod:`headwater_prov.validation`.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass

from headwater_prov.stream import SequenceRange


@dataclass(frozen=True, slots=True)
class Balance:
    """What became of the records that were captured."""

    captured: int
    """The highest number that is known to have been given."""
    delivered: int = 0
    declared: int = 0
    """Records that a gap declares lost."""
    missing: tuple[SequenceRange, ...] = ()
    """Numbers that were neither delivered nor declared lost."""
    repeated: int = 0
    """Numbers that came more than once; they count once, as what they came first."""

    @property
    def is_even(self) -> bool:
        """Whether nothing was lost in silence."""
        return self.captured == self.delivered + self.declared and not self.missing

    def __str__(self) -> str:
        text = (
            f"captured {self.captured}, delivered {self.delivered}, declared lost {self.declared}"
        )
        if self.missing:
            silent = sum(hole.count for hole in self.missing)
            text += f", missing {silent} ({', '.join(map(str, self.missing))})"
        return text


class Ledger:
    """Adds up the ranges of one origin; they may come in any order and more than once.

    Memory is bounded by the holes, not by the ranges.
    """

    def __init__(self) -> None:
        self._last = 0
        self._holes: list[SequenceRange] = []
        self._counts = {False: 0, True: 0}
        self._repeated = 0

    def add(self, numbers: SequenceRange, *, is_gap: bool = False) -> None:
        """Enter the numbers of one batch, or of one gap."""
        fresh = self._fill(numbers)
        if numbers.last > self._last:
            begin = max(numbers.first, self._last + 1)
            if begin > self._last + 1:
                self._holes.append(SequenceRange(self._last + 1, begin - 1))
            fresh += numbers.last - begin + 1
            self._last = numbers.last
        self._counts[is_gap] += fresh
        self._repeated += numbers.count - fresh

    def balance(self, captured: int | None = None) -> Balance:
        """The account so far.

        Args:
            captured: how many records the kernel counted, if that is known; otherwise the highest
                number that came.
        """
        holes = list(self._holes)
        if captured is not None and captured > self._last:
            holes.append(SequenceRange(self._last + 1, captured))
        return Balance(
            captured=self._last if captured is None else captured,
            delivered=self._counts[False],
            declared=self._counts[True],
            missing=tuple(holes),
            repeated=self._repeated,
        )

    def _fill(self, numbers: SequenceRange) -> int:
        filled = 0
        place = bisect_left(self._holes, numbers.first, key=lambda hole: hole.last)
        while place < len(self._holes) and self._holes[place].first <= numbers.last:
            hole = self._holes.pop(place)
            filled += min(hole.last, numbers.last) - max(hole.first, numbers.first) + 1
            if hole.first < numbers.first:
                self._holes.insert(place, SequenceRange(hole.first, numbers.first - 1))
                place += 1
            if hole.last > numbers.last:
                self._holes.insert(place, SequenceRange(numbers.last + 1, hole.last))
                break
        return filled


def balance(
    delivered: Iterable[SequenceRange],
    declared: Iterable[SequenceRange],
    captured: int | None = None,
) -> Balance:
    """The account of one origin.

    Args:
        delivered: ``Hw-Seq`` of the batches.
        declared: the numbers of the gaps.
        captured: see :meth:`Ledger.balance`.
    """
    ledger = Ledger()
    for numbers in delivered:
        ledger.add(numbers)
    for numbers in declared:
        ledger.add(numbers, is_gap=True)
    return ledger.balance(captured)
