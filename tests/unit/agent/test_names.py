# SPDX-License-Identifier: Apache-2.0
"""Paths and arguments out of the kernel's bytes."""

from __future__ import annotations

import orjson
import pytest
from headwater_agent.layout import TextMark
from headwater_agent.names import NameWriter, path_of
from headwater_agent.redaction import Piece, texts_of
from headwater_prov.escaping import unescape
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.agent.harness import KEYS, NODE


@pytest.mark.parametrize(
    ("data", "marks", "path"),
    [
        (b"", TextMark(0), b"/"),
        (b"etc\0", TextMark(0), b"/etc"),
        (b"c\0b b\0a\0", TextMark(0), b"/a/b b/c"),
        (b"c\0b\0", TextMark.TRUNCATED, b"b/c"),
        (b"c\0b\0", TextMark.UNMOUNTED, b"/b/c"),
    ],
)
def test_path(data: bytes, marks: TextMark, path: bytes) -> None:
    assert path_of(data, marks) == path


@pytest.mark.parametrize(
    ("data", "arguments"),
    [
        (b"", []),
        (b"ls\0", [b"ls"]),
        (b"ls\0\0-l\0", [b"ls", b"", b"-l"]),
        (b"ls\0cut of", [b"ls", b"cut of"]),
    ],
)
def test_arguments(data: bytes, arguments: list[bytes]) -> None:
    assert texts_of(data) == arguments


_component = st.binary(min_size=1, max_size=20).filter(lambda raw: not {0, 47} & set(raw))


@given(st.lists(_component, max_size=5))
def test_any_path_is_read_back_byte_by_byte(components: list[bytes]) -> None:
    data = b"".join(component + b"\0" for component in reversed(components))
    _, declaration, _ = NameWriter(KEYS["alpha"], NODE.machine_id).name(data, 0)
    assert declaration is not None
    (vertex,) = orjson.loads(b"{" + declaration[:-1] + b"}").values()
    found = unescape(vertex["cf:pathname"], vertex.get("hw:escaped", False))
    assert found == b"/" + b"/".join(components)


def test_path_is_declared_once_in_a_document_and_has_one_id() -> None:
    writer = NameWriter(KEYS["alpha"], NODE.machine_id)
    first = writer.name(b"x\0", 0)
    second = writer.name(b"x\0", TextMark.DELETED)
    writer.begin_document()
    third = writer.name(b"x\0", 0)
    assert first[0] == second[0] == third[0]
    assert second[1:] == (None, b',"hw:deleted":true')
    assert third == first


def test_cache_of_paths_is_bounded() -> None:
    writer = NameWriter(KEYS["alpha"], NODE.machine_id)
    first = writer.name(b"0\0", 0)
    for number in range(1, 2_000):
        writer.name(b"%d\0" % number, 0)
    writer.begin_document()
    assert writer.name(b"0\0", 0) == first
    assert len(writer._paths) <= 1_024


def test_a_text_says_that_it_is_cut_or_lacks_something() -> None:
    writer = NameWriter(KEYS["alpha"], NODE.machine_id)
    pieces = [Piece(b"a"), Piece(b"bb", truncated=True), Piece(b"c=[redacted]", "rule")]
    declared = [declaration or b"" for _, declaration, _ in writer.arguments(pieces, "m.3")]
    assert [b"hw:truncated" in text for text in declared] == [False, True, False]
    assert [b'"hw:redacted":"rule"' in text for text in declared] == [False, False, True]


def test_an_argument_and_a_variable_of_one_text_are_two_vertices() -> None:
    writer = NameWriter(KEYS["alpha"], NODE.machine_id)
    ((argument, first, _),) = writer.arguments([Piece(b"A=1")], "m.0")
    ((variable, second, _),) = writer.environment([Piece(b"A=1")], "m.0")
    assert argument != variable
    assert b"cf:argv" in (first or b"") and b"cf:envp" in (second or b"")
