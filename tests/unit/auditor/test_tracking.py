# SPDX-License-Identifier: Apache-2.0
"""G2, G3: nothing is counted twice, and every hole is seen, in any order of arrival."""

import random

from headwater_auditor import BatchHeader, Tracker
from headwater_prov.stream import SequenceRange
from headwater_prov.vocabulary import RecordClass
from hypothesis import given
from hypothesis import strategies as st


def header(
    first: int, last: int, *, gap: bool = False, node: str = "nodea", load: str = "1" * 16
) -> BatchHeader:
    return BatchHeader(
        node=node,
        record_class=RecordClass.GAP if gap else RecordClass.GRAPH,
        message_id=f"{node}-{load}-{first}",
        load=load,
        numbers=SequenceRange(first, last),
        count=1,
        epoch="1",
        policy="",
        stream_sequence=0,
    )


def machine(message_id: str) -> BatchHeader:
    return BatchHeader("nodea", RecordClass.MACHINE, message_id, "1" * 16, None, 1, "1", "", 0)


@given(st.lists(st.tuples(st.integers(1, 9), st.booleans()), min_size=1), st.randoms())
def test_all_batches_in_any_order_and_repeated_balance(
    sizes: list[tuple[int, bool]], source: random.Random
) -> None:
    headers, at = [], 1
    for size, is_gap in sizes:
        headers.append(header(at, at + size - 1, gap=is_gap))
        at += size
    shuffled = headers + source.sample(headers, len(headers) // 2)
    source.shuffle(shuffled)
    tracker = Tracker()
    assert sum(tracker.admit(each) for each in shuffled) == len(headers)
    (balance,) = tracker.balances().values()
    assert tracker.is_even and balance.captured == at - 1
    assert balance.declared == sum(size for size, is_gap in sizes if is_gap)
    assert tracker.duplicates == len(shuffled) - len(headers)


@given(st.integers(0, 19))
def test_a_batch_left_out_is_a_hole(left_out: int) -> None:
    tracker = Tracker()
    for number in range(21):
        if number != left_out:
            tracker.admit(header(number * 7 + 1, number * 7 + 7))
    (balance,) = tracker.balances().values()
    assert not tracker.is_even
    assert balance.missing == (SequenceRange(left_out * 7 + 1, left_out * 7 + 7),)


def test_loads_and_nodes_have_accounts_of_their_own() -> None:
    tracker = Tracker()
    for each in (header(1, 5), header(1, 5, node="nodeb"), header(1, 5, load="2" * 16)):
        assert tracker.admit(each)
    assert len(tracker.balances()) == 3 and tracker.is_even


def test_from_the_middle_only_what_follows_is_expected() -> None:
    tracker = Tracker(from_start=False)
    tracker.admit(header(101, 110))
    tracker.admit(header(121, 130, gap=True))
    (balance,) = tracker.balances().values()
    assert (balance.captured, balance.delivered, balance.declared) == (30, 10, 10)
    assert balance.missing == (SequenceRange(111, 120),)


def test_machine_documents_are_told_apart_by_their_id() -> None:
    tracker = Tracker()
    assert [tracker.admit(machine(each)) for each in ("a", "b", "a")] == [True, True, False]
