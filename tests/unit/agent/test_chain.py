# SPDX-License-Identifier: Apache-2.0
"""G7: every message has its place, keeps it, and a chain knows the one before it."""

import itertools
from pathlib import Path

import pytest
import zstandard
from headwater_agent.batch import Batch
from headwater_agent.chain import Chains
from headwater_agent.chain_heads import ChainHeads
from headwater_agent.node import NodeIdentity
from headwater_agent.node_key import NodeKey
from headwater_agent.settings import ChainSettings
from headwater_prov.checkpoint import ChainHead, Checkpoint, parse_checkpoint
from headwater_prov.signing import (
    NO_DIGEST,
    ChainLink,
    is_signature,
    parse_signature,
    parse_voids,
    signed_text,
    text_digest,
)
from headwater_prov.stream import subject
from headwater_prov.vocabulary import RecordClass

KEY = NodeKey.generate()


def node(load: bytes = b"load-one") -> NodeIdentity:
    return NodeIdentity(bytes(16), bytes(range(16)), load)


def batch(number: int, *, load: bytes = b"load-one", klass: str = "graph") -> Batch:
    headers = {"Nats-Msg-Id": f"m-{number}", "Hw-Load": load.hex(), "Hw-Seq": f"{number}-{number}"}
    return Batch("shop", klass, b"payload %d" % number, headers, number, number)


def text(message: Batch) -> bytes:
    where = subject(node().token, RecordClass(message.klass))
    return signed_text(message.tenant, where, message.headers, message.payload)


def link(message: Batch) -> ChainLink:
    return ChainLink.parse(message.headers["Hw-Chain"])


def checkpoint(message: Batch) -> Checkpoint:
    return parse_checkpoint(zstandard.decompress(message.payload))


def test_messages_are_numbered_hashed_and_signed() -> None:
    chains = Chains(node(), KEY)
    made = [chains.checkpoint("shop"), *(chains.link(batch(n)) for n in range(1, 4))]
    assert [link(each).position for each in made] == [1, 2, 3, 4]
    assert link(made[0]).previous == NO_DIGEST
    for before, after in itertools.pairwise(made):
        assert link(after).previous == text_digest(text(before))
    for each in made:
        public, signature = parse_signature(each.headers["Hw-Sig"])
        assert public == KEY.public and is_signature(public, signature, text(each))


def test_tenants_have_chains_of_their_own() -> None:
    chains = Chains(node(), KEY)
    chains.link(batch(1))
    other = chains.checkpoint("zeta")
    assert link(other).position == 1 and checkpoint(other).sequence == 0


def test_settled_is_what_is_stored_without_a_hole() -> None:
    chains = Chains(node(), KEY)
    made = [chains.link(batch(n)) for n in range(1, 6)]
    for index, expected in ((1, 0), (0, 2), (3, 2), (2, 4)):
        chains.settle(made[index])
        assert link(chains.link(batch(9))).settled == expected


def test_void_places_are_settled_with_the_gap_that_declares_them() -> None:
    chains = Chains(node(), KEY)
    made = [chains.link(batch(n)) for n in range(1, 5)]
    chains.settle(made[0])
    gap = chains.link(batch(5, klass="gap"), [chains.void(made[2]), chains.void(made[1])])
    [void] = parse_voids(gap.headers["Hw-Void"])
    assert (void.first, void.last, void.digest) == (2, 3, text_digest(text(made[2])))
    chains.settle(made[3])
    assert link(chains.link(batch(6))).settled == 1
    chains.settle(gap)
    assert link(chains.link(batch(7))).settled == 5


def test_checkpoints_say_how_far_the_chain_is_and_when_the_next_one_comes() -> None:
    now = 10**18
    settings = ChainSettings(interval_s=60.0, idle_interval_s=900.0)
    chains = Chains(node(), KEY, settings=settings, statement="a.b", clock_ns=lambda: now)
    first = checkpoint(chains.checkpoint("shop"))
    chains.link(batch(7))
    now += 10**9
    second = checkpoint(chains.checkpoint("shop"))
    closing = checkpoint(chains.checkpoint("shop", is_closing=True))
    assert (first.position, first.sequence, first.previous) == (1, 0, None)
    assert first.due_ns == first.time_ns + 900 * 10**9
    assert (second.position, second.sequence, second.opened_ns) == (3, 7, first.time_ns)
    assert second.time_ns == now and second.statement == "a.b"
    assert closing.is_closed and not second.is_closed


