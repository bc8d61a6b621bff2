# SPDX-License-Identifier: Apache-2.0
"""Ring bytes to plain records, one at a time: readable, exact and slow.

Why: the compiled walker decodes in place and leaves nothing to look at. Whoever wants to see what
the kernel said (the reference renderer, tests, a person with a recorded ring) reads it here.

Who calls it: :mod:`headwater_agent.reference` and the tests. Nothing on the agent's own way.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TypedDict, TypeVar

import numpy as np
from headwater_prov.vocabulary import Relation, VertexType

from headwater_agent.layout import (
    FLOW,
    HEADER,
    RING_BUSY,
    RING_DISCARD,
    RING_HEADER_BYTES,
    STANDING,
    TEXT_HEADER,
    TEXT_HEADER_BYTES,
    VERTEX,
    Mark,
    RecordKind,
    TextMark,
)

_RELATIONS = {int(relation): relation for relation in Relation}
_TYPES = {int(kind): kind for kind in VertexType}
_Kind = TypeVar("_Kind")
_STANDING = Mark(sum(STANDING))
_BODIES = {
    VertexType.TASK: "task",
    VertexType.PROCESS_MEMORY: "memory",
    VertexType.SOCKET: "socket",
    VertexType.IATTR: "iattr",
    VertexType.XATTR: "xattr",
    VertexType.MSG: "message",
    VertexType.SHM: "segment",
    VertexType.INODE_UNKNOWN: "inode",
    VertexType.LINK: "inode",
    VertexType.FILE: "inode",
    VertexType.DIRECTORY: "inode",
    VertexType.CHAR: "inode",
    VertexType.BLOCK: "inode",
    VertexType.PIPE: "inode",
}


@dataclass(frozen=True, slots=True)
class Record:
    """What all records have."""

    slot: int
    cpu: int
    sequence: int
    """Lower half of the (CPU, slot) sequence."""

    epoch: int
    """Token of (slot, policy)."""

    time_ns: int
    """CLOCK_BOOTTIME."""

    standing: Mark
    """What the acting task is: the marks in `layout.STANDING`."""


@dataclass(frozen=True, slots=True)
class FlowRecord(Record):
    """One hook's flow: up to two edges and three version edges."""

    relation: Relation
    marks: Mark
    a: int
    a_version: int
    b: int
    b_version: int
    c: int
    c_version: int
    flags: int
    offset: int


@dataclass(frozen=True, slots=True)
class VertexRecord(Record):
    """What an object is."""

    object: int
    version: int
    type: VertexType
    bare: bool
    owner: int
    body: dict[str, int | bytes]
    """The fields of the union's member for this type, by name."""


@dataclass(frozen=True, slots=True)
class TextRecord(Record):
    """A name, the arguments or the environment of a program, or an address."""

    kind: RecordKind
    object: int
    version: int
    marks: TextMark
    data: bytes


AnyRecord = FlowRecord | VertexRecord | TextRecord


def decode(ring: bytes) -> Iterator[AnyRecord]:
    """The records in whole, submitted ring records; discarded ones are left out.

    Raises:
        ValueError: a record is busy, cut off or of no known kind.
    """
    at = 0
    while at < len(ring):
        if len(ring) - at < RING_HEADER_BYTES:
            raise ValueError(f"ring record at byte {at}: cut off in its head")
        (length,) = struct.unpack_from("<I", ring, at)
        begin = at + RING_HEADER_BYTES
        size = length & ~RING_DISCARD
        if length & RING_BUSY or begin + size > len(ring):
            raise ValueError(f"ring record at byte {at}: length {length:#x}")
        if not length & RING_DISCARD:
            yield _decode_payload(ring[begin : begin + size])
        at = begin + (size + 7 & ~7)


class _Common(TypedDict):
    slot: int
    cpu: int
    sequence: int
    epoch: int
    time_ns: int
    standing: Mark


def _decode_payload(payload: bytes) -> AnyRecord:
    header = np.frombuffer(payload, HEADER, 1)[0]
    marks = Mark(int(header["marks"]))
    common = _Common(
        slot=int(header["slot"]),
        cpu=int(header["cpu"]),
        sequence=int(header["sequence"]),
        epoch=int(header["epoch"]),
        time_ns=int(header["time_ns"]),
        standing=marks & _STANDING,
    )
    match header["record"]:
        case RecordKind.FLOW:
            flow = np.frombuffer(payload, FLOW, 1)[0]
            fields = {name: int(flow[name]) for name in FLOW.names or () if name != "header"}
            relation = _known(_RELATIONS, int(header["relation"]), "relation")
            return FlowRecord(**common, relation=relation, marks=marks & ~_STANDING, **fields)
        case RecordKind.VERTEX:
            vertex = np.frombuffer(payload, VERTEX, 1)[0]
            kind = _known(_TYPES, int(vertex["type"]), "vertex type")
            body = vertex[_BODIES[kind]] if kind in _BODIES else np.void(b"")
            return VertexRecord(
                **common,
                object=int(vertex["object"]),
                version=int(vertex["version"]),
                type=kind,
                bare=bool(vertex["bare"]),
                owner=int(vertex["owner"]),
                body={name: _plain(body[name]) for name in body.dtype.names or ()},
            )
        case (
            RecordKind.NAME | RecordKind.ARGUMENTS | RecordKind.ADDRESS | RecordKind.ENVIRONMENT
        ) as kind:
            text = np.frombuffer(payload, TEXT_HEADER, 1)[0]
            end = TEXT_HEADER_BYTES + int(text["length"])
            return TextRecord(
                **common,
                kind=RecordKind(kind),
                object=int(text["object"]),
                version=int(text["version"]),
                marks=TextMark(int(text["marks"])),
                data=payload[TEXT_HEADER_BYTES:end],
            )
    raise ValueError(f"record of kind {header['record']}")


def _known(kinds: Mapping[int, _Kind], code: int, what: str) -> _Kind:
    if code not in kinds:
        raise ValueError(f"record of {what} {code}")
    return kinds[code]


def _plain(value: np.generic) -> int | bytes:
    return value.tobytes() if isinstance(value, np.void) else int(value)
