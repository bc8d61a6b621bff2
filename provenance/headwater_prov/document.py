# SPDX-License-Identifier: Apache-2.0
"""A provenance document in memory, and how the documents of many batches become one.

Why: a batch is cut by size and time, not by meaning; whoever answers a question needs the whole.
Times are integers, relations are members of the vocabulary, and nothing is left of JSON.

Who calls it: :mod:`headwater_prov.reading` makes documents, auditors merge them, the writers, the
lineage and the validation read them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Final

from headwater_prov.checkpoint import Checkpoint
from headwater_prov.identifiers import parse_relation_key, parse_vertex_name
from headwater_prov.vocabulary import PREFIXES, GapReason, Relation, VertexType


@dataclass(frozen=True, slots=True)
class Literal:
    """A value that JSON has no word for, e.g. a time or a qualified name."""

    text: str
    type: str = ""
    """Qualified name of the data type, e.g. ``xsd:dateTime``; empty if none was given."""
    language: str = ""


Scalar = str | bool | int | float | Literal
Value = Scalar | tuple[Scalar, ...]
Attributes = Mapping[str, Value]

NO_ATTRIBUTES: Final[Attributes] = MappingProxyType({})


def _no_attributes() -> Attributes:
    return NO_ATTRIBUTES


class DocumentError(ValueError):
    """A document is broken: says where and what, and what should be there instead.

    Attributes:
        source: the file, or what the caller named the document.
        problem: what is wrong, and the remedy.
        section: the section of the document, e.g. ``used``; empty for the document itself.
        key: the name of the record within the section; empty for the section itself.
    """

    def __init__(self, source: str, problem: str, *, section: str = "", key: str = "") -> None:
        place = source
        if section:
            place += f": {section}"
        if key:
            place += f' "{key}"'
        super().__init__(f"{place}: {problem}")
        self.source = source
        self.problem = problem
        self.section = section
        self.key = key


@dataclass(frozen=True, slots=True)
class Vertex:
    """One version of one object."""

    name: str
    """``hw:<object>.<version>``"""
    type: VertexType
    attributes: Attributes = field(default_factory=_no_attributes)
    """All but ``prov:type`` and ``cf:version``, which the other fields hold."""

    @property
    def object(self) -> str:
        """The id of the object of which this is a version."""
        return parse_vertex_name(self.name)[0]

    @property
    def version(self) -> int:
        """Which version of the object this is, from 0."""
        return parse_vertex_name(self.name)[1]


@dataclass(frozen=True, slots=True)
class Edge:
    """Information flowed from one vertex to another."""

    key: str
    """``hw:<origin>.<sequence>.<index>``, unique in a tenant's stream."""
    relation: Relation
    sender: str
    """Name of the vertex that the information came from."""
    receiver: str
    time_ns: int | None = None
    """When, in nanoseconds since 1970-01-01T00:00:00Z."""
    attributes: Attributes = field(default_factory=_no_attributes)
    """All but ``prov:type``, the two vertices and the time."""


@dataclass(frozen=True, slots=True)
class Gap:
    """A counted hole in a tenant's sequence: these records were captured and are lost."""

    key: str
    first: int
    """The first number that is missing."""
    last: int
    reason: GapReason
    begin_ns: int | None = None
    """No record of the gap is older, in nanoseconds since 1970-01-01T00:00:00Z."""
    end_ns: int | None = None
    attributes: Attributes = field(default_factory=_no_attributes)

    @property
    def count(self) -> int:
        """How many records are lost."""
        return self.last - self.first + 1


@dataclass(frozen=True, slots=True)
class Document:
    """Vertices, edges and gaps; edges are in the order in which they were captured."""

    vertices: Mapping[str, Vertex] = field(default_factory=dict)
    """By name, in the order of their first declaration."""
    edges: tuple[Edge, ...] = ()
    gaps: tuple[Gap, ...] = ()
    prefixes: Mapping[str, str] = field(default_factory=lambda: PREFIXES)
    checkpoints: tuple[Checkpoint, ...] = ()
    """Of one message of that class. They tell of messages, not of what happened on the node, so a
    merged document has none and no writer shows them."""

    @property
    def count(self) -> int:
        """How many PROV elements and relations the document holds (``Hw-Count``)."""
        return len(self.vertices) + len(self.edges) + len(self.gaps) + len(self.checkpoints)


def merge(documents: Iterable[Document], *, source: str = "documents") -> Document:
    """One document that says what all of them say.

    A vertex that is declared again keeps what it had and takes what is new or changed. A relation
    or gap that comes twice, as after a redelivery, counts once. Edges are ordered by the origin
    that is first in time and within it by number, so the order of the batches of different nodes
    does not matter.

    Args:
        documents: in the order of the stream.
        source: what to call them in an error.

    Raises:
        DocumentError: if two documents contradict each other: one key for two relations, one vertex
            of two PROV kinds, one prefix for two namespaces.
    """
    vertices: dict[str, Vertex] = {}
    edges: list[Edge] = []
    gaps: dict[str, Gap] = {}
    prefixes = dict(PREFIXES)
    for document in documents:
        for prefix, namespace in document.prefixes.items():
            if prefixes.setdefault(prefix, namespace) != namespace:
                raise DocumentError(
                    source,
                    f'stands for "{prefixes[prefix]}" in one document and "{namespace}" in another',
                    section="prefix",
                    key=prefix,
                )
        for name, vertex in document.vertices.items():
            known = vertices.get(name)
            vertices[name] = vertex if known is None else _merge_vertex(known, vertex, source)
        edges.extend(document.edges)
        for gap in document.gaps:
            if gaps.setdefault(gap.key, gap) != gap:
                raise DocumentError(
                    source, "two gaps have this name", section="entity", key=gap.key
                )
    return Document(
        vertices, _without_repeats(order_edges(edges), source), tuple(gaps.values()), prefixes
    )


def order_edges(edges: Iterable[Edge]) -> list[Edge]:
    """Edges in the order in which they were captured.

    Edges whose key is not Headwater's come first and keep their order.
    """
    placed = [(*_place(edge.key), edge) for edge in edges]
    first_ns: dict[str, int] = {}
    for origin, _, _, edge in placed:
        time_ns = edge.time_ns
        if time_ns is not None and time_ns < first_ns.get(origin, time_ns + 1):
            first_ns[origin] = time_ns
    placed.sort(key=lambda item: (first_ns.get(item[0], 0), *item[:3]))
    return [item[3] for item in placed]


def _place(key: str) -> tuple[str, int, int]:
    try:
        return parse_relation_key(key)
    except ValueError:
        return "", 0, 0


def _merge_vertex(known: Vertex, again: Vertex, source: str) -> Vertex:
    if known.type.prov is not again.type.prov:
        raise DocumentError(
            source,
            f"is declared as {known.type.camflow} and as {again.type.camflow}",
            section=again.type.prov,
            key=known.name,
        )
    if not again.attributes and known.type is again.type:
        return known
    return replace(again, attributes={**known.attributes, **again.attributes})


def _without_repeats(edges: list[Edge], source: str) -> tuple[Edge, ...]:
    distinct: list[Edge] = []
    for edge in edges:
        if distinct and distinct[-1].key == edge.key:
            if distinct[-1] != edge:
                raise DocumentError(
                    source,
                    "two different relations have this name",
                    section=edge.relation.section,
                    key=edge.key,
                )
            continue
        distinct.append(edge)
    return tuple(distinct)
