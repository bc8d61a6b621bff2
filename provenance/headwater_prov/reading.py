# SPDX-License-Identifier: Apache-2.0
"""PROV-JSON text to documents, whoever wrote it.

Why: besides the batches of our own agent, people hand in files that were cut, edited or made by
another program. Whatever is wrong with one is said with its place and a remedy; nothing that this
module does not understand is dropped in silence.

Who calls it: the auditor for each message, ``headwater lineage`` for a file. The result goes to
:func:`headwater_prov.document.merge`. The format is in ``docs/record-format.md``.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Iterator
from typing import Any, Final

import orjson

from headwater_prov.checkpoint import CHECKPOINT_TYPE, Checkpoint, read_checkpoint
from headwater_prov.document import (
    NO_ATTRIBUTES,
    Attributes,
    Document,
    DocumentError,
    Edge,
    Gap,
    Literal,
    Scalar,
    Value,
    Vertex,
    order_edges,
)
from headwater_prov.times import parse_time
from headwater_prov.vocabulary import (
    PREFIXES,
    PROV_CLASSES,
    RELATIONS,
    VERTEX_TYPES,
    GapReason,
    Prov,
    ProvClass,
    Relation,
    VertexType,
)

GAP_TYPE: Final = "hw:gap"

_SECTIONS = ("prefix", *Prov, *PROV_CLASSES)
_IMPLIED_PREFIXES = frozenset({"prov", "xsd"})
_VERTEX_NAME = re.compile(r"hw:[A-Za-z0-9_-]+\.(?:0|[1-9][0-9]{0,17})")
_PREFIX = r"[A-Za-z][A-Za-z0-9_-]*"
_NAME = re.compile(rf"({_PREFIX}):[A-Za-z0-9_-](?:[A-Za-z0-9_.-]*[A-Za-z0-9_-])?")
_TYPES = {t.qualified_name: t for t in VertexType}
_RELATIONS = {r.qualified_name: r for r in Relation}
_INTEGER_TYPES = frozenset(
    {"xsd:integer", "xsd:long", "xsd:int", "xsd:short", "xsd:byte"}
    | {"xsd:unsignedLong", "xsd:unsignedInt", "xsd:unsignedShort", "xsd:unsignedByte"}
    | {"xsd:nonNegativeInteger", "xsd:positiveInteger"}
)
_FLOAT_TYPES = frozenset({"xsd:double", "xsd:float"})


class _RecordError(Exception):
    """What is wrong with one record; the caller knows where it stands."""


def parse_document(data: bytes | str, source: str = "document") -> Document:
    """Read one PROV-JSON document.

    Args:
        data: the text, UTF-8 if bytes, not compressed.
        source: what to call the document in errors, e.g. a file name.

    Raises:
        DocumentError: if it is no JSON, no PROV-JSON, or not of the record format.
    """
    return _Reader(source).document(_load(data, source))


def parse_documents(data: bytes, source: str = "document") -> Iterator[Document]:
    """Read a file that holds one PROV-JSON document, or one per line.

    Args:
        data: UTF-8 text.
        source: see :func:`parse_document`; line numbers are added where there are several.

    Raises:
        DocumentError: as :func:`parse_document`, when its document's turn comes.
    """
    lines = data.splitlines()
    several = [(number, line) for number, line in enumerate(lines, 1) if line.strip()]
    if len(several) > 1 and _is_object(several[0][1]):
        for number, line in several:
            yield parse_document(line, f"{source}:{number}")
    else:
        yield parse_document(data, source)


def _is_object(line: bytes) -> bool:
    try:
        return isinstance(orjson.loads(line), dict)
    except orjson.JSONDecodeError:
        return False


def _load(data: bytes | str, source: str) -> dict[str, Any]:
    if not data.strip():
        raise DocumentError(source, 'is empty; a document without records is "{}"')
    try:
        content = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        # An error about the encoding of the text comes without a place.
        place = (
            f"line {error.lineno}, column {error.colno}, offset {error.pos}: " if error.pos else ""
        )
        raise DocumentError(source, f"{place}is not JSON: {error.msg}") from None
    if not isinstance(content, dict):
        raise DocumentError(
            source, f"is {_kind(content)}; a PROV-JSON document is an object with sections"
        )
    return content


class _Reader:
    """Reads one document, taking its records apart in place; repeated names are kept once."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._prefixes: dict[str, str] = {}
        self._attribute_names: set[str] = set()
        self._vertex_names: dict[str, str] = {}
        self._edge_attributes: dict[tuple[str, Value], Attributes] = {}

    def document(self, content: dict[str, Any]) -> Document:
        for section in content:
            if section not in _SECTIONS:
                raise DocumentError(
                    self._source,
                    f"is no section of the record format; known: {', '.join(_SECTIONS)}",
                    section=section,
                )
        self._read_prefixes(self._section(content, "prefix"))
        vertices: dict[str, Vertex] = {}
        gaps: list[Gap] = []
        checkpoints: list[Checkpoint] = []
        edges: list[Edge] = []
        for kind in Prov:
            for name, record in self._section(content, kind).items():
                try:
                    item = self._element(kind, name, record)
                except _RecordError as error:
                    raise self._error(error, kind, name) from None
                if isinstance(item, Gap):
                    gaps.append(item)
                elif isinstance(item, Checkpoint):
                    checkpoints.append(item)
                else:
                    vertices[item.name] = item
        for section, prov_class in PROV_CLASSES.items():
            for key, record in self._section(content, section).items():
                try:
                    edges.append(self._relation(prov_class, key, record))
                except _RecordError as error:
                    raise self._error(error, section, key) from None
        prefixes = {**PREFIXES, **self._prefixes}
        return Document(
            vertices, tuple(order_edges(edges)), tuple(gaps), prefixes, tuple(checkpoints)
        )

    def _error(self, error: _RecordError, section: str, key: str) -> DocumentError:
        return DocumentError(self._source, str(error), section=section, key=key)

    def _section(self, content: dict[str, Any], section: str) -> dict[str, Any]:
        records = content.get(section, {})
        if not isinstance(records, dict):
            raise DocumentError(
                self._source,
                f"is {_kind(records)}; must be an object of records by name",
                section=section,
            )
        return records

    def _read_prefixes(self, prefixes: dict[str, Any]) -> None:
        for prefix, namespace in prefixes.items():
            problem = ""
            if re.fullmatch(_PREFIX, prefix) is None:
                problem = 'must be of letters, digits, "_" and "-"; a default namespace has no use'
            elif not isinstance(namespace, str):
                problem = f"is {_kind(namespace)}; must be the namespace's IRI"
            elif PREFIXES.get(prefix, namespace) != namespace:
                problem = f'stands for "{namespace}"; must be "{PREFIXES[prefix]}"'
            if problem:
                raise DocumentError(self._source, problem, section="prefix", key=prefix)
        self._prefixes = prefixes

    def _element(self, kind: Prov, name: str, record: Any) -> Vertex | Gap | Checkpoint:
        if isinstance(record, list):
            # PROV-JSON's way to declare one element several times.
            record = {key: value for part in record for key, value in _object(part).items()}
        rest = _object(record)
        type_name = _type_name(rest.pop("prov:type", None))
        if type_name == GAP_TYPE:
            if kind is not Prov.ENTITY:
                raise _RecordError(f"a gap belongs to section {Prov.ENTITY}")
            return self._gap(name, rest)
        if type_name == CHECKPOINT_TYPE:
            if kind is not Prov.ENTITY:
                raise _RecordError(f"a checkpoint belongs to section {Prov.ENTITY}")
            self._check_name(name)
            try:
                return read_checkpoint(name, rest)
            except ValueError as error:
                raise _RecordError(str(error)) from None
        vertex_type = _TYPES.get(type_name)
        if vertex_type is None:
            raise _RecordError(_unknown("vertex type", type_name, [*VERTEX_TYPES]))
        if vertex_type.prov is not kind:
            raise _RecordError(f'prov:type "{type_name}" belongs to section {vertex_type.prov}')
        name = self._vertex_name(name)
        version = rest.pop("cf:version", None)
        if version is not None and _value(version) != int(name.rpartition(".")[2]):
            raise _RecordError(f"cf:version {version} is not the version in the name")
        return Vertex(name, vertex_type, self._attributes(rest))

    def _gap(self, key: str, rest: dict[str, Any]) -> Gap:
        self._check_name(key)
        first, last = _positive(rest, "hw:first"), _positive(rest, "hw:last")
        if last < first:
            raise _RecordError(f"hw:last {last} is less than hw:first {first}")
        count = _positive(rest, "hw:count")
        if count != last - first + 1:
            raise _RecordError(f"hw:count {count} does not cover {first}-{last}")
        try:
            reason = GapReason(rest.pop("hw:reason", None))
        except ValueError as error:
            raise _RecordError(f"hw:reason: {error}; known: {', '.join(GapReason)}") from None
        begin_ns, end_ns = _time(rest, "hw:begin"), _time(rest, "hw:end")
        return Gap(key, first, last, reason, begin_ns, end_ns, self._attributes(rest))

    def _relation(self, prov_class: ProvClass, key: str, record: Any) -> Edge:
        self._check_name(key)
        rest = _object(record)
        type_name = _type_name(rest.pop("prov:type", None))
        relation = _RELATIONS.get(type_name)
        if relation is None:
            raise _RecordError(_unknown("relation", type_name, [*RELATIONS]))
        if relation.prov_class is not prov_class:
            raise _RecordError(f'prov:type "{type_name}" belongs to section {relation.section}')
        sender = self._endpoint(rest, prov_class.sender_key)
        receiver = self._endpoint(rest, prov_class.receiver_key)
        time_ns = _time(rest, prov_class.time_key)
        return Edge(key, relation, sender, receiver, time_ns, self._shared(self._attributes(rest)))

    def _shared(self, attributes: Attributes) -> Attributes:
        # Most edges have no attribute but their flags, of which there are a dozen.
        if len(attributes) != 1:
            return attributes
        [item] = attributes.items()
        if not isinstance(item[1], str):
            return attributes
        return self._edge_attributes.setdefault(item, attributes)

    def _endpoint(self, rest: dict[str, Any], key: str) -> str:
        name = rest.pop(key, None)
        if not isinstance(name, str):
            wrong = "is missing" if name is None else f"is {_kind(name)}"
            raise _RecordError(f"{key} {wrong}; must be the name of a vertex")
        return self._vertex_name(name)

    def _vertex_name(self, name: str) -> str:
        known = self._vertex_names.get(name)
        if known is not None:
            return known
        if _VERTEX_NAME.fullmatch(name) is None:
            raise _RecordError(f'"{name}" is no vertex name; must be "hw:<object>.<version>"')
        self._check_name(name)
        # One text for a name in all documents: a graph of millions of edges is mostly names.
        name = self._vertex_names[name] = sys.intern(name)
        return name

    def _check_name(self, name: str) -> None:
        match = _NAME.fullmatch(name)
        if match is None:
            raise _RecordError(
                f'"{name}" is no name; must be "<prefix>:<name>" of letters, digits, "_", "-", "."'
            )
        if match[1] not in self._prefixes and match[1] not in _IMPLIED_PREFIXES:
            meant = PREFIXES.get(match[1], "its namespace's IRI")
            raise _RecordError(
                f'prefix "{match[1]}" is not declared; '
                f'add "{match[1]}": "{meant}" to section prefix'
            )

    def _attributes(self, rest: dict[str, Any]) -> Attributes:
        if not rest:
            return NO_ATTRIBUTES
        for name, value in rest.items():
            if name not in self._attribute_names:
                self._check_name(name)
                self._attribute_names.add(name)
            if not isinstance(value, str):
                try:
                    rest[name] = _value(value)
                except _RecordError as error:
                    raise _RecordError(f"{name}: {error}") from None
        return rest


