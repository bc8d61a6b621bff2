# SPDX-License-Identifier: Apache-2.0
"""The ring reader on a file with the page layout of the kernel's ring buffer map."""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Iterator

import pytest
from headwater_agent.layout import RING_BUSY, RING_DISCARD
from headwater_agent.ring import RingReader

PAGE = mmap.PAGESIZE


class FakeRing:
    """Producer side of a ring: pages for both positions, then the data.

    A file cannot show the data twice as the kernel's map does, so the writer keeps both copies.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.fd = os.memfd_create("ring")
        os.ftruncate(self.fd, 2 * PAGE + 2 * size)
        self.pages = mmap.mmap(self.fd, 2 * PAGE + 2 * size)
        self.produced = 0

    def consumed(self) -> int:
        (position,) = struct.unpack_from("<Q", self.pages, 0)
        assert isinstance(position, int)
        return position

    def write(self, payload: bytes, flags: int = 0) -> int:
        """Reserve and submit a record; returns its position."""
        assert len(payload) % 8 == 0
        position = self.produced
        record = struct.pack("<II", len(payload) | flags, 0) + payload
        assert self.produced + len(record) - self.consumed() <= self.size, "the ring is full"
        for at, byte in enumerate(record):
            offset = (position + at) & self.size - 1
            self.pages[2 * PAGE + offset] = byte
            self.pages[2 * PAGE + self.size + offset] = byte
        self.produced += len(record)
        struct.pack_into("<Q", self.pages, PAGE, self.produced)
        return position

    def submit(self, position: int, length: int, flags: int = 0) -> None:
        """Clear BUSY in a record's header."""
        for copy in (0, self.size):
            at = 2 * PAGE + copy + (position & self.size - 1)
            struct.pack_into("<I", self.pages, at, length | flags)


class UnpolledReader(RingReader):
    """A reader whose descriptor cannot be polled."""

    def _watch(self, map_fd: int) -> None:
        """A memory file is always ready, says epoll by refusing it."""


@pytest.fixture
def ring() -> Iterator[FakeRing]:
    fake = FakeRing(PAGE)
    yield fake
    os.close(fake.fd)


@pytest.fixture
def reader(ring: FakeRing) -> Iterator[RingReader]:
    opened = UnpolledReader(ring.fd, ring.size)
    yield opened
    opened.close()


def test_records_are_read_up_to_the_snapshot(ring: FakeRing, reader: RingReader) -> None:
    ring.write(b"a" * 72)
    limit = reader.snapshot()
    ring.write(b"b" * 72)
    chunk = reader.read(limit)
    assert bytes(chunk.bytes[8:]) == b"a" * 72
    assert (chunk.start, chunk.end) == (0, limit)
    reader.release(chunk.end)
    assert bytes(reader.read().bytes[8:]) == b"b" * 72
    assert len(reader.read(limit).bytes) == 0


def test_busy_record_holds_up_what_follows(ring: FakeRing, reader: RingReader) -> None:
    first = ring.write(b"a" * 72)
    busy = ring.write(b"b" * 152, RING_BUSY)
    ring.write(b"c" * 72)
    assert reader.read().end == busy
    assert reader.snapshot() > busy
    reader.release(busy)
    assert len(reader.read().bytes) == 0
    ring.submit(busy, 152)
    assert len(reader.read().bytes) == 160 + 80
    assert first == 0


def test_discarded_record_is_part_of_the_chunk(ring: FakeRing, reader: RingReader) -> None:
    position = ring.write(bytes(72), RING_BUSY)
    ring.write(b"c" * 72)
    ring.submit(position, 72, RING_DISCARD)
    assert len(reader.read().bytes) == 160


def test_record_that_wraps_around_is_whole(ring: FakeRing, reader: RingReader) -> None:
    for number in range(400):
        payload = bytes([number & 0xFF]) * (72 if number % 3 else 232)
        ring.write(payload)
        chunk = reader.read()
        assert bytes(chunk.bytes[8:]) == payload
        reader.release(chunk.end)
    assert ring.consumed() == ring.produced > 10 * ring.size


def test_reader_goes_on_where_another_ended(ring: FakeRing, reader: RingReader) -> None:
    ring.write(b"a" * 72)
    reader.release(reader.read().end)
    ring.write(b"b" * 72)
    second = UnpolledReader(ring.fd, ring.size)
    assert bytes(second.read().bytes[8:]) == b"b" * 72
    second.close()


def test_large_backlog_is_read_in_bounded_chunks() -> None:
    ring = FakeRing(1024 * 1024)
    for _ in range(250):
        ring.write(bytes(4152))
    reader = UnpolledReader(ring.fd, ring.size)
    sizes = []
    while reader.position < ring.produced:
        chunk = reader.read()
        sizes.append(len(chunk.bytes))
        reader.release(chunk.end)
    assert max(sizes) <= 256 * 1024
    assert sum(sizes) == 250 * 4160
    reader.close()
    os.close(ring.fd)


@pytest.mark.parametrize("position", [-8, 8])
def test_release_beyond_what_exists_is_refused(reader: RingReader, position: int) -> None:
    with pytest.raises(ValueError, match=r"must be 0 \.\. 0"):
        reader.release(position)


@pytest.mark.parametrize("size", [0, 100, PAGE + 1, 3 * PAGE])
def test_size_that_is_no_ring_is_refused(ring: FakeRing, size: int) -> None:
    with pytest.raises(ValueError, match="power of two"):
        UnpolledReader(ring.fd, size)


def test_poll_returns_at_once_while_something_is_unread(ring: FakeRing, reader: RingReader) -> None:
    ring.write(b"a" * 72)
    assert reader.poll(10.0)
    reader.release(reader.read().end)
    assert not reader.poll(0.01)
