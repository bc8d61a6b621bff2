# SPDX-License-Identifier: Apache-2.0
"""G7: honest streams pass whatever fails, and whatever an administrator of NATS does is found."""

import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
from headwater_agent.node_key import NodeKey
from headwater_auditor import StoredMessage
from headwater_auditor.verification import (
    ChainEnd,
    FindingKind,
    PositionRange,
    Report,
    Scope,
    Verdict,
    read_memory,
    render_memory,
)
from headwater_operator.accounts import KeyPair, Role
from headwater_prov.times import NANOSECONDS
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.auditor.simulated import (
    TENANT,
    Node,
    Stream,
    faulty,
    kinds,
    link,
    pairs_out_of_order,
    verifier,
    verify,
)

Kind = FindingKind


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Stream:
    """Two loads of one node, 23 documents each, with an opening and a closing checkpoint."""
    stream, node = Stream(), Node(tmp_path_factory.mktemp("node"))
    node.run(stream, 23)
    node.run(stream, 23)
    return stream


# -- what is honest --------------------------------------------------------------------------------


def test_an_honest_stream_is_intact(honest: Stream) -> None:
    report = verify(honest)
    assert report.verdict is Verdict.INTACT
    assert report.messages == 50 and report.delivered == 460 and report.declared == 0
    assert [chain.end for chain in report.chains] == [ChainEnd.CLOSED] * 2
    assert [chain.intact for chain in report.chains] == [(PositionRange(1, 25),)] * 2
    assert report.notes == ()


@settings(max_examples=20)
@given(st.integers(0, 10**9), st.lists(st.booleans(), min_size=1, max_size=3))
def test_whatever_fails_an_honest_stream_is_never_accused(seed: int, killed: list[bool]) -> None:
    """Refusals, lost messages, lost answers, spools and kills: no finding, and no doubt at last."""
    stream, random = Stream(), Random(seed)  # how much is asked of it depends on the timing
    with tempfile.TemporaryDirectory() as state:
        node = Node(Path(state))
        for is_killed in killed:
            node.run(
                stream,
                random.randrange(1, 30),
                decide=faulty(random, refuse=random.choice([0, 0.2, 0.6]), lose=0.2),
                random=random,
                killed=is_killed,
            )
        node.run(stream, 3)
    report = verify(stream)
    assert (report.findings, report.doubts) == ((), ())
    ends = {chain.end for chain in report.chains}
    assert ends <= {ChainEnd.CLOSED, ChainEnd.REPLACED}
    if not any(killed):
        assert ends == {ChainEnd.CLOSED}


@settings(max_examples=15)
@given(st.integers(0, 10**9))
def test_what_expired_is_no_finding(seed: int) -> None:
    """The stream drops its oldest messages by age: wherever that cuts, nothing is accused."""
    stream, random = Stream(), Random(seed)
    with tempfile.TemporaryDirectory() as state:
        node = Node(Path(state))
        for _ in range(2):
            node.run(stream, 12, decide=faulty(random, lose=0.3), random=random)
        node.run(stream, 5)
    for first in range(len(stream.messages) - 2):
        report = verify(stream.messages[first:])
        assert (report.findings, report.doubts) == ((), ())


def test_given_up_batches_are_void_and_declared(tmp_path: Path) -> None:
    stream, node = Stream(), Node(tmp_path)
    random = Random(3)
    node.run(stream, 41, decide=faulty(random, refuse=0.9, lose=0), random=random)
    node.run(stream, 1)
    report = verify(stream)
    voids = [message for message in stream.messages if "Hw-Void" in message.headers]
    assert voids, "nothing was offered, refused and given up: the test proves nothing"
    assert report.verdict is Verdict.INTACT
    [first, _] = report.chains
    assert first.declared > 0 and first.declared + first.delivered == 410
    assert {gap.reason for gap in first.gaps} == {"stream"}


def test_a_node_at_work_is_open_and_one_that_is_silent_is_a_doubt(tmp_path: Path) -> None:
    stream, node = Stream(), Node(tmp_path)
    node.run(stream, 5)
    working = stream.messages[:-1]  # as if it had not closed yet
    assert verify(working).verdict is Verdict.INTACT
    assert verify(working).chains[0].end is ChainEnd.OPEN
    late = Scope(now_ns=time.time_ns() + 1100 * NANOSECONDS)
    report = verify(working, scope=late)
    assert report.verdict is Verdict.NOT_PROVEN
    assert report.chains[0].end is ChainEnd.OVERDUE and "was due at" in report.doubts[0]


