# SPDX-License-Identifier: Apache-2.0
"""The kernel's ring buffer, read in bulk.

Why: a callback per record costs more than everything else the agent does to it. The ring's pages
are mapped; a chunk is a view of them, not a copy.

Who calls it: the ring's thread; next is :meth:`headwater_agent.pipeline.Pipeline.feed`. Promise G2:
`snapshot` is the end that the exact rule of :mod:`headwater_agent.sequence` speaks of, and nothing
beyond the limit given to `read` is looked at.

Pages of the map's descriptor: the consumer's position (writable), the producer's position, then the
data, mapped twice in a row so that a record that wraps around is whole. Positions only grow.

Order of memory: the producer writes a record, then clears BUSY in its header; positions and headers
are aligned words, and numpy reads one with a single load. On x86-64 loads are not reordered with
loads, nor stores with earlier loads, so plain ones are acquire and release. Other machines would
need barriers; the constructor refuses them.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import platform
import select
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from headwater_agent.render import scan

MAX_CHUNK_BYTES: Final = 256 * 1024
"""Read at once: what a chunk becomes, some 3 MB of JSON, bounds the agent's memory."""


@dataclass(frozen=True, slots=True)
class RingChunk:
    """Whole, submitted records; valid until they are released."""

    bytes: NDArray[np.uint8]
    start: int
    """Position of the first byte."""

    @property
    def end(self) -> int:
        """Position behind the last byte."""
        return self.start + len(self.bytes)


class RingReader:
    """Reads one ring; the only consumer that it may have.

    Args:
        map_fd: descriptor of the BPF ring buffer map; the caller's to close, after this.
        size_bytes: the map's max_entries.

    Raises:
        ValueError: the size is no power of two of pages.
        NotImplementedError: the machine is not x86-64.
        OSError: the descriptor cannot be mapped.
    """

    def __init__(self, map_fd: int, size_bytes: int) -> None:
        if platform.machine() != "x86_64":
            raise NotImplementedError(
                f"{platform.machine()}: reading the ring without memory barriers is only right on "
                "x86_64"
            )
        if size_bytes < mmap.PAGESIZE or size_bytes & (size_bytes - 1):
            raise ValueError(f"ring size {size_bytes}: must be a power of two, a page or more")
        self._size = size_bytes
        page = mmap.PAGESIZE
        self._consumer_page = mmap.mmap(map_fd, page, mmap.MAP_SHARED)
        self._producer_pages = mmap.mmap(
            map_fd, page + 2 * size_bytes, mmap.MAP_SHARED, mmap.PROT_READ, offset=page
        )
        self._consumer = np.frombuffer(self._consumer_page, np.uint64, 1)
        self._producer = np.frombuffer(self._producer_pages, np.uint64, 1)
        self._data = np.frombuffer(self._producer_pages, np.uint8, offset=page)
        self._position = int(self._consumer[0])
        self._poll = select.epoll()
        self._bell = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._watch(map_fd)

    @property
    def position(self) -> int:
        """Where the next chunk begins."""
        return self._position

    def snapshot(self) -> int:
        """The producer's position now: what is reserved later lies behind it."""
        return int(self._producer[0])

    def poll(self, timeout_s: float) -> bool:
        """Wait for records, or for `wake`; return whether there may be some.

        Args:
            timeout_s: how long at most, in seconds.
        """
        if self._position < self.snapshot():
            return True
        ready = self._poll.poll(timeout_s)
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._bell)
        return any(descriptor != self._bell for descriptor, _ in ready)

    def wake(self) -> None:
        """End a `poll` that waits, or the next one; from any thread."""
        os.eventfd_write(self._bell, 1)

    def read(self, limit: int | None = None) -> RingChunk:
        """The records that follow, up to the first one that is not submitted yet; may be none.

        Args:
            limit: position to stop at, from :meth:`snapshot`; None: as of now.
        """
        end = self.snapshot() if limit is None else limit
        offset = self._position & (self._size - 1)
        view = self._data[offset : offset + min(end - self._position, self._size)]
        return RingChunk(view[: scan(view, MAX_CHUNK_BYTES)], self._position)

    def release(self, position: int) -> None:
        """Give the ring back up to a position; its chunks must not be used any more.

        Raises:
            ValueError: the position lies behind what was released, or beyond the producer's.
        """
        if not self._position <= position <= self.snapshot():
            raise ValueError(f"position {position}: must be {self._position} .. {self.snapshot()}")
        self._position = position
        self._consumer[0] = position

    def _watch(self, map_fd: int) -> None:
        """Let `poll` wake up when the kernel says that there are records."""
        try:
            self._poll.register(map_fd, select.EPOLLIN)
            self._poll.register(self._bell, select.EPOLLIN)
        except OSError:
            self._poll.close()
            os.close(self._bell)
            raise

    def close(self) -> None:
        """Unmap the ring. Chunks still in use keep it mapped until they are gone."""
        self._poll.close()
        os.close(self._bell)
        del self._consumer, self._producer, self._data
        for pages in (self._consumer_page, self._producer_pages):
            try:
                pages.close()
            except BufferError:
                continue  # a chunk is still in use
