# SPDX-License-Identifier: Apache-2.0
"""The ring reader on a real ring buffer map, filled by programs of a few instructions.

The programs are raw tracepoint programs that are only ever run by BPF_PROG_TEST_RUN, once for each
record, so the test decides what is in the ring and when. Nothing is attached.
"""

from __future__ import annotations

import ctypes
import os
import struct
import threading
import time
from collections.abc import Iterator
from typing import Final

import pytest
from headwater_agent.ring import RingReader

SIZE: Final = 64 * 1024

_SYS_BPF: Final = 321
_MAP_CREATE, _PROG_LOAD, _PROG_TEST_RUN = 0, 5, 10
_MAP_TYPE_RINGBUF, _PROG_TYPE_RAW_TRACEPOINT = 27, 17
_RESERVE, _SUBMIT, _DISCARD = 131, 132, 133


def _bpf(command: int, attributes: bytes) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    buffer = ctypes.create_string_buffer(attributes.ljust(128, b"\0"), 128)
    result = libc.syscall(
        ctypes.c_long(_SYS_BPF), ctypes.c_int(command), buffer, ctypes.c_uint(128)
    )
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return int(result)


def _instruction(
    code: int, target: int = 0, source: int = 0, offset: int = 0, value: int = 0
) -> bytes:
    return struct.pack("<BBhi", code, source << 4 | target, offset, value)


def _producer(ring: int, payload: int, end: int) -> int:
    """Load a program that reserves `payload` bytes, writes its own sign and ends the record."""
    text = b"".join(
        (
            _instruction(0x18, 1, 1, 0, ring),  # r1 = map
            _instruction(0),
            _instruction(0xB7, 2, value=payload),  # r2 = payload
            _instruction(0xB7, 3),  # r3 = 0
            _instruction(0x85, value=_RESERVE),
            _instruction(0x55, 0, offset=2),  # if r0 != 0 skip the return
            _instruction(0xB7, 0, value=1),
            _instruction(0x95),
            _instruction(0x7A, 0, offset=0, value=payload),  # *(u64 *)r0 = payload
            _instruction(0x7A, 0, offset=payload - 8, value=-payload),
            _instruction(0xBF, 1, 0),  # r1 = r0
            _instruction(0xB7, 2),  # r2 = 0
            _instruction(0x85, value=end),
            _instruction(0xB7, 0),
            _instruction(0x95),
        )
    )
    code = ctypes.create_string_buffer(text, len(text))
    licence = ctypes.create_string_buffer(b"GPL")
    attributes = struct.pack(
        "<IIQQ",
        _PROG_TYPE_RAW_TRACEPOINT,
        len(text) // 8,
        ctypes.addressof(code),
        ctypes.addressof(licence),
    )
    return _bpf(_PROG_LOAD, attributes)


class KernelRing:
    """A ring buffer map, and programs that write 72 or 232 bytes or give 72 back."""

    def __init__(self) -> None:
        self.fd = _bpf(_MAP_CREATE, struct.pack("<IIII", _MAP_TYPE_RINGBUF, 0, 0, SIZE))
        self.programs = {
            72: _producer(self.fd, 72, _SUBMIT),
            232: _producer(self.fd, 232, _SUBMIT),
            0: _producer(self.fd, 72, _DISCARD),
        }

    def produce(self, kind: int) -> None:
        """Run a program once."""
        _bpf(_PROG_TEST_RUN, struct.pack("<I", self.programs[kind]))

    def close(self) -> None:
        for fd in (self.fd, *self.programs.values()):
            os.close(fd)


@pytest.fixture
def ring() -> Iterator[KernelRing]:
    try:
        opened = KernelRing()
    except PermissionError as error:
        pytest.skip(f"bpf(2) is refused here ({error}); the kernel suite reads rings in the guest")
    yield opened
    opened.close()


@pytest.fixture
def reader(ring: KernelRing) -> Iterator[RingReader]:
    opened = RingReader(ring.fd, SIZE)
    yield opened
    opened.close()


def signs(data: bytes) -> list[int]:
    """Payload sizes of the records, checked at both ends of each; 0 for a discarded one."""
    found, at = [], 0
    while at < len(data):
        (length,) = struct.unpack_from("<I", data, at)
        size = length & ~(1 << 30)
        first, last = (
            struct.unpack_from("<q", data, at + 8),
            struct.unpack_from("<q", data, at + size),
        )
        assert (first[0], last[0]) == (size, -size)
        found.append(0 if length & 1 << 30 else size)
        at += 8 + size
    return found


def test_records_come_whole_and_in_order_over_many_turns_of_the_ring(
    ring: KernelRing, reader: RingReader
) -> None:
    kinds = [72, 232, 0, 72, 72, 232, 0]
    sent: list[int] = []
    seen: list[int] = []
    for turn in range(400):
        for kind in kinds[: 1 + turn % 7]:
            ring.produce(kind)
            sent.append(kind)
        chunk = reader.read()
        seen += signs(bytes(chunk.bytes))
        reader.release(chunk.end)
    assert seen == sent
    assert reader.position > 3 * SIZE


def test_full_ring_loses_what_does_not_fit_and_goes_on(
    ring: KernelRing, reader: RingReader
) -> None:
    for _ in range(SIZE // 80 + 100):
        ring.produce(72)
    limit = reader.snapshot()
    chunk = reader.read(limit)
    assert len(signs(bytes(chunk.bytes))) == SIZE // 80 or SIZE - limit < 160
    assert chunk.end == limit
    reader.release(limit)
    ring.produce(232)
    assert signs(bytes(reader.read().bytes)) == [232]


def test_poll_wakes_up_for_a_record_and_not_without(ring: KernelRing, reader: RingReader) -> None:
    assert not reader.poll(0.01)
    ring.produce(72)
    assert reader.poll(5.0)
    reader.release(reader.read().end)
    assert not reader.poll(0.01)


def test_second_reader_goes_on_where_the_first_stopped(ring: KernelRing) -> None:
    first = RingReader(ring.fd, SIZE)
    ring.produce(72)
    ring.produce(232)
    chunk = first.read()
    first.release(chunk.start + 80)
    del chunk
    first.close()
    second = RingReader(ring.fd, SIZE)
    assert signs(bytes(second.read().bytes)) == [232]
    second.close()


def test_reader_that_waits_is_woken_once_and_reads_on(ring: KernelRing, reader: RingReader) -> None:
    began = time.monotonic()
    timer = threading.Timer(0.05, reader.wake)
    timer.start()
    assert not reader.poll(20.0)
    timer.join()
    assert time.monotonic() - began < 10.0
    assert not reader.poll(0.01)
    reader.wake()
    ring.produce(72)
    assert reader.poll(20.0)
