# SPDX-License-Identifier: Apache-2.0
"""The constant text of documents, and the door to the compiled renderer.

Why: what a relation or a vertex type looks like in PROV-JSON follows from
:mod:`headwater_prov.vocabulary` alone; it is put together here once, and the compiled module only
copies it.

Who calls it: :mod:`headwater_agent.pipeline` and :mod:`headwater_agent.ring`.
"""

from __future__ import annotations

from functools import cache
from typing import Final

import orjson
from headwater_prov.vocabulary import PREFIXES, VERSION_STEPS, Relation, VertexType

try:
    from headwater_agent._render import SECTION_NAMES, Renderer, Vocabulary, Walker, scan
except ImportError as error:
    raise ImportError(
        "headwater_agent._render, the compiled part of the agent, is missing or was built for "
        'another Python; build it with "pip install --editable ." in the checkout'
    ) from error

__all__ = [
    "DOCUMENT_PREFIX",
    "SECTION_NAMES",
    "TYPE_VALUE",
    "Renderer",
    "Walker",
    "scan",
    "vocabulary",
]

DOCUMENT_PREFIX: Final = orjson.dumps({"prefix": dict(PREFIXES)})[:-1]
"""How every document begins; its sections follow."""

TYPE_VALUE: Final = '{{"$":"{}","type":"xsd:QName"}}'
"""The value of ``prov:type``, to be formatted with a qualified name."""

_BODIES: Final = {
    VertexType.TASK: 1,
    VertexType.PROCESS_MEMORY: 2,
    VertexType.SOCKET: 4,
    VertexType.IATTR: 5,
    VertexType.XATTR: 6,
    VertexType.MSG: 7,
    VertexType.SHM: 8,
} | dict.fromkeys(
    (
        VertexType.INODE_UNKNOWN,
        VertexType.LINK,
        VertexType.FILE,
        VertexType.DIRECTORY,
        VertexType.CHAR,
        VertexType.BLOCK,
        VertexType.PIPE,
    ),
    3,
)


def relation_words(relation: Relation) -> tuple[int, bool, bytes, bytes, bytes, bytes]:
    """What of a relation's text does not vary, and where it goes.

    Returns:
        Index of its section; whether it ends an object's life; the text between its key and its
        sender's id, up to the receiver's id, up to the time, and behind the time.
    """
    timed = relation.prov_class.has_time
    head = f'":{{"{relation.sender_key}":"hw:'
    middle = f'","{relation.receiver_key}":"hw:'
    tail = f'","prov:type":{TYPE_VALUE.format(relation.qualified_name)},'
    tail += '"prov:time":"' if timed else '"cf:date":{"$":"'
    end = '"' if timed else '","type":"xsd:dateTime"}'
    final = relation in VERSION_STEPS - {Relation.VERSION_ENTITY, Relation.VERSION_ACTIVITY}
    texts = (text.encode() for text in (head, middle, tail, end))
    return (SECTION_NAMES.index(relation.section), final, *texts)  # type: ignore[return-value]


def type_words(kind: VertexType) -> tuple[int, int, bytes]:
    """Section of a vertex type, which attributes its records hold, and the text behind its id."""
    text = f'":{{"prov:type":{TYPE_VALUE.format(kind.qualified_name)},"cf:version":'
    return SECTION_NAMES.index(kind.prov.value), _BODIES.get(kind, 0), text.encode()


@cache
def vocabulary() -> Vocabulary:
    """The texts of all relations and types, in the form that the compiled module reads."""
    named = (
        Relation.NAMED,
        Relation.ARG,
        Relation.ENV,
        Relation.ADDRESSED,
        Relation.RAN_ON,
        Relation.MEMORY_READ,
        Relation.MEMORY_WRITE,
        Relation.VERSION_ENTITY,
        Relation.VERSION_ACTIVITY,
    )
    types = (
        VertexType.TASK,
        VertexType.INODE_UNKNOWN,
        VertexType.PROCESS_MEMORY,
        VertexType.SOCKET,
    )
    return Vocabulary(
        {int(relation): relation_words(relation) for relation in Relation},
        {int(kind): type_words(kind) for kind in VertexType},
        {member.camflow: int(member) for member in (*named, *types)},
    )
