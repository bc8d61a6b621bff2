# SPDX-License-Identifier: Apache-2.0
"""Patterns of paths: what they match, alone and together, held against regular expressions."""

import re

import pytest
from headwater_prov.policy.automaton import AutomatonTooLarge, build
from hypothesis import given
from hypothesis import strategies as st


def matches(pattern: str, path: str) -> bool:
    return bool(build([(pattern, 1)], states_max=4096).match(path))


def by_regular_expression(pattern: str, path: str) -> bool:
    parts = []
    # The lookahead leaves the slash that ends one "/**" for the next.
    for token in re.findall(r"/\*\*(?=/)|\*\*|\*|[^*]", pattern, re.DOTALL):
        match token:
            case "/**":
                parts.append("(?:/.*)?")
            case "**":
                parts.append(".*")
            case "*":
                parts.append("[^/]*")
            case _:
                parts.append(re.escape(token))
    text = "".join(parts)
    return re.fullmatch(text, path, re.DOTALL) is not None


@pytest.mark.parametrize(
    ("pattern", "path", "is_match"),
    [
        ("/usr/bin/env", "/usr/bin/env", True),
        ("/usr/bin/env", "/usr/bin/en", False),
        ("/usr/bin/env", "/usr/bin/envx", False),
        ("/usr/bin/env", "/bin/env", False),
        ("/usr/bin/env", "/x/usr/bin/env", False),
        ("/usr/bin/env", "/usr/bin/env/x", False),
        ("/usr/bin/*", "/usr/bin/env", True),
        ("/usr/bin/*", "/usr/bin/sub/env", False),
        ("/usr/*/env", "/usr/bin/env", True),
        ("/usr/*/env", "/usr/env", False),
        ("/usr/*/env", "/usr/a/b/env", False),
        ("/opt/**", "/opt/a", True),
        ("/opt/**", "/opt/a/b/c", True),
        ("/opt/**", "/opt", False),
        ("/opt/**", "/option", False),
        ("/opt**", "/option/a", True),
        ("/**", "/a/b", True),
        ("/**/python3*", "/usr/bin/python3.11", True),
        ("/**/python3*", "/python3", True),
        ("/**/python3*", "/usr/bin/python2", False),
        ("/a/**/z", "/a/z", True),
        ("/a/**/z", "/a/b/z", True),
        ("/a/**/z", "/a/b/c/z", True),
        ("/a/**/z", "/az", False),
        ("/a/**/b/**/z", "/a/b/z", True),
        ("/a/**/b/**/z", "/a/1/b/2/3/z", True),
        ("/a/**/b/**/z", "/a/z", False),
        ("/l*c/x**y.so", "/lic/xay.so", True),
        ("/l*c/x**y.so", "/lic/xa/b/cy.so", True),
        ("/l*c/x**y.so", "/lic/xa/b/cy.s", False),
        ("/a*b*c", "/aXbYbZc", True),
        ("/a*b*c", "/aXc", False),
        ("/caf\u00e9/*", "/caf\u00e9/x", True),
        ("/\udcff*", "/\udcff\udcfe", True),
    ],
)
def test_what_a_pattern_matches(pattern: str, path: str, is_match: bool) -> None:
    assert matches(pattern, path) is is_match


PARTS = st.lists(
    st.sampled_from(["a", "b", "ab", "*", "**", "a*", "*b", "a**", "**b", "a**b", "a*b"]),
    min_size=1,
    max_size=4,
)
NAMES = st.lists(st.text("ab", min_size=1, max_size=3), min_size=1, max_size=5)


@given(PARTS, NAMES)
def test_as_a_regular_expression_has_it(parts: list[str], names: list[str]) -> None:
    pattern, path = "/" + "/".join(parts), "/" + "/".join(names)
    assert matches(pattern, path) is by_regular_expression(pattern, path)


@given(st.lists(PARTS, min_size=1, max_size=8), NAMES)
def test_together_they_match_as_each_does_alone(several: list[list[str]], names: list[str]) -> None:
    patterns = ["/" + "/".join(parts) for parts in several]
    path = "/" + "/".join(names)
    labelled = [(pattern, 1 << number) for number, pattern in enumerate(patterns)]
    accepted = build(labelled, states_max=60000).match(path)
    alone = sum(1 << number for number, one in enumerate(patterns) if matches(one, path))
    assert accepted == alone


def test_too_many_states_are_refused() -> None:
    with pytest.raises(AutomatonTooLarge):
        build([("/usr/bin/env", 1)], states_max=8)
    assert len(build([("/usr/bin/env", 1)], states_max=14).rows) == 14
