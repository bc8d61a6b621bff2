# SPDX-License-Identifier: Apache-2.0
"""Which places of a chain are taken, and by what, in eight bytes each.

Why: a stream holds millions of messages, a chain's positions are its node's to choose, and a
message may come at any time. Called by `chain.ChainVerifier`.
"""

from array import array
from collections.abc import Iterator

from headwater_auditor.verification.findings import PositionRange

_PAGE = 4096


class Places:
    """Positions from 1, each with the beginning of a digest."""

    def __init__(self) -> None:
        self._pages: dict[int, array[int]] = {}
        self._taken: dict[int, int] = {}
        self.low = 0
        """Lowest position that is taken; 0: none."""

        self.high = 0

    def mark(self, position: int) -> int:
        """Return what was put at `position`; 0: nothing."""
        page = self._pages.get(position // _PAGE)
        return page[position % _PAGE] if page is not None else 0

    def put(self, position: int, mark: int) -> None:
        """Take a place that is free.

        Args:
            position: from 1.
            mark: see `mark_of`.
        """
        number = position // _PAGE
        page = self._pages.get(number)
        if page is None:
            page = self._pages[number] = array("Q", bytes(8 * _PAGE))
            self._taken[number] = 0
        page[position % _PAGE] = mark
        self._taken[number] += 1
        self.low = min(self.low or position, position)
        self.high = max(self.high, position)

    def holes(self) -> Iterator[PositionRange]:
        """Yield the free places between the lowest and the highest that is taken, rising."""
        expected = self.low
        for number in sorted(self._pages):
            begin = number * _PAGE
            if self._taken[number] == _PAGE:
                if expected < begin:
                    yield PositionRange(expected, begin - 1)
                expected = begin + _PAGE
                continue
            for offset, mark in enumerate(self._pages[number]):
                if mark:
                    if expected < begin + offset:
                        yield PositionRange(expected, begin + offset - 1)
                    expected = begin + offset + 1


def mark_of(digest: bytes) -> int:
    """Return a number from 1 that stands for a digest; two messages by chance have the same one
    in one of 2^64 cases."""
    return int.from_bytes(digest[:8], "big") or 1
