# SPDX-License-Identifier: Apache-2.0
"""What is shown holds no control and no more than people read."""

import pytest
from headwater_prov.display import listing, printable, printable_path, shortened
from hypothesis import given
from hypothesis import strategies as st


@given(st.text())
def test_nothing_that_is_shown_controls_a_terminal(text: str) -> None:
    assert printable(text).isprintable()


@given(st.binary())
def test_every_path_can_be_shown(path: bytes) -> None:
    assert printable_path(path).isprintable()


def test_plain_names_are_shown_as_they_are() -> None:
    assert printable("a file, é and 日本") == "a file, é and 日本"
    assert printable_path(b"/a\xff\x1b[2J") == "/a\\xff\\x1b[2J"
    assert printable("a\u202eb") == "a\\u202eb"


@pytest.mark.parametrize(
    ("names", "text"),
    [
        ([], ""),
        (["a"], "a"),
        (["a", "b"], "a and b"),
        (["a", "b", "c"], "a, b and c"),
        (["a", "b", "c", "d"], "a, b and 2 more"),
    ],
)
def test_listings_are_cut_and_say_so(names: list[str], text: str) -> None:
    assert listing(names, limit=3) == text


def test_long_texts_are_cut_and_show_it() -> None:
    assert shortened("abc", 3) == "abc"
    assert shortened("abcd", 3) == "ab\u2026"