def test_a_node_whose_operator_is_not_named_is_a_doubt(honest: Stream) -> None:
    report = verify(honest, operators=())
    assert report.verdict is Verdict.NOT_PROVEN
    assert "name that one if it is yours" in report.doubts[0]


def test_nothing_is_not_intact() -> None:
    assert verify([]).verdict is Verdict.NOT_PROVEN


def test_a_part_is_judged_as_a_part(honest: Stream) -> None:
    part = honest.messages[7:15]
    report = verify(part, scope=Scope(False, False, time.time_ns()))
    # Its key is stated in checkpoints only, of which the part has none.
    assert report.findings == () and "no checkpoint is in this part" in report.doubts[0]
    part = honest.messages[15:40]
    report = verify(part, scope=Scope(False, False, time.time_ns()))
    assert report.verdict is Verdict.INTACT
    assert [chain.end for chain in report.chains] == [ChainEnd.CLOSED, ChainEnd.BEYOND]


# -- attacks ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("index", [0, 1, 7, 23, 24, 25, 26, 40])
def test_g7_one_dropped_message_is_found(honest: Stream, index: int) -> None:
    left = honest.messages[:index] + honest.messages[index + 1 :]
    report = verify(honest.rewritten(left))
    if index == 0:  # nothing older is left: as if it had expired
        assert report.findings == () and "begins at position 2" in report.notes[0]
        return
    assert kinds(report) <= {Kind.DROPPED, Kind.TRUNCATED} and report.findings
    [finding] = report.findings
    position = link(honest.messages[index]).position
    assert finding.positions == PositionRange(position, position) and finding.count == 1


@settings(max_examples=40)
@given(data=st.data())
def test_g7_any_run_dropped_behind_the_first_message_is_found(
    honest: Stream, data: st.DataObject
) -> None:
    """All but the last of them: then the end is behind what anybody knows, unless the chain before
    is asked for."""
    first = data.draw(st.integers(1, 48))
    last = data.draw(st.integers(first, 48))
    left = honest.messages[:first] + honest.messages[last + 1 :]
    report = verify(honest.rewritten(left))
    assert kinds(report) & {Kind.DROPPED, Kind.TRUNCATED}
    assert sum(finding.count for finding in report.findings) == last - first + 1


def test_g7_the_end_of_an_earlier_load_is_found(honest: Stream) -> None:
    report = verify(honest.rewritten(honest.messages[:20] + honest.messages[25:]))
    [finding] = report.findings
    assert finding.kind is Kind.TRUNCATED and finding.positions == PositionRange(21, 25)


def test_g7_a_whole_load_between_two_is_found(tmp_path: Path) -> None:
    stream, node = Stream(), Node(tmp_path)
    for _ in range(3):
        node.run(stream, 3)
    left = stream.messages[:5] + stream.messages[10:]
    [finding] = verify(stream.rewritten(left)).findings
    assert finding.kind is Kind.DROPPED and "whole chain" in finding.text
    assert finding.positions == PositionRange(1, 5)


def test_g7_the_beginning_of_a_later_load_is_found(honest: Stream) -> None:
    report = verify(honest.rewritten(honest.messages[:25] + honest.messages[30:]))
    [finding] = report.findings
    assert finding.kind is Kind.DROPPED and finding.positions == PositionRange(1, 5)


def changed(
    message: StoredMessage, *, payload: bytes | None = None, **headers: str | None
) -> StoredMessage:
    made = dict(message.headers)
    for name, value in headers.items():
        header = "Nats-Msg-Id" if name == "id" else "Hw-" + name.capitalize()
        if value is None:
            made.pop(header, None)
        else:
            made[header] = value
    return replace(message, headers=made, payload=message.payload if payload is None else payload)


def other_character(text: str, index: int) -> str:
    """The text with another character there, whatever stood there."""
    index %= len(text)
    return text[:index] + ("B" if text[index] == "A" else "A") + text[index + 1 :]


