# SPDX-License-Identifier: Apache-2.0
"""G2: the account finds every number that is neither delivered nor declared, and no other."""

import pytest
from headwater_prov.balance import Balance, Ledger, balance
from headwater_prov.stream import SequenceRange
from hypothesis import given
from hypothesis import strategies as st

ranges = st.builds(
    lambda first, count: SequenceRange(first, first + count - 1),
    st.integers(1, 40),
    st.integers(1, 9),
)


def holes(numbers: set[int], last: int) -> list[int]:
    return [number for number in range(1, last + 1) if number not in numbers]


@given(st.lists(st.tuples(ranges, st.booleans()), max_size=12), st.none() | st.integers(50, 60))
def test_g2_account_agrees_with_counting_one_by_one(
    entries: list[tuple[SequenceRange, bool]], captured: int | None
) -> None:
    ledger = Ledger()
    seen: dict[int, bool] = {}
    for numbers, is_gap in entries:
        ledger.add(numbers, is_gap=is_gap)
        for number in range(numbers.first, numbers.last + 1):
            seen.setdefault(number, is_gap)
    account = ledger.balance(captured)
    last = max(seen, default=0) if captured is None else captured
    assert account.captured == last
    assert account.delivered == sum(not is_gap for is_gap in seen.values())
    assert account.declared == sum(seen.values())
    missing = [n for hole in account.missing for n in range(hole.first, hole.last + 1)]
    assert missing == holes(set(seen), last)
    assert account.repeated == sum(numbers.count for numbers, _ in entries) - len(seen)
    assert account.is_even == (not missing)


def test_contiguous_batches_and_gaps_are_even() -> None:
    account = balance([SequenceRange(1, 10), SequenceRange(14, 20)], [SequenceRange(11, 13)], 20)
    assert account == Balance(captured=20, delivered=17, declared=3)
    assert account.is_even
    assert str(account) == "captured 20, delivered 17, declared lost 3"


def test_g2_records_missing_at_the_end_are_found_by_the_kernels_count() -> None:
    account = balance([SequenceRange(1, 10)], [], captured=12)
    assert not account.is_even
    assert account.missing == (SequenceRange(11, 12),)
    assert str(account).endswith("declared lost 0, missing 2 (11-12)")


@pytest.mark.parametrize("captured", [None, 0])
def test_nothing_captured_is_even(captured: int | None) -> None:
    assert balance([], [], captured).is_even


def test_more_delivered_than_captured_is_not_even() -> None:
    assert not balance([SequenceRange(1, 10)], [], captured=9).is_even


def test_a_batch_that_comes_late_closes_its_hole() -> None:
    ledger = Ledger()
    for first, last in ((1, 5), (11, 20), (6, 10), (6, 10)):
        ledger.add(SequenceRange(first, last))
    assert ledger.balance() == Balance(captured=20, delivered=20, repeated=5)