def _object(record: Any) -> dict[str, Any]:
    if not isinstance(record, dict):
        raise _RecordError(f"is {_kind(record)}; must be an object of attributes")
    return record


def _type_name(value: Any) -> str:
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if isinstance(value, dict):
        value = value.get("$")
    if not isinstance(value, str):
        wrong = "is missing" if value is None else f"is {_kind(value)}"
        raise _RecordError(f'prov:type {wrong}; write {{"$": "cf:<name>", "type": "xsd:QName"}}')
    return value


def _value(value: Any) -> Value:
    if isinstance(value, list):
        return tuple(_scalar(item) for item in value)
    return _scalar(value)


def _scalar(value: Any) -> Scalar:
    if isinstance(value, dict):
        return _literal(value)
    if isinstance(value, str | int | float):
        return value
    raise _RecordError(
        f"is {_kind(value)}; must be text, a number, a truth value or a typed literal"
    )


def _literal(value: dict[str, Any]) -> Scalar:
    text, data_type, language = value.get("$"), value.get("type", ""), value.get("lang", "")
    if not (
        value.keys() <= {"$", "type", "lang"}
        and isinstance(text, str)
        and isinstance(data_type, str)
        and isinstance(language, str)
    ):
        raise _RecordError(
            'is an object; must be flat or a typed literal {"$": "<text>", "type": "<data type>"}'
        )
    try:
        if data_type in _INTEGER_TYPES:
            return int(text)
        if data_type in _FLOAT_TYPES and math.isfinite(float(text)):
            return float(text)
    except ValueError:
        raise _RecordError(f'"{text}" is no {data_type}') from None
    if data_type == "xsd:boolean" and text in ("true", "false"):
        return text == "true"
    if data_type == "xsd:string" and not language:
        return text
    return Literal(text, data_type, language)


def _positive(rest: dict[str, Any], name: str) -> int:
    value = rest.pop(name, None)
    number = None if value is None else _value(value)
    if type(number) is not int or number < 1:
        raise _RecordError(f"{name} is {value!r}; must be a whole number from 1")
    return number


def _time(rest: dict[str, Any], name: str) -> int | None:
    value = rest.pop(name, None)
    if value is None:
        return None
    text = value.get("$") if isinstance(value, dict) else value
    try:
        return parse_time(text if isinstance(text, str) else repr(text))
    except ValueError as error:
        raise _RecordError(f"{name}: {error}") from None


def _unknown(what: str, name: str, known: list[str]) -> str:
    prefix, _, local = name.partition(":")
    meant = f'; did you mean "cf:{prefix}"?' if not local and prefix in known else ""
    return f'prov:type "{name}" is no {what}{meant or "; see docs/record-format.md for the names"}'


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "a truth value"
    names = {dict: "an object", list: "a list", str: "text", int: "a number", float: "a number"}
    return names[type(value)]
