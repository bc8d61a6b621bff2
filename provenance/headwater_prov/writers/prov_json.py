# SPDX-License-Identifier: Apache-2.0
"""Documents as PROV-JSON: the format of the stream and the default of every command.

Why: what is written here is valid by the W3C schema and is read back to an equal document. One
record stands on a line, so ``grep`` and ``diff`` work on it, and memory does not grow with it.

Who calls it: :mod:`headwater_prov.writers` by the name ``prov-json``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any, BinaryIO

import orjson

from headwater_prov.document import Attributes, Document, Edge, Gap, Literal, Scalar, Vertex
from headwater_prov.reading import GAP_TYPE
from headwater_prov.times import format_time
from headwater_prov.vocabulary import Prov, ProvClass

_Record = tuple[str, dict[str, Any]]


def write(document: Document, stream: BinaryIO) -> None:
    """Write the document.

    Raises:
        OSError: from the stream.
    """
    stream.write(b'{"prefix":' + orjson.dumps(dict(document.prefixes)))
    for section, records in _sections(document):
        separator = b",\n" + orjson.dumps(section) + b":{\n"
        end = b""
        for name, record in records:
            stream.write(separator + orjson.dumps(name) + b":" + orjson.dumps(record))
            separator, end = b",\n", b"\n}"
        stream.write(end)
    stream.write(b"}\n")


def vertex_record(vertex: Vertex) -> dict[str, Any]:
    """The PROV-JSON object of a vertex."""
    return {
        "prov:type": _qualified(vertex.type.qualified_name),
        "cf:version": _scalar(vertex.version),
        **_attributes(vertex.attributes),
    }


def gap_record(gap: Gap) -> dict[str, Any]:
    """The PROV-JSON object of a gap."""
    record: dict[str, Any] = {
        "prov:type": _qualified(GAP_TYPE),
        "hw:first": _scalar(gap.first),
        "hw:last": _scalar(gap.last),
        "hw:count": _scalar(gap.count),
        "hw:reason": gap.reason.value,
    }
    for name, time_ns in (("hw:begin", gap.begin_ns), ("hw:end", gap.end_ns)):
        if time_ns is not None:
            record[name] = _date(time_ns)
    return {**record, **_attributes(gap.attributes)}


def edge_record(edge: Edge) -> dict[str, Any]:
    """The PROV-JSON object of an edge."""
    prov_class = edge.relation.prov_class
    record: dict[str, Any] = {
        prov_class.sender_key: edge.sender,
        prov_class.receiver_key: edge.receiver,
        "prov:type": _qualified(edge.relation.qualified_name),
    }
    if edge.time_ns is not None:
        formal = prov_class.has_time
        record[prov_class.time_key] = format_time(edge.time_ns) if formal else _date(edge.time_ns)
    return {**record, **_attributes(edge.attributes)}


def _sections(document: Document) -> Iterator[tuple[str, Iterable[_Record]]]:
    gaps = ((gap.key, gap_record(gap)) for gap in document.gaps)
    for kind in Prov:
        vertices = (
            (vertex.name, vertex_record(vertex))
            for vertex in document.vertices.values()
            if vertex.type.prov is kind
        )
        yield kind, chain(vertices, gaps) if kind is Prov.ENTITY else vertices
    for prov_class in ProvClass:
        yield (
            prov_class.section,
            (
                (edge.key, edge_record(edge))
                for edge in document.edges
                if edge.relation.prov_class is prov_class
            ),
        )


def _attributes(attributes: Attributes) -> dict[str, Any]:
    return {
        name: [_scalar(item) for item in value] if isinstance(value, tuple) else _scalar(value)
        for name, value in attributes.items()
    }


def _scalar(value: Scalar) -> Any:
    if isinstance(value, Literal):
        record = {"$": value.text, "type": value.type, "lang": value.language}
        return {key: text for key, text in record.items() if text or key == "$"}
    if isinstance(value, bool | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else {"$": str(value).upper(), "type": "xsd:double"}
    if -(2**31) <= value < 2**31:
        return value
    return {"$": str(value), "type": integer_type(value)}


def integer_type(value: int) -> str:
    """The XML Schema type that holds an integer which JSON readers might round."""
    if -(2**31) <= value < 2**31:
        return "xsd:int"
    if -(2**63) <= value < 2**63:
        return "xsd:long"
    return "xsd:unsignedLong" if 0 <= value < 2**64 else "xsd:integer"


def _qualified(name: str) -> dict[str, str]:
    return {"$": name, "type": "xsd:QName"}


def _date(time_ns: int) -> dict[str, str]:
    return {"$": format_time(time_ns), "type": "xsd:dateTime"}
