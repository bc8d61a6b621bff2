# SPDX-License-Identifier: Apache-2.0
"""Documents as PROV-N, the W3C's notation for people.

Why: PROV-N reads like a sentence per record. It names the receiver of information first, the other
way round than the rest of Headwater, so the order of the arguments is in one table here.

Who calls it: :mod:`headwater_prov.writers` by the name ``prov-n``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import BinaryIO

from headwater_prov.document import Attributes, Document, Edge, Gap, Literal, Scalar, Vertex
from headwater_prov.reading import GAP_TYPE
from headwater_prov.times import format_time
from headwater_prov.vocabulary import Prov, ProvClass
from headwater_prov.writers.prov_json import integer_type

_TRAILING_ARGUMENTS = {
    ProvClass.DERIVED: "",
    ProvClass.INFORMED: "",
    ProvClass.INFLUENCED: "",
    ProvClass.ASSOCIATED: ", -",  # the plan
}
_STRING_ESCAPES = str.maketrans(
    {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t", "\b": "\\b", "\f": "\\f"}
)
_QUALIFIED_NAME = re.compile(
    r"[A-Za-z][A-Za-z0-9_-]*:[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_-])?"
)


def write(document: Document, stream: BinaryIO) -> None:
    """Write the document.

    Raises:
        OSError: from the stream.
    """
    stream.writelines(line.encode() + b"\n" for line in _lines(document))


def _lines(document: Document) -> Iterator[str]:
    yield "document"
    for prefix, namespace in document.prefixes.items():
        if prefix not in ("prov", "xsd"):
            yield f"  prefix {prefix} <{namespace}>"
    for vertex in document.vertices.values():
        yield f"  {_vertex(vertex)}"
    for gap in document.gaps:
        yield f"  {_gap(gap)}"
    for edge in document.edges:
        yield f"  {_edge(edge)}"
    yield "endDocument"


def _vertex(vertex: Vertex) -> str:
    times = ", -, -" if vertex.type.prov is Prov.ACTIVITY else ""
    attributes = _list(
        f"prov:type='{vertex.type.qualified_name}'",
        f"cf:version={_scalar(vertex.version)}",
        *_attributes(vertex.attributes),
    )
    return f"{vertex.type.prov}({_name(vertex.name)}{times}{attributes})"


def _gap(gap: Gap) -> str:
    times = (("hw:begin", gap.begin_ns), ("hw:end", gap.end_ns))
    attributes = _list(
        f"prov:type='{GAP_TYPE}'",
        f"hw:first={_scalar(gap.first)}",
        f"hw:last={_scalar(gap.last)}",
        f"hw:count={_scalar(gap.count)}",
        f"hw:reason={_string(gap.reason)}",
        *(f"{name}={_date(time_ns)}" for name, time_ns in times if time_ns is not None),
        *_attributes(gap.attributes),
    )
    return f"entity({_name(gap.key)}{attributes})"


def _edge(edge: Edge) -> str:
    prov_class = edge.relation.prov_class
    parts = [f"prov:type='{edge.relation.qualified_name}'"]
    if prov_class.has_time:
        trailing = f", {'-' if edge.time_ns is None else format_time(edge.time_ns)}"
    else:
        trailing = _TRAILING_ARGUMENTS[prov_class]
        if edge.time_ns is not None:
            parts.append(f"cf:date={_date(edge.time_ns)}")
    attributes = _list(*parts, *_attributes(edge.attributes))
    receiver, sender = _name(edge.receiver), _name(edge.sender)
    return f"{prov_class.section}({_name(edge.key)}; {receiver}, {sender}{trailing}{attributes})"


def _list(*attributes: str) -> str:
    return f", [{', '.join(attributes)}]"


def _attributes(attributes: Attributes) -> Iterator[str]:
    for name, value in attributes.items():
        for item in value if isinstance(value, tuple) else (value,):
            yield f"{name}={_scalar(item)}"


def _scalar(value: Scalar) -> str:
    if isinstance(value, Literal):
        return _literal(value)
    if isinstance(value, bool):
        return f'"{str(value).lower()}" %% xsd:boolean'
    if isinstance(value, float):
        return f'"{value!r}" %% xsd:double'
    if isinstance(value, int):
        data_type = integer_type(value)
        return str(value) if data_type == "xsd:int" else f'"{value}" %% {data_type}'
    return _string(value)


def _literal(literal: Literal) -> str:
    if literal.type in ("xsd:QName", "prov:QUALIFIED_NAME") and _QUALIFIED_NAME.fullmatch(
        literal.text
    ):
        return f"'{literal.text}'"
    text = _string(literal.text)
    if literal.language:
        return f"{text}@{literal.language}"
    return f"{text} %% {literal.type}" if literal.type else text


def _date(time_ns: int) -> str:
    return f'"{format_time(time_ns)}" %% xsd:dateTime'


def _string(text: str) -> str:
    return f'"{text.translate(_STRING_ESCAPES)}"'


def _name(name: str) -> str:
    # An id may begin with "-", which a PROV-N name may only with a backslash.
    prefix, _, local = name.partition(":")
    return f"{prefix}:\\{local}" if local.startswith("-") else name
