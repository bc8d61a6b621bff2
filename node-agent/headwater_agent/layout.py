# SPDX-License-Identifier: Apache-2.0
"""What crosses from the kernel, as numpy types: the twin of ``bpf/headwater/layout.h``.

Why: one definition for both sides of the ring buffer. The C header is the original; a test compares
every size and offset here with the debug information of the compiled object.

Who calls it: :mod:`headwater_agent.ring` for the ring's cells, :mod:`headwater_agent.decode` and
the compiled renderer for the records, the maps' readers for counters and configurations.
"""

from __future__ import annotations

from enum import IntEnum, IntFlag
from typing import Final

import numpy as np

CELL_BYTES: Final = 80
RING_HEADER_BYTES: Final = 8
COMM_BYTES: Final = 16
XATTR_NAME_BYTES: Final = 104
TEXT_HEADER_BYTES: Final = 40
TEXT_BYTES_MAX: Final = 4152
TEXT_DATA_MAX: Final = TEXT_BYTES_MAX - TEXT_HEADER_BYTES
SLOTS: Final = 1024
BUCKETS: Final = 1 << 16
AUTOMATON_STATES: Final = 4096
"""Of the direct-mapped copy of the scope."""

RING_BUSY: Final = 1 << 31
"""In a ring header's length: reserved, not yet submitted."""
RING_DISCARD: Final = 1 << 30
"""In a ring header's length: given back by the program; skip it."""


class RecordKind(IntEnum):
    """``header.record``."""

    FLOW = 1
    VERTEX = 2
    NAME = 3
    ARGUMENTS = 4
    ADDRESS = 5
    ENVIRONMENT = 6


class Mark(IntFlag):
    """``header.marks``: the edges and version edges that a flow stands for, and who acts."""

    MAIN = 1 << 0
    MEMORY = 1 << 1
    NEW_A = 1 << 2
    NEW_B = 1 << 3
    NEW_C = 1 << 4
    SETUP = 1 << 8
    LEFT = 1 << 9


STANDING: Final = {Mark.SETUP: "hw:setup", Mark.LEFT: "hw:left"}
"""Marks in records of every kind, which say what the acting task is; and their attributes."""


class TextMark(IntFlag):
    """``marks`` of a text record."""

    TRUNCATED = 1 << 0
    UNMOUNTED = 1 << 1
    DELETED = 1 << 2
    PEER = 1 << 3
    FLOW = 1 << 4


class Loss(IntEnum):
    """Why a record that was due was not submitted; index of ``counters.lost``."""

    RING = 0
    STORAGE = 1
    SCRATCH = 2
    CONTENTION = 3
    MAPPINGS = 4
    READ = 5
    RATE = 6


class MessageKnown(IntFlag):
    """``known`` of a message's vertex."""

    TYPE = 1 << 0
    QUEUE = 1 << 1


class SlotFlag(IntFlag):
    """``slot_config.flags``."""

    ACTIVE = 1 << 0
    COMPRESS_NODES = 1 << 1
    COMPRESS_EDGES = 1 << 2
    DUPLICATE = 1 << 3
    ARGUMENTS = 1 << 4
    MARK_SETUP = 1 << 5
    ENVIRONMENT = 1 << 6
    RULES = 1 << 7


RING_HEADER: Final = np.dtype([("length", "<u4"), ("page_offset", "<u4")])

HEADER: Final = np.dtype(
    [
        ("record", "u1"),
        ("relation", "u1"),
        ("slot", "<u2"),
        ("cpu", "<u2"),
        ("marks", "<u2"),
        ("sequence", "<u4"),
        ("epoch", "<u4"),
        ("time_ns", "<u8"),
    ]
)

FLOW: Final = np.dtype(
    [
        ("header", HEADER),
        ("a", "<u8"),
        ("b", "<u8"),
        ("c", "<u8"),
        ("a_version", "<u4"),
        ("b_version", "<u4"),
        ("c_version", "<u4"),
        ("flags", "<u4"),
        ("offset", "<i8"),
    ]
)

TASK: Final = np.dtype(
    [
        ("pid", "<u4"),
        ("tgid", "<u4"),
        ("vpid", "<u4"),
        ("utsns", "<u4"),
        ("ipcns", "<u4"),
        ("mntns", "<u4"),
        ("pidns", "<u4"),
        ("netns", "<u4"),
        ("cgroupns", "<u4"),
        ("pad", "<u4"),
        ("start_time_ns", "<u8"),
        ("cgroup", "<u8"),
        ("comm", f"V{COMM_BYTES}"),
    ]
)

MEMORY: Final = np.dtype(
    [
        ("tgid", "<u4"),
        ("uid", "<u4"),
        ("gid", "<u4"),
        ("pad", "<u4"),
        ("cgroup", "<u8"),
        ("comm", f"V{COMM_BYTES}"),
    ]
)

INODE: Final = np.dtype(
    [
        ("mode", "<u4"),
        ("uid", "<u4"),
        ("gid", "<u4"),
        ("device", "<u4"),
        ("ino", "<u8"),
        ("generation", "<u4"),
        ("pad", "<u4"),
        ("uuid", "V16"),
    ]
)

