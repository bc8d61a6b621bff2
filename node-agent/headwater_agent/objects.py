# SPDX-License-Identifier: Apache-2.0
"""Which objects were forgotten, so that none is ever taken for a new one.

Why: the renderer remembers a bounded number of objects. One that it had to forget may come back,
and so may an inode that was freed and is read from the disk again. If its versions began at 0
again, one vertex id would have two meanings. One bit per forgotten serial prevents that: serials
are dense, so a page of 4,096 of them is 512 bytes.

Who calls it: :class:`headwater_agent.tenant.TenantPipeline`, for the compiled object table.
Promise G4 (versions of an object only ever go up).
"""

from __future__ import annotations

from typing import Final

_PAGE_BITS: Final = 12
_PAGE_BYTES: Final = 1 << _PAGE_BITS - 3
_COUNTER_BITS: Final = 48


class ForgottenSerials:
    """A set of object serials in bounded memory.

    When there are too many pages, the oldest page of a CPU is given up and every serial of that CPU
    up to its end counts as forgotten: such an object begins above version 0, which harms nothing.
    """

    def __init__(self, max_pages: int = 4096) -> None:
        """Start empty.

        Args:
            max_pages: pages of 4,096 serials, 512 bytes each; 4,096 of them are 2 MiB.
        """
        self._max_pages = max_pages
        self._pages: dict[int, bytearray] = {}
        self._below: dict[int, int] = {}

    def add(self, serial: int) -> None:
        """Remember that an object was forgotten."""
        page = self._pages.get(serial >> _PAGE_BITS)
        if page is None:
            if len(self._pages) >= self._max_pages:
                self._give_up_page()
            page = self._pages[serial >> _PAGE_BITS] = bytearray(_PAGE_BYTES)
        bit = serial & (1 << _PAGE_BITS) - 1
        page[bit >> 3] |= 1 << (bit & 7)

    def __contains__(self, serial: int) -> bool:
        """Whether the object may have been seen before."""
        if serial < self._below.get(serial >> _COUNTER_BITS, 0):
            return True
        page = self._pages.get(serial >> _PAGE_BITS)
        bit = serial & (1 << _PAGE_BITS) - 1
        return page is not None and bool(page[bit >> 3] & 1 << (bit & 7))

    def _give_up_page(self) -> None:
        oldest = min(self._pages)
        del self._pages[oldest]
        end = (oldest + 1) << _PAGE_BITS
        cpu = oldest >> _COUNTER_BITS - _PAGE_BITS
        self._below[cpu] = max(end, self._below.get(cpu, 0))