ALTERATIONS: dict[str, Callable[[StoredMessage], StoredMessage]] = {
    "payload": lambda m: changed(m, payload=m.payload[:-1] + bytes([m.payload[-1] ^ 1])),
    "empty": lambda m: changed(m, payload=b""),
    "numbers": lambda m: changed(m, seq="1-4000"),
    "count": lambda m: changed(m, count="7"),
    "epoch": lambda m: changed(m, epoch="2"),
    "policy": lambda m: changed(m, policy="another"),
    "encoding": lambda m: changed(m, encoding=None),
    "id": lambda m: changed(m, id="another"),
    "void": lambda m: changed(m, void="1-9 " + "a" * 64),
    "new header": lambda m: changed(m, secret="x"),
    "header in small": lambda m: replace(m, headers={**m.headers, "hw-seq": "1-9"}),
    "settled": lambda m: changed(m, chain=m.headers["Hw-Chain"].replace(" ", " 1", 1)),
    "class": lambda m: replace(m, subject=m.subject.replace("graph", "gap")),
    "node": lambda m: replace(m, subject=m.subject.replace("prov.v1.", "prov.v1.x")),
    "load": lambda m: changed(m, load="0" * 16),
    "chain gone": lambda m: changed(m, chain=None),
    "signature gone": lambda m: changed(m, sig=None),
    "signature damaged": lambda m: changed(m, sig=other_character(m.headers["Hw-Sig"], -40)),
    "signature's end damaged": lambda m: changed(m, sig=other_character(m.headers["Hw-Sig"], -1)),
    "load gone": lambda m: changed(m, load=None),
}


@pytest.mark.parametrize("what", ALTERATIONS)
def test_g7_whatever_is_altered_is_found(honest: Stream, what: str) -> None:
    index = 9
    altered = ALTERATIONS[what](honest.messages[index])
    assert altered != honest.messages[index]
    report = verify(
        honest.rewritten([*honest.messages[:index], altered, *honest.messages[index + 1 :]])
    )
    assert report.verdict is Verdict.TAMPERED
    assert kinds(report) & {Kind.ALTERED, Kind.FORGED}
    assert any(finding.sequence == index + 1 for finding in report.findings)
    if what in ("payload", "numbers", "policy"):
        # It is one thing that was done, so it is one finding.
        assert [finding.kind for finding in report.findings] == [Kind.ALTERED]
    # What is left is still known to be good.
    assert report.chains[0].intact == (PositionRange(1, 9), PositionRange(11, 25))


@settings(max_examples=60)
@given(data=st.data())
def test_g7_any_changed_byte_of_a_payload_or_signed_header_is_found(
    honest: Stream, data: st.DataObject
) -> None:
    index = data.draw(st.integers(1, 48))
    message = honest.messages[index]
    names = ["payload", *(name for name in message.headers if name.startswith("Hw-"))]
    name = data.draw(st.sampled_from(sorted(names)))
    raw = message.payload if name == "payload" else message.headers[name].encode()
    at = data.draw(st.integers(0, len(raw) - 1))
    made = raw[:at] + bytes([raw[at] ^ data.draw(st.integers(1, 127))]) + raw[at + 1 :]
    if name == "payload":
        altered = replace(message, payload=made)
    else:
        altered = replace(message, headers={**message.headers, name: made.decode("latin-1")})
    report = verify([*honest.messages[:index], altered, *honest.messages[index + 1 :]])
    assert report.verdict is Verdict.TAMPERED
    assert kinds(report) & {Kind.ALTERED, Kind.FORGED}


@settings(max_examples=20)
@given(st.integers(0, 10**6))
def test_g7_two_messages_that_no_fault_exchanges_are_found(honest: Stream, which: int) -> None:
    messages, pairs = honest.messages, list(pairs_out_of_order(honest.messages))
    i, j = pairs[which % len(pairs)]
    swapped = list(messages)
    swapped[i], swapped[j] = messages[j], messages[i]
    report = verify(honest.rewritten(swapped))
    assert Kind.REORDERED in kinds(report), report


