# SPDX-License-Identifier: Apache-2.0
"""Paths, arguments, variables and addresses: from the kernel's bytes to vertices of their own.

Why: a name is shared by many objects and many documents; it is decoded, escaped and given its id
once and kept for a while.

Who calls it: the renderer through :class:`headwater_agent.tenant.TenantPipeline`, for each name
or argument record. Promise G5: ids are made under the tenant's key.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import orjson
from headwater_prov.escaping import escape
from headwater_prov.identifiers import AddressIds, ArgvIds, FlowIds, PathIds
from headwater_prov.vocabulary import VertexType

from headwater_agent.addresses import Address, parse_address
from headwater_agent.flows import FLOW_ENDS_BYTES, flow_of
from headwater_agent.layout import TextMark
from headwater_agent.redaction import Piece

_CACHE_PATHS: Final = 1024
"""Paths whose text is kept, for each tenant: some 600 bytes each."""

_CACHE_TEXTS: Final = 1024
"""Arguments and variables whose text is kept: a build passes the same ones to every program."""

_TEXT_KEPT_MAX: Final = 128
"""Bytes; longer ones hardly come twice."""

_ATTRIBUTES: Final = b'{"prov:type":{"$":"cf:%b","type":"xsd:QName"},"cf:version":0,"cf:%b":%b%b}'

# As numbers: an enum's operators take as long as the rest of an argument.
_TRUNCATED, _UNMOUNTED, _DELETED, _PEER, _FLOW = (
    int(mark)
    for mark in (
        TextMark.TRUNCATED,
        TextMark.UNMOUNTED,
        TextMark.DELETED,
        TextMark.PEER,
        TextMark.FLOW,
    )
)

TextVertex = tuple[bytes, bytes | None, bytes]
"""Id, declaration unless the document has it, attributes of the edge from it."""


def path_of(data: bytes, marks: int) -> bytes:
    """The path whose components, last first, each ended by NUL, are `data`.

    A path whose front did not fit the record has no leading slash.
    """
    components = data.split(b"\0")[-2::-1]
    path = b"/".join(components)
    return path if marks & _TRUNCATED else b"/" + path


def escape_to_json(raw: bytes) -> tuple[bytes, bool]:
    """A name as a JSON string, and whether it had to be escaped (``hw:escaped``)."""
    text, escaped = escape(raw)
    return orjson.dumps(text), escaped


def edge_attributes(marks: int) -> bytes:
    """What the marks of a name or address record say about this edge, as JSON members."""
    return (
        (b',"hw:unmounted":true' if marks & _UNMOUNTED else b"")
        + (b',"hw:deleted":true' if marks & _DELETED else b"")
        + (b',"hw:peer":true' if marks & _PEER else b"")
    )


def address_attributes(address: Address) -> dict[str, str | int | bool]:
    """What an address's vertex says of it."""
    described: dict[str, str | int | bool] = {"hw:family": address.family}
    if address.service is not None:
        described |= {"cf:host": address.host, "cf:service": address.service}
    if address.scope:
        described["hw:scopeId"] = address.scope
    if address.path:
        path, escaped = escape(address.path)
        described["cf:path"] = path
        if escaped:
            described["hw:escaped"] = True
    if address.is_abstract:
        described["hw:abstract"] = True
    if address.other:
        described["hw:address"] = address.other.hex()
    return described


class NameWriter:
    """Writes the vertices of one tenant's texts."""

    def __init__(self, key: bytes, machine_id: bytes) -> None:
        """Args: key: the tenant's; machine_id: 16 bytes."""
        self._path_id = PathIds(key, machine_id)
        self._argv_ids = ArgvIds(key)
        self._envp_ids = ArgvIds(key, of_environment=True)
        self._address_id = AddressIds(key, machine_id)
        self._flow_ids = FlowIds(key)
        self._machine_id = machine_id
        self._paths: dict[tuple[bytes, bool], tuple[bytes, bytes]] = {}
        self._texts: dict[tuple[bytes, Piece], bytes] = {}
        self._in_document: set[bytes] = set()

    def begin_document(self) -> None:
        """From now on no vertex is declared yet."""
        self._in_document.clear()

    def name(self, data: bytes, marks: int) -> TextVertex:
        """The path vertex of a name record."""
        known = (data, bool(marks & _TRUNCATED))
        found = self._paths.get(known)
        if found is None:
            if len(self._paths) >= _CACHE_PATHS:
                self._paths.clear()
            found = self._paths[known] = self._write_path(path_of(data, marks), known[1])
        identifier, declaration = found
        attributes = edge_attributes(marks) if marks else b""
        if identifier in self._in_document:
            return identifier, None, attributes
        self._in_document.add(identifier)
        return identifier, declaration, attributes

    def address(self, data: bytes, marks: int) -> TextVertex:
        """The address vertex of an address record."""
        attributes = edge_attributes(marks)
        if marks & _FLOW:
            flow = flow_of(data, self._flow_ids, self._machine_id)
            attributes += b',"hw:flow":"%b"' % flow.encode()
            data = data[FLOW_ENDS_BYTES:]
        address = parse_address(data)
        identifier = self._address_id(address.identity).encode()
        if identifier in self._in_document:
            return identifier, None, attributes
        self._in_document.add(identifier)
        described = orjson.dumps(
            {
                "prov:type": {"$": VertexType.ADDRESS.qualified_name, "type": "xsd:QName"},
                "cf:version": 0,
                **address_attributes(address),
            }
        )
        return identifier, b'"hw:%b.0":%b,' % (identifier, described), attributes

    def arguments(self, pieces: Sequence[Piece], vertex: str) -> list[TextVertex]:
        """The argument vertices of a program; `vertex` is its process memory's vertex id."""
        return self._program_texts(b"argv", self._argv_ids, pieces, vertex)

    def environment(self, pieces: Sequence[Piece], vertex: str) -> list[TextVertex]:
        """The vertices of a program's environment, one for each variable."""
        return self._program_texts(b"envp", self._envp_ids, pieces, vertex)

    def _program_texts(
        self, kind: bytes, ids: ArgvIds, pieces: Sequence[Piece], vertex: str
    ) -> list[TextVertex]:
        vertices: list[TextVertex] = []
        known, declared = self._texts, self._in_document
        identifiers = ids.of_program(vertex, len(pieces))
        for piece, identifier in zip(pieces, identifiers, strict=True):
            if identifier in declared:
                vertices.append((identifier, None, b""))
                continue
            declared.add(identifier)
            text = known.get((kind, piece))
            if text is None:
                text = _attributes(kind, b"value", piece.text, piece.truncated, piece.rule)
                if len(piece.text) <= _TEXT_KEPT_MAX:
                    if len(known) >= _CACHE_TEXTS:
                        known.clear()
                    known[kind, piece] = text
            vertices.append((identifier, b'"hw:%b.0":%b,' % (identifier, text), b""))
        return vertices

    def _write_path(self, path: bytes, truncated: bool) -> tuple[bytes, bytes]:
        identifier = self._path_id(path).encode()
        text = _attributes(b"path", b"pathname", path, truncated)
        return identifier, b'"hw:%b.0":%b,' % (identifier, text)


def _attributes(
    kind: bytes, attribute: bytes, raw: bytes, truncated: bool, rule: str = ""
) -> bytes:
    value, escaped = escape_to_json(raw)
    marks = b',"hw:escaped":true' if escaped else b""
    if truncated:
        marks += b',"hw:truncated":true'
    if rule:
        marks += b',"hw:redacted":"%b"' % rule.encode()
    return _ATTRIBUTES % (kind, attribute, value, marks)
