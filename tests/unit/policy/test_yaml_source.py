# SPDX-License-Identifier: Apache-2.0
"""Reading is bounded and never fails in an unexpected way, whatever the bytes are."""

import time
from pathlib import Path

import pytest
import yaml
from headwater_prov.policy.loading import _document
from headwater_prov.policy.problems import Place, PolicyProblem, child_field, did_you_mean, shown
from headwater_prov.policy.yaml_source import (
    DEPTH_MAX,
    VALUES_MAX,
    Mapping,
    Node,
    Scalar,
    Sequence,
    SourceError,
    decode,
    documents,
)
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

GOOD = sorted((Path(__file__).parent / "valid").glob("*.yaml"))


def read(content: bytes) -> list[Node]:
    return list(documents(decode(content, "f"), "f"))


def read_and_check(content: bytes) -> list[PolicyProblem]:
    problems: list[PolicyProblem] = []
    try:
        for root in documents(decode(content, "f"), "f"):
            _document(root, problems)
    except SourceError as error:
        problems.append(PolicyProblem(error.place, "", error.message))
    return problems


def plain(node: Node) -> object:
    match node:
        case Scalar():
            return node.value
        case Sequence():
            return [plain(item) for item in node.items]
        case Mapping():
            return {entry.key: plain(entry.value) for entry in node.entries}


YAML_PIECES = st.sampled_from(
    [
        *(
            "a",
            "spec",
            "kind",
            ": ",
            "- ",
            "\n",
            "  ",
            "[",
            "]",
            "{",
            "}",
            ",",
            '"',
            "'",
            "#",
            "\t",
        ),
        *(
            "&a ",
            "*a",
            "!!str ",
            "!!int ",
            "!",
            "|\n",
            ">\n",
            "? ",
            "---\n",
            "...\n",
            "%YAML 1.3\n",
        ),
        *("1", "0x", "0b_", "1:30", ".inf", "null", "~", "=", "<<", "2026-11-21"),
        *("\\x", "\\U11000000", "\ufeff"),
    ]
)


TENANT_WITH_MARK = (
    "apiVersion: headwater.dev/v1alpha1\nkind: ProvenanceTenant\n"
    "metadata: {name: acme}\nspec:\n  namespaces: \ufeff[shop]\n"
)


@given(st.binary(max_size=200))
@example(b"\xff\xfe\x00")
@example(b"\x00")
@example(b'a: "\\UFFFFFFFF"')
@example(b"!!int x")
@example(b"!!float x")
@example(b"!!bool x")
@example(b"!!timestamp x")
@example(TENANT_WITH_MARK.encode())
def test_any_bytes_give_values_or_problems(content: bytes) -> None:
    for problem in read_and_check(content):
        assert str(problem).isprintable()


@given(st.lists(YAML_PIECES, max_size=40).map("".join))
def test_anything_like_yaml_gives_values_or_problems(text: str) -> None:
    for problem in read_and_check(text.encode()):
        assert str(problem).isprintable()


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(GOOD), st.data())
def test_a_policy_with_a_piece_changed_gives_values_or_problems(
    file: Path, data: st.DataObject
) -> None:
    text = file.read_text("utf-8")[:3000]
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, min(len(text), start + 10)))
    for problem in read_and_check((text[:start] + data.draw(YAML_PIECES) + text[end:]).encode()):
        assert str(problem).isprintable()
        assert problem.message


@pytest.mark.parametrize("file", GOOD, ids=lambda file: file.stem)
def test_values_are_those_that_pyyaml_reads(file: Path) -> None:
    ours = [plain(node) for node in read(file.read_bytes())]
    theirs = list(yaml.load_all(file.read_bytes(), Loader=yaml.BaseLoader))
    assert _as_texts(ours) == _as_texts(theirs)


def _as_texts(value: object) -> object:
    """Values as the base loader has them: everything is text, and nothing is ''."""
    match value:
        case list():
            return [_as_texts(item) for item in value]
        case dict():
            return {key: _as_texts(item) for key, item in value.items()}
        case None:
            return ""
        case True | "true" | "yes" | "on":
            return "yes"
        case False | "false" | "no" | "off":
            return "no"
        case _:
            return str(value)


