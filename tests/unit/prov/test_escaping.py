# SPDX-License-Identifier: Apache-2.0
"""Names that are not UTF-8 come back byte by byte."""

import pytest
from headwater_prov.escaping import escape, unescape
from hypothesis import example, given
from hypothesis import strategies as st


@given(st.binary())
@example(b"100%")
@example(b"%41\xff")
@example(b"\xed\xa0\x80")
@example(b"\xc3")
def test_every_name_survives(raw: bytes) -> None:
    text, escaped = escape(raw)
    text.encode()
    assert unescape(text, escaped) == raw


@given(st.text())
def test_text_stays_as_it_is(name: str) -> None:
    assert escape(name.encode()) == (name, False)


@given(st.binary(), st.binary())
def test_two_names_never_look_the_same(first: bytes, second: bytes) -> None:
    assert (escape(first) == escape(second)) == (first == second)


def test_only_invalid_bytes_and_percent_signs_are_escaped() -> None:
    assert escape("/tmp/é 5%".encode() + b"\xff\x80") == ("/tmp/é 5%25%FF%80", True)


@pytest.mark.parametrize("text", ["%", "%4", "%zz", "a%ff"])
def test_broken_escapes_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="%25"):
        unescape(text, True)
    assert unescape(text, False) == text.encode()
