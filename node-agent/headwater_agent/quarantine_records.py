# SPDX-License-Identifier: Apache-2.0
"""What is kept of pods of which nobody knows yet whose they are.

Why: a pod's cgroup can be there before the API server has told the agent of the pod. What happens
in it meanwhile is captured under `POLICY`, in a slot of its own, and kept as the ring had it,
within bounds; once the pod is known it goes the way of all records to the pod's tenant, or is
dropped (decision 12). Nothing is rendered before: ids are made with the tenant's key.

`quarantine.Quarantine` decides when; `pipeline.Pipeline` keeps, and asks here what to release.
Pure. Promises: G1, and G2: what a policy does not want is counted.
"""

import struct
from typing import Final

import numpy as np
from headwater_prov.policy import EVERYTHING, CompiledPolicy
from headwater_prov.vocabulary import Relation, VertexType

from headwater_agent.layout import FLOW, HEADER, RING_HEADER_BYTES, VERTEX, Mark, RecordKind

POLICY: Final = EVERYTHING
"""Under which a pod in quarantine is captured: what its own policy will not want is left out when
it is released."""

_HEADER: Final = struct.Struct("<IIBBHHH")
"""Of the ring's record and of ours, as far as the marks."""

_OBJECTS: Final = struct.Struct("<QQ")
"""The first two of a flow; of any other record the first is its object."""


def _place(layout: np.dtype[np.void], field: str) -> int:
    """Where a field is, from the ring's header on."""
    assert layout.fields is not None
    return RING_HEADER_BYTES + layout.fields[field][1]


_TEXTS: Final = {
    RecordKind.NAME: (Relation.NAMED, VertexType.PATH),
    RecordKind.ARGUMENTS: (Relation.ARG, VertexType.ARGV),
    RecordKind.ENVIRONMENT: (Relation.ENV, VertexType.ENVP),
    RecordKind.ADDRESS: (Relation.ADDRESSED, VertexType.ADDRESS),
}
"""What a text's edge is, and its vertex; from it to the record's object."""

_MARKS_AT: Final = _place(HEADER, "marks")
_OBJECTS_AT: Final = _place(FLOW, "a")
_TYPE_AT: Final = _place(VERTEX, "type")


def wanted(ring: bytes, policy: CompiledPolicy) -> tuple[bytes, int]:
    """Return the records that a policy would have made, and how many it would not have.

    Args:
        ring: records made under `POLICY` in an epoch of their own, so that every object is
            declared before it is mentioned.
        policy: the pod's.
    """
    relations, vertices = policy.relations_off, policy.vertices_off
    if not relations - POLICY.relations_off and not vertices - POLICY.vertices_off:
        return ring, 0
    types: dict[int, int] = {}
    found, at, refused = bytearray(), 0, 0
    while at < len(ring):
        length, _, record, relation, _, _, marks = _HEADER.unpack_from(ring, at)
        end = at + (length + RING_HEADER_BYTES + 7) // 8 * 8
        a, b = _OBJECTS.unpack_from(ring, at + _OBJECTS_AT)
        if record == RecordKind.VERTEX:
            types[a] = ring[at + _TYPE_AT]
            is_off = types[a] in vertices
        elif record == RecordKind.FLOW:
            is_off = relation in relations or types.get(a) in vertices or types.get(b) in vertices
        else:
            edge, kind = _TEXTS[RecordKind(record)]
            is_off = edge in relations or kind in vertices or types.get(a) in vertices
        if is_off:
            refused += 1
        else:
            begin = len(found)
            found += ring[at:end]
            if record == RecordKind.FLOW and marks & Mark.MEMORY and _memory_off(relation, policy):
                marks &= ~(Mark.MEMORY | Mark.NEW_C)
                found[begin + _MARKS_AT : begin + _MARKS_AT + 2] = marks.to_bytes(2, "little")
        at = end
    return bytes(found), refused


def _memory_off(relation: int, policy: CompiledPolicy) -> bool:
    """Whether what goes on to the process's memory, or comes from it, is not recorded."""
    if VertexType.PROCESS_MEMORY in policy.vertices_off:
        return True
    is_use = Relation(relation).section == "used"
    edge = Relation.MEMORY_WRITE if is_use else Relation.MEMORY_READ
    return edge in policy.relations_off