def test_places_are_line_and_column_from_one() -> None:
    (root,) = read(b"# comment\na:\n  - b: c\n")
    assert isinstance(root, Mapping)
    (entry,) = root.entries
    assert entry.place == Place("f", 2, 1)
    assert isinstance(entry.value, Sequence)
    (item,) = entry.value.items
    assert isinstance(item, Mapping)
    assert item.entries[0].value.place == Place("f", 3, 8)


def test_column_counts_characters_not_bytes() -> None:
    with pytest.raises(SourceError) as caught:
        read("a: é\nbé: \x07".encode())
    assert caught.value.place == Place("f", 2, 5)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1),
        ("-0x1F", -31),
        ("017", 15),
        ("0b101", 5),
        ("1_000", 1000),
        ("1:30", "1:30"),
        ("1.5", 1.5),
        ("-.inf", float("-inf")),
        ("1:30.5", "1:30.5"),
        ("2026-11-21", "2026-11-21"),
        ("~", None),
        ("Off", False),
        ("=", "="),
        ("y", True),
        ("N", False),
        ("0o17", 15),
        ("0X1F", 31),
        ("08", 8.0),
        ("12e45", 12e45),
        ("1e3", 1000.0),
        ("1e400", "1e400"),
        ("'12e45'", "12e45"),
        ('"y"', "y"),
        ("1.2.3", "1.2.3"),
        ("0x", "0x"),
        ("9" * 65, "9" * 65),
        ("!!str 5", "5"),
        ('!!int "5"', 5),
    ],
)
def test_scalar_is_read_as_kubernetes_reads_it(text: str, value: object) -> None:
    (node,) = read(text.encode())
    assert isinstance(node, Scalar)
    assert node.value == value


def test_depth_is_bounded() -> None:
    read(b"[" * DEPTH_MAX + b"]" * DEPTH_MAX)
    with pytest.raises(SourceError, match="nested deeper than 32"):
        read(b"[" * (DEPTH_MAX + 1) + b"]" * (DEPTH_MAX + 1))


def test_depth_through_aliases_is_bounded() -> None:
    lines = ["a0: &a0 []"] + [f"a{i}: &a{i} [*a{i - 1}]" for i in range(1, 40)]
    with pytest.raises(SourceError, match="nested deeper than 32"):
        read("\n".join(lines).encode())


def test_number_of_values_is_bounded() -> None:
    with pytest.raises(SourceError, match=f"more than {VALUES_MAX} values"):
        read(b"[" + b"x," * VALUES_MAX + b"]")


def test_bound_is_for_each_document() -> None:
    document = b"[" + b"x," * (VALUES_MAX // 2) + b"]\n"
    assert len(read(b"---\n".join([document] * 3))) == 3


def test_anchors_do_not_reach_into_the_next_document() -> None:
    with pytest.raises(SourceError, match="has no anchor"):
        read(b"a: &x 1\n---\nb: *x\n")


@pytest.mark.parametrize(
    "content",
    [
        b"[" * 1_000_000,
        b"{a: " * 250_000,
        b"- " * 500_000,
        b"? " * 500_000,
        b"&a " * 330_000,
        b"a: [" + b"*a," * 300_000,
        b'"' + b"\\x41" * 250_000 + b'"',
        b"x" * 1_000_000,
        b"!" * 1_000_000,
        b"%" * 1_000_000,
        b"\n" * 1_000_000,
    ],
    ids=lambda content: repr(content[:5]),
)
def test_largest_hostile_file_ends_soon(content: bytes) -> None:
    started = time.process_time()
    read_and_check(content)
    assert time.process_time() - started < 20


def test_message_repeats_a_value_short_and_printable() -> None:
    assert shown("a" * 100) == '"' + "a" * 55 + '..."'
    assert shown("\x1b[31m") == '"\\u001b[31m"'
    assert shown(5) == "5"


def test_field_of_an_odd_key_is_quoted() -> None:
    assert child_field("spec", "a b") == 'spec["a b"]'
    assert child_field("", "spec") == "spec"
    assert child_field("spec.list", 3) == "spec.list[3]"


@pytest.mark.parametrize(
    ("slip", "meant"), [("raed", "read"), ("Read", "read"), ("memory-write", "memory_write")]
)
def test_slip_is_recognised(slip: str, meant: str) -> None:
    assert did_you_mean(slip, ["read", "write", "memory_write"]) == meant


def test_nothing_is_guessed_from_afar() -> None:
    assert did_you_mean("quux", ["read", "write"]) is None