def test_checkpoints_come_sooner_when_there_is_something_to_say() -> None:
    now = 100.0
    settings = ChainSettings(interval_s=60.0, idle_interval_s=900.0)
    chains = Chains(node(), KEY, settings=settings, clock=lambda: now)
    chains.checkpoint("shop")
    assert chains.due_at("shop") == 100.0 + 450.0
    chains.link(batch(1))
    assert chains.due_at("shop") == 160.0
    chains.state("new.statement")
    assert chains.due_at("shop") <= now
    chains.checkpoint("shop")
    assert chains.due_at("shop") > now


def test_the_next_load_names_the_chain_before_and_how_far_it_is(tmp_path: Path) -> None:
    first = Chains(node(), KEY, heads=ChainHeads(tmp_path))
    made = [first.link(batch(n)) for n in range(1, 5)]
    for each in (made[0], made[1], made[3]):
        first.settle(each)
    # No close: it was killed.
    second = Chains(node(b"load-two"), KEY, heads=ChainHeads(tmp_path))
    opening = second.checkpoint("shop")
    previous = checkpoint(opening).previous
    assert previous is not None
    assert (previous.load, previous.position) == (b"load-one".hex(), 2)
    assert previous.digest == text_digest(text(made[1]))
    # What was spooled is delivered now, and the next checkpoint knows of it.
    second.settle(opening)
    second.settle(made[2])
    second.settle(made[3])
    later = checkpoint(second.checkpoint("shop")).previous
    assert later is not None and later.position == 4
    third = Chains(node(b"load-tre"), KEY, heads=ChainHeads(tmp_path))
    last = checkpoint(third.checkpoint("shop")).previous
    assert last is not None and (last.load, last.position) == (b"load-two".hex(), 1)


def test_a_load_that_stored_nothing_leaves_the_one_before_named(tmp_path: Path) -> None:
    first = Chains(node(), KEY, heads=ChainHeads(tmp_path))
    made = [first.link(batch(n)) for n in (1, 2)]
    first.settle(made[0])
    second = Chains(node(b"load-two"), KEY, heads=ChainHeads(tmp_path))
    second.checkpoint("shop")
    second.settle(made[1])
    third = Chains(node(b"load-tre"), KEY, heads=ChainHeads(tmp_path))
    previous = checkpoint(third.checkpoint("shop")).previous
    assert previous is not None and (previous.load, previous.position) == (b"load-one".hex(), 2)


@pytest.mark.parametrize("damage", [b"", b"[1]", b"\xff" * 200, b"x", None])
def test_a_damaged_head_is_reported_and_taken_for_none(
    tmp_path: Path, damage: bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    heads = ChainHeads(tmp_path)
    heads.write("shop", ChainHead("a" * 16, 3, bytes(32), 7))
    assert heads.read("shop") == ChainHead("a" * 16, 3, bytes(32), 7)
    path = tmp_path / "chains" / "shop"
    assert path.stat().st_mode & 0o777 == 0o600
    path.write_bytes(path.read_bytes().replace(b"3", b"4") if damage is None else damage)
    assert heads.read("shop") is None
    assert "is damaged" in caplog.text
    heads.close()


def test_a_head_on_a_full_disk_is_reported_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "chains").write_text("in the way")
    heads = ChainHeads(tmp_path)
    for _ in range(3):
        heads.write("shop", ChainHead("a" * 16, 3, bytes(32), 7))
    assert caplog.text.count("cannot be written") == 1


def test_many_tenants_keep_few_files_open(tmp_path: Path) -> None:
    heads = ChainHeads(tmp_path)
    for turn in (1, 2):
        for number in range(101):
            heads.write(f"t{number}", ChainHead("a" * 16, turn, bytes(32), number))
    assert len(heads._open) <= 64
    read = [heads.read(f"t{number}") for number in range(101)]
    assert [head and head.time_ns for head in read] == list(range(101))
    heads.close()
