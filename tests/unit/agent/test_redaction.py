# SPDX-License-Identifier: Apache-2.0
"""What a policy takes out is taken out, whatever the text; what fails is withheld (G2, G5)."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from random import Random

import pytest
import zstandard
from headwater_agent.layout import TEXT_DATA_MAX, TextMark
from headwater_agent.pipeline import SlotBinding
from headwater_agent.redaction import MARGIN_BYTES, Piece, Redactor, redactor_of
from headwater_prov.reading import parse_document
from headwater_prov.redaction import Redaction, RedactionRule
from headwater_prov.vocabulary import GapReason, Relation
from hypothesis import given
from hypothesis import strategies as st

from bench.pipeline.simulation import SimulatedKernel
from tests.unit.agent.harness import KEYS, Fed, feed, graphs, validate
from tests.unit.agent.test_pipeline import captured, ledger

BUILTIN = redactor_of(Redaction())
NONE = redactor_of(Redaction(builtin=False))


def own(*rules: RedactionRule, builtin: bool = False, max_bytes: int = 4096) -> Redactor:
    return Redactor(Redaction(builtin, rules), max_bytes)


def joined(texts: Sequence[bytes]) -> bytes:
    return b"".join(text + b"\0" for text in texts)


def arguments(*texts: bytes, redactor: Redactor = BUILTIN) -> list[tuple[bytes, str]]:
    pieces = redactor.arguments(joined(texts), 0)
    assert not any(piece.truncated for piece in pieces)
    return [(piece.text, piece.rule) for piece in pieces]


@pytest.mark.parametrize(
    ("texts", "seen"),
    [
        ([b"psql", b"--password=pw", b"-l"], [b"psql", b"--password=[redacted]", b"-l"]),
        ([b"x", b"--db-password", b"pw", b"-l"], [b"x", b"--db-password", b"[redacted]", b"-l"]),
        ([b"x", b"--token", b"-pw"], [b"x", b"--token", b"[redacted]"]),
        ([b"x", b"-token", b"pw"], [b"x", b"-token", b"[redacted]"]),
        ([b"x", b"--token"], [b"x", b"--token"]),
        ([b"x", b"token", b"seen"], [b"x", b"token", b"seen"]),
        ([b"env", b"PGPASSWORD=pw", b"psql"], [b"env", b"PGPASSWORD=[redacted]", b"psql"]),
        ([b"java", b"-Ddb.password=pw"], [b"java", b"-Ddb.password=[redacted]"]),
        ([b"k", b"--from-literal=api_key=pw"], [b"k", b"--from-literal=api_key=[redacted]"]),
        ([b"sh", b"-c", b"A_TOKEN=pw run; rest"], [b"sh", b"-c", b"A_TOKEN=[redacted]"]),
        ([b"sh", b"-c", b"x --secret pw rest"], [b"sh", b"-c", b"x --secret [redacted]"]),
        ([b"sh", b"-c", b"a=1 b=2"], [b"sh", b"-c", b"a=1 b=2"]),
        ([b"psql", b"postgres://me:pw@db/x"], [b"psql", b"postgres://me:[redacted]"]),
        ([b"curl", b"http://db:8080/x?y=1"], [b"curl", b"http://db:8080/x?y=1"]),
        ([b"x", b"mysql://me:p/w@db"], [b"x", b"mysql://me:[redacted]"]),
        ([b"curl", b"-H", b"authorization: x"], [b"curl", b"-H", b"authorization: [redacted]"]),
        ([b"x", b"-----BEGIN RSA PRIVATE KEY-----\npw"], [b"x", b"[redacted]"]),
        ([b"x", b"eyJhbGciOiJ9.eyJzdWIiOjEyMyJ9.pw"], [b"x", b"[redacted]"]),
        ([b"x", b"ghp_abcdef"], [b"x", b"[redacted]"]),
        (
            [b"", b"", b"--password=", b"\xff\xfe"],
            [b"", b"", b"--password=[redacted]", b"\xff\xfe"],
        ),
        ([b"--password", b"seen"], [b"--password", b"seen"]),  # the program's own name
    ],
)
def test_what_is_built_in(texts: list[bytes], seen: list[bytes]) -> None:
    found = arguments(*texts)
    assert [text for text, _ in found] == seen
    for before, (after, rule) in zip(texts, found, strict=True):
        assert (before == after) is (rule == "")
        assert rule == "" or rule.startswith("builtin-")


def test_what_is_built_in_can_be_left_out() -> None:
    texts = [b"psql", b"--password=pw", b"postgres://me:pw@db/x"]
    assert [text for text, _ in arguments(*texts, redactor=NONE)] == texts


def environment(*texts: bytes, redactor: Redactor = BUILTIN) -> list[bytes]:
    return [piece.text for piece in redactor.environment(joined(texts), 0)]


def test_environment_keeps_names() -> None:
    assert environment(
        b"PATH=/bin",
        b"PWD=/tmp",
        b"AWS_SECRET_ACCESS_KEY=pw",
        b"mysql_pwd=pw",
        b"DATABASE_URL=postgres://me:pw@db/x",
        b"JAVA_OPTS=-Xmx1g -Dpassword=pw",
        b"no-variable",
        b"=odd",
    ) == [
        b"PATH=/bin",
        b"PWD=/tmp",
        b"AWS_SECRET_ACCESS_KEY=[redacted]",
        b"mysql_pwd=[redacted]",
        b"DATABASE_URL=postgres://me:[redacted]",
        b"JAVA_OPTS=-Xmx1g -Dpassword=[redacted]",
        b"no-variable",
        b"=odd",
    ]


def test_own_rules_name_themselves_and_the_earliest_wins() -> None:
    redactor = own(
        RedactionRule("late", pattern="c+"),
        RedactionRule("group", pattern="b(c)|zzz"),
        RedactionRule("name", variable="d?n"),
    )
    assert arguments(b"", b"abcc", redactor=redactor) == [(b"", ""), (b"ab[redacted]", "late")]
    assert arguments(b"", b"azzz", redactor=redactor)[1] == (b"a[redacted]", "group")
    assert arguments(b"", b"DSN=x", redactor=redactor)[1] == (b"DSN=[redacted]", "name")
    assert arguments(b"", b"MY_DSN=x", redactor=redactor)[1] == (b"MY_DSN=x", "")


def test_a_variable_is_a_glob_and_no_expression() -> None:
    redactor = own(RedactionRule("dots", variable="a.b*"))
    assert environment(b"axb=1", b"A.BC=1", redactor=redactor) == [b"axb=1", b"A.BC=[redacted]"]


def test_a_star_leaves_names_only() -> None:
    redactor = own(RedactionRule("all", variable="*"))
    assert environment(b"A=1", b"B=a=b", redactor=redactor) == [b"A=[redacted]", b"B=[redacted]"]


@pytest.mark.parametrize("pattern", ["^pw", "pw$", r"\Apw\z", r"\bpw\b", r"\Bw", "(?m)^pw$", "p."])
def test_anchors_are_of_one_text(pattern: str) -> None:
    redactor = own(RedactionRule("it", pattern=pattern))
    found = arguments(b"run", b"pw", b"other", redactor=redactor)
    assert [rule for _, rule in found] == ["", "it", ""]


def test_no_rule_looks_from_one_text_into_the_next() -> None:
    redactor = own(RedactionRule("it", pattern=r"a\s+b"))
    assert [rule for _, rule in arguments(b"x", b"a", b"b", b"a b", redactor=redactor)] == [
        "",
        "",
        "",
        "it",
    ]


SECRET = b"Zm9vYmFyLXNlY3JldA"


@given(
    before=st.lists(st.binary(max_size=20).filter(lambda text: b"\0" not in text), max_size=5),
    name=st.sampled_from([b"TOKEN", b"my-password", b"X_API_KEY", b"client.secret"]),
    form=st.sampled_from(["equals", "option", "url", "variable"]),
    after=st.lists(st.binary(max_size=20).filter(lambda text: b"\0" not in text), max_size=5),
)
def test_no_secret_of_a_known_form_is_seen_among_any_others(
    before: list[bytes], name: bytes, form: str, after: list[bytes]
) -> None:
    texts = {
        "equals": [b"--" + name + b"=" + SECRET],
        "option": [b"--" + name, SECRET],
        "url": [b"amqp://user:" + SECRET + b"@host/"],
        "variable": [name + b"=" + SECRET],
    }[form]
    data = joined([b"program", *before, *texts, *after])
    assert SECRET not in b"".join(piece.text for piece in BUILTIN.arguments(data, 0))
    if form != "option":
        assert SECRET not in b"".join(piece.text for piece in BUILTIN.environment(data, 0))


@given(st.binary(max_size=300), st.booleans())
def test_whatever_is_not_taken_out_is_as_it_was(data: bytes, cut: bool) -> None:
    marks = TextMark.TRUNCATED if cut else TextMark(0)
    for pieces in (NONE.arguments(data, marks), NONE.environment(data, marks)):
        texts = data.removesuffix(b"\0").split(b"\0") if data else []
        assert [piece.text for piece in pieces[:-1]] == texts[:-1]
        if texts and (not cut or data.endswith(b"\0")):
            assert pieces[-1].text == texts[-1]


def test_a_text_that_the_kernel_cut_lacks_what_a_rule_could_not_see() -> None:
    """What begins before the cut and ends behind it is not seen in part."""
    address = b"postgres://me:" + b"p" * 200
    data = b"x\0" + b"y" * (TEXT_DATA_MAX - 2 - len(address)) + address
    (first, last) = BUILTIN.arguments(data, TextMark.TRUNCATED)
    assert first == Piece(b"x")
    assert last.truncated and b"p" * 10 not in last.text
    assert len(last.text) == TEXT_DATA_MAX - 2 - MARGIN_BYTES


def test_a_cut_text_whose_secret_is_found_says_both() -> None:
    (_, last) = BUILTIN.arguments(b"x\0--password=" + b"p" * 4000, TextMark.TRUNCATED)
    assert last == Piece(b"--password=[redacted]", "builtin-name", True)


@pytest.mark.parametrize(
    ("texts", "most", "seen"),
    [
        ([b"abc", b"def"], 16, [Piece(b"abc"), Piece(b"def")]),
        ([b"abcdefgh", b"ijklmnop"], 16, [Piece(b"abcdefgh"), Piece(b"ijklmno", "", True)]),
        ([b"abcdefghijklmnop"], 16, [Piece(b"abcdefghijklmnop")]),
        ([b"abcdefghijklmnop", b"q"], 16, [Piece(b"abcdefghijklmnop", "", True)]),
        ([b"abcdefghijklmno", b"q"], 16, [Piece(b"abcdefghijklmno", "", True)]),
        ([b"PASSWORD=" + b"x" * 100], 16, [Piece(b"PASSWORD=[redact", "builtin-name", True)]),
    ],
)
def test_bound_is_of_what_is_left(texts: list[bytes], most: int, seen: list[Piece]) -> None:
    redactor = redactor_of(Redaction(), most)
    assert redactor.arguments(joined(texts), 0) == seen
    assert redactor.environment(joined(texts), 0) == seen


HOSTILE = (
    r"(?:a*)*b",
    r"(a|a|a)*b",
    "(" + "a*" * 60 + ")b",
    "(?:[ab]*a" + "[ab]" * 20 + ")c",
    "(?:x+x+)+y",
    ".*.*.*.*.*.*.*.*=",
)


@pytest.mark.parametrize("data", [b"a" * TEXT_DATA_MAX, b"ab\0" * 1370, b"x\0" * 2056])
def test_no_expression_holds_up_the_agent(data: bytes) -> None:
    """Backtracking engines need longer than the universe has for some of these."""
    redactor = own(
        *(RedactionRule(f"r{n}", pattern=pattern) for n, pattern in enumerate(HOSTILE)),
        builtin=True,
    )
    begun = time.process_time()
    for _ in range(10):
        redactor.arguments(data, 0)
        redactor.environment(data, 0)
    assert time.process_time() - begun < 30


def test_verdicts_are_kept_within_bounds() -> None:
    redactor = Redactor(Redaction())
    for number in range(10_000):
        redactor.environment(b"A=%d\0" % number, 0)
    assert len(redactor._known) <= 2048


class Failing(Redactor):
    """Fails as an engine would that has no memory."""

    def __init__(self, when: Callable[[bytes], bool]) -> None:
        super().__init__(Redaction())
        self._when = when

    def arguments(self, data: bytes, marks: int) -> list[Piece]:
        if self._when(data):
            raise MemoryError(data)
        return super().arguments(data, marks)


def text_of(fed: Fed) -> bytes:
    return b"".join(zstandard.decompress(batch.payload) for batch in fed.batches)


def test_g2_a_redaction_that_fails_withholds_the_text_and_says_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    kernel = SimulatedKernel(Random(1))
    fed = feed(kernel, {1: "alpha", 2: "beta"}, lambda: None)
    kernel.arguments(kernel.process(0, 1, 1), b"before")
    fed.read()
    fed.pipeline._redactors[1] = Failing(lambda data: b"unlucky" in data)
    for slot in (1, 2):
        kernel.arguments(kernel.process(0, slot, 10 + slot), b"run", b"unlucky-secret")
        kernel.arguments(kernel.process(0, slot, 20 + slot), b"run", b"after")
    kernel.used(kernel.process(0, 1, 31), Relation.READ, kernel.inode(0, 1, "/file"))
    fed.finish()
    texts = {
        tenant: b"".join(zstandard.decompress(b.payload) for b in graphs(fed.batches, tenant))
        for tenant in ("alpha", "beta")
    }
    assert b'"before"' in texts["alpha"] and b'"after"' in texts["alpha"]
    assert b"unlucky" not in texts["alpha"] and b"unlucky" in texts["beta"]
    found = [
        gap
        for batch in fed.batches
        if batch.tenant == "alpha" and batch.klass == "gap"
        for gap in parse_document(zstandard.decompress(batch.payload)).gaps
    ]
    assert [(gap.reason, gap.last - gap.first + 1) for gap in found] == [(GapReason.REDACTION, 1)]
    assert fed.pipeline.withheld == {"alpha": 1}
    delivered, declared = ledger(fed.batches, "alpha")
    assert (delivered + declared, declared) == (captured(fed, [1]), 1)
    validate(fed.batches, "alpha")
    assert "unlucky" not in caplog.text and "MemoryError" in caplog.text


def test_each_slot_has_its_own_rules_and_an_edit_takes_effect_with_its_epoch() -> None:
    kernel = SimulatedKernel(Random(1))
    fed = feed(kernel, {1: "alpha", 2: "alpha"}, lambda: None)
    strict = Redaction(rules=(RedactionRule("mine", pattern="plain"),))
    one, two = kernel.process(0, 1, 1), kernel.process(0, 2, 2)
    last = kernel.process(0, 1, 3)
    fed.pipeline.bind(SlotBinding(1, "alpha", 77, "strict", redaction=strict), KEYS["alpha"])
    kernel.arguments(one, b"x", b"plain-before")
    kernel.set_epoch(1, 77)
    kernel.arguments(last, b"x", b"plain-hidden")
    kernel.arguments(two, b"x", b"plain-of-the-other")
    fed.finish()
    text = text_of(fed)
    assert b"plain-before" in text and b"plain-of-the-other" in text
    assert b"plain-hidden" not in text and b'"hw:redacted":"mine"' in text


def test_environment_is_rendered_as_arguments_are() -> None:
    kernel = SimulatedKernel(Random(1))

    def work() -> None:
        who = kernel.process(0, 1, 1)
        kernel.environment(who, b"HOME=/root", b"A_TOKEN=pw")

    fed = feed(kernel, {1: "alpha"}, work)
    text = text_of(fed)
    assert b'"cf:envp"' in text and b'"cf:value":"HOME=/root"' in text
    assert b'"cf:value":"A_TOKEN=[redacted]","hw:redacted":"builtin-name"' in text
    assert text.count(b'"cf:env"') == 2 and b"pw" not in text
    validate(fed.batches, "alpha")