SOCKET: Final = np.dtype(
    [
        ("uid", "<u4"),
        ("gid", "<u4"),
        ("ino", "<u8"),
        ("family", "<u2"),
        ("type", "<u2"),
        ("protocol", "<u2"),
        ("pad", "<u2"),
    ]
)

IATTR: Final = np.dtype(
    [("valid", "<u4"), ("mode", "<u4"), ("uid", "<u4"), ("gid", "<u4"), ("size", "<i8")]
)

XATTR: Final = np.dtype([("size", "<u4"), ("truncated", "<u4"), ("name", f"V{XATTR_NAME_BYTES}")])

MESSAGE: Final = np.dtype([("type", "<i8"), ("size", "<u8"), ("queue", "<i4"), ("known", "<u4")])

SEGMENT: Final = np.dtype(
    [
        ("size", "<u8"),
        ("uid", "<u4"),
        ("gid", "<u4"),
        ("mode", "<u4"),
        ("key", "<u4"),
        ("number", "<i4"),
        ("complete", "<u4"),
    ]
)

VERTEX_HEADER_BYTES: Final = 40
VERTEX_UNION_BYTES: Final = 112

VERTEX: Final = np.dtype(
    {
        "names": [
            "header",
            "object",
            "version",
            "type",
            "bare",
            "owner",
            "task",
            "memory",
            "inode",
            "socket",
            "iattr",
            "xattr",
            "message",
            "segment",
        ],
        "formats": [
            *(HEADER, "<u8", "<u4", "u1", "u1", "<u2"),
            *(TASK, MEMORY, INODE, SOCKET, IATTR, XATTR, MESSAGE, SEGMENT),
        ],
        "offsets": [0, 24, 32, 36, 37, 38, *[VERTEX_HEADER_BYTES] * 8],
        "itemsize": VERTEX_HEADER_BYTES + VERTEX_UNION_BYTES,
    }
)
"""The attributes are a union: which one holds is said by ``type``."""

TEXT_HEADER: Final = np.dtype(
    [
        ("header", HEADER),
        ("object", "<u8"),
        ("version", "<u4"),
        ("length", "<u2"),
        ("marks", "<u2"),
    ]
)
"""A text record without its data, which follows at byte ``TEXT_HEADER_BYTES``."""

INTERNET_ADDRESS_BYTES: Final = 28

FLOW_ENDS: Final = np.dtype(
    [
        ("own_sequence", "<u4"),
        ("peer_sequence", "<u4"),
        ("protocol", "<u2"),
        ("length", "<u2"),
        ("own", f"V{INTERNET_ADDRESS_BYTES}"),
    ]
)
"""What an address record marked ``FLOW`` begins with."""

COUNTERS: Final = np.dtype([("captured", "<u8"), ("lost", "<u8", (len(Loss),))])

SLOT_CONFIG: Final = np.dtype(
    [
        ("relations_off", "<u8", (2,)),
        ("vertices_off", "<u4"),
        ("epoch", "<u4"),
        ("flags", "<u4"),
        ("record_ns", "<u4"),
        ("rules", "<u4"),
        ("start", "<u2"),
        ("members", "u1"),
        ("selective", "u1"),
    ]
)

SLOT_POLICY: Final = np.dtype([("active", "<u4"), ("pad", "<u4"), ("configs", SLOT_CONFIG, (2,))])

POLICIES: Final = np.dtype([("slots", SLOT_POLICY, (SLOTS,))])

SCOPE_BUCKETS: Final = np.dtype([("words", "<u8", (BUCKETS,))])

AUTOMATON: Final = np.dtype(
    [
        ("next", "<u2", (AUTOMATON_STATES, 256)),
        ("accepts", "<u2", (AUTOMATON_STATES,)),
    ]
)

STRAYS: Final = np.dtype([("count", "<u8")])

for _type, _bytes in (
    (RING_HEADER, RING_HEADER_BYTES),
    (HEADER, 24),
    (FLOW, 72),
    (TASK, 72),
    (MEMORY, 40),
    (INODE, 48),
    (SOCKET, 24),
    (IATTR, 24),
    (XATTR, 112),
    (MESSAGE, 24),
    (SEGMENT, 32),
    (VERTEX, 152),
    (TEXT_HEADER, TEXT_HEADER_BYTES),
    (COUNTERS, 64),
    (SLOT_CONFIG, 40),
    (SLOT_POLICY, 88),
    (POLICIES, 88 * SLOTS),
    (SCOPE_BUCKETS, 8 * BUCKETS),
    (AUTOMATON, 514 * AUTOMATON_STATES),
    (STRAYS, 8),
):
    if _type.itemsize != _bytes:
        raise AssertionError(f"layout.h says {_bytes} bytes, numpy {_type.itemsize}: {_type}")


def text_payload_bytes(length: int) -> int:
    """Payload size of the ring record that the kernel makes for ``length`` bytes of text.

    :raises ValueError: if no text record is that long.
    """
    for cells in (3, 7, 52):
        payload = CELL_BYTES * cells - RING_HEADER_BYTES
        if length <= payload - TEXT_HEADER_BYTES:
            return payload
    raise ValueError(f"length {length}: a text record holds at most {TEXT_DATA_MAX} bytes")