def test_g7_a_message_moved_to_the_end_is_found(honest: Stream) -> None:
    moved = [*honest.messages[:5], *honest.messages[6:], honest.messages[5]]
    [finding] = verify(honest.rewritten(moved)).findings
    assert finding.kind is Kind.REORDERED and finding.sequence == 50


def test_g7_a_message_stored_again_is_found(honest: Stream) -> None:
    again = [*honest.messages, honest.messages[5]]
    [finding] = verify(honest.rewritten(again)).findings
    assert finding.kind is Kind.DUPLICATED and finding.sequence == 51
    assert finding.positions == PositionRange(6, 6)


def test_g7_a_message_signed_by_nobody_is_found(honest: Stream) -> None:
    forged = changed(honest.messages[5], sig=None, id="new", seq="900-905")
    [finding] = verify(honest.rewritten([*honest.messages, forged])).findings
    assert finding.kind is Kind.FORGED and "nobody signed it" in finding.text


def test_g7_what_is_no_message_at_all_is_found(honest: Stream) -> None:
    junk = StoredMessage(1, 1, "prov.v1.x.graph", {}, b"junk")
    strange = StoredMessage(1, 1, "other", {"Hw-Sig": "x"}, b"")
    report = verify(honest.rewritten([*honest.messages, junk, strange]))
    assert [finding.kind for finding in report.findings] == [Kind.FORGED] * 2


def test_g7_a_stranger_who_signs_as_the_node_is_found(honest: Stream, tmp_path: Path) -> None:
    """Everything right but the key: with a statement of nobody, of a strange operator, or the
    node's own taken over."""
    real = Node(tmp_path / "real")
    for statement_of in (None, KeyPair.generate(Role.OPERATOR)):
        stranger, stream = Node(tmp_path, operator=statement_of), Stream(list(honest.messages))
        stranger.loads = 7
        stranger.run(stream, 5)
        report = verify(stream)
        assert kinds(report) == {Kind.FORGED}
        assert "no trusted operator states" in report.findings[0].text
        assert report.delivered == 460
    thief, stream = Node(tmp_path, key=NodeKey.generate()), Stream(list(honest.messages))
    thief.statement, thief.loads = real.statement, 7
    thief.run(stream, 5)
    assert kinds(verify(stream)) == {Kind.FORGED}


def test_g7_a_node_that_speaks_for_another_is_found(honest: Stream, tmp_path: Path) -> None:
    """A node that was taken over has a key that is stated, as its own."""
    bad, other = Node(tmp_path, machine=9), Stream()
    bad.run(other, 3)
    victim = honest.messages[0].subject.split(".")[2]
    moved = [replace(m, subject=m.subject.replace(bad.token, victim)) for m in other.messages]
    assert kinds(verify(honest.rewritten([*honest.messages, *moved]))) == {Kind.FORGED}
    as_victim, stream = Node(tmp_path, key=bad.key), Stream(list(honest.messages))
    as_victim.statement, as_victim.loads = bad.statement, 7
    as_victim.run(stream, 3)
    assert kinds(verify(stream)) == {Kind.FORGED}


def test_g7_another_tenants_messages_are_found(honest: Stream, tmp_path: Path) -> None:
    node, other = Node(tmp_path, machine=9), Stream()
    node.run(other, 3, tenant="zeta")
    assert verify(other, tenant="zeta").verdict is Verdict.INTACT
    report = verify(honest.rewritten([*honest.messages, *other.messages]))
    assert kinds(report) == {Kind.FORGED} and len(report.findings) == 5
    assert verify(other, tenant=TENANT).verdict is Verdict.TAMPERED


def test_g7_messages_of_a_chain_that_is_closed_are_found(honest: Stream, tmp_path: Path) -> None:
    """Whoever has stolen the node's key signs on where the node has stopped."""
    key, stream = NodeKey.generate(), Stream()
    node = Node(tmp_path / "a", key=key)
    (tmp_path / "a").mkdir()
    node.run(stream, 3)
    thief, forged = Node(tmp_path / "b", key=key), Stream()
    (tmp_path / "b").mkdir()
    thief.run(forged, 9)
    report = verify(stream.rewritten([*stream.messages, *forged.messages]))
    assert Kind.FORKED in kinds(report)
    texts = " ".join(finding.text for finding in report.findings)
    assert "signed two different messages for position 2" in texts
    assert "was closed at position 5 and goes on" in texts


def test_g7_a_chain_exchanged_for_another_of_the_same_key_is_found(tmp_path: Path) -> None:
    """The node's next chain remembers which one it was."""
    key = NodeKey.generate()
    streams = []
    for name in ("real", "forged"):
        (tmp_path / name).mkdir()
        stream, node = Stream(), Node(tmp_path / name, key=key)
        node.run(stream, 3, records=10 if name == "real" else 11)
        node.run(stream, 3)
        streams.append(stream.messages)
    real, forged = streams
    report = verify(Stream().rewritten([*forged[:5], *real[5:]]))
    assert kinds(report) == {Kind.FORKED}
    assert "is not the message that the node remembers" in report.findings[0].text


def test_g7_records_lost_in_silence_are_found(tmp_path: Path) -> None:
    stream, node = Stream(), Node(tmp_path)
    node.run(stream, 3, silent=2)
    report = verify(stream)
    assert [finding.kind for finding in report.findings] == [Kind.UNDECLARED] * 2
    assert "11-12" in report.findings[0].text


def test_g7_a_beginning_made_anew_with_the_nodes_key_does_not_join(tmp_path: Path) -> None:
    """What the node itself has signed later is chained to what was really there."""
    key, made = NodeKey.generate(), []
    for records in (10, 11):
        directory = tmp_path / str(records)
        directory.mkdir()
        stream = Stream()
        Node(directory, key=key).run(stream, 9, records=records)
        made.append(stream.messages)
    real, forged = made
    report = verify(Stream().rewritten([*forged[:5], *real[5:]]))
    assert Kind.FORKED in kinds(report)
    assert "position 6 is chained to another message" in report.findings[0].text


# -- what an earlier verification remembers --------------------------------------------------------


def remembered(stream: Stream, later: list[StoredMessage]) -> Report:
    memory = verifier(stream).remember(time.time_ns())
    return verify(later, memory=read_memory(render_memory(memory), "file"))


def test_g7_an_end_that_was_seen_before_is_missed(honest: Stream) -> None:
    # The closing checkpoint goes as well: without a memory the node would just seem to be at work.
    cut = honest.messages[:40]
    assert verify(cut).verdict is Verdict.INTACT
    report = remembered(honest, cut)
    assert kinds(report) == {Kind.TRUNCATED}
    assert {finding.positions for finding in report.findings} == {PositionRange(16, 25), None}


def test_g7_a_chain_that_was_seen_before_is_missed(honest: Stream, tmp_path: Path) -> None:
    stream = Stream(list(honest.messages))
    Node(tmp_path, machine=9).run(stream, 3)
    cut = [*honest.messages, honest.messages[-1]][:50]
    report = remembered(stream, cut)
    assert "the whole chain is missing" in " ".join(each.text for each in report.findings)


def test_what_expired_since_is_not_missed(honest: Stream) -> None:
    report = remembered(honest, honest.messages[30:])
    assert report.findings == ()
    assert any("older than what the stream keeps now" in note for note in report.notes)


def test_g7_a_history_that_was_rewritten_with_the_nodes_key_is_found(tmp_path: Path) -> None:
    key, made = NodeKey.generate(), []
    for records in (10, 11):
        directory = tmp_path / str(records)
        directory.mkdir()
        stream = Stream()
        Node(directory, key=key).run(stream, 5, records=records)
        made.append(stream)
    assert verify(made[1]).verdict is Verdict.INTACT
    report = remembered(made[0], made[1].messages)
    assert kinds(report) == {Kind.FORKED}
    assert "at the last verification" in report.findings[0].text


def test_nothing_has_changed_since(honest: Stream) -> None:
    assert remembered(honest, honest.messages).verdict is Verdict.INTACT


# -- size ------------------------------------------------------------------------------------------


def test_a_flood_of_junk_is_counted_and_not_kept(honest: Stream) -> None:
    junk = StoredMessage(1, 1, "prov.v1.x.graph", {}, b"junk")
    report = verify(honest.rewritten([*honest.messages, *[junk] * 3000]))
    assert len(report.findings) == 1001
    assert sum(finding.count for finding in report.findings) == 3000
