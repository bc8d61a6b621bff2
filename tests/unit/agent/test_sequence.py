# SPDX-License-Identifier: Apache-2.0
"""The exact rule: each number is seen, or declared lost once, never both and never neither."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random

from headwater_agent.layout import Loss
from headwater_agent.sequence import REASONS, SequenceTracker
from headwater_prov.vocabulary import GapReason
from hypothesis import given
from hypothesis import strategies as st


@dataclass
class Cpu:
    captured: int = 0
    lost: list[int] = field(default_factory=lambda: [0] * len(Loss))


def see(tracker: SequenceTracker, numbers: list[int], slot: int = 1, cpu: int = 0) -> list[int]:
    """As the walker does; returns the numbers that count."""
    counted = []
    for number in numbers:
        if number & 0xFFFFFFFF == int(tracker.high[slot, cpu]) + 1 & 0xFFFFFFFF:
            tracker.high[slot, cpu] += 1
            counted.append(number)
        elif tracker.unexpected(slot, cpu, number & 0xFFFFFFFF):
            counted.append(number)
    return counted


def test_every_reason_of_the_kernel_has_a_word() -> None:
    assert [REASONS[loss] for loss in Loss] == list(GapReason)[: len(Loss)]


def test_missing_number_is_not_lost_before_it_is_settled() -> None:
    tracker = SequenceTracker(1)
    assert see(tracker, [1, 2, 5]) == [1, 2, 5]
    assert tracker.missing(1) == 2
    assert see(tracker, [3]) == [3]
    assert tracker.settle(1, [Cpu(5, [1, 0, 0, 0, 0, 0, 0])]) == {GapReason.RING: 1}
    assert tracker.settle(1, [Cpu(5, [1, 0, 0, 0, 0, 0, 0])]) == {}


def test_number_beyond_the_counter_is_not_lost_yet() -> None:
    """Records that arrive after the counters were read prove nothing about those in between."""
    tracker = SequenceTracker(1)
    see(tracker, [1, 9])
    assert tracker.settle(1, [Cpu(4)]) == {GapReason.UNEXPLAINED: 3}
    assert tracker.missing(1) == 4
    assert see(tracker, [5, 8]) == [5, 8]
    assert tracker.settle(1, [Cpu(9, [0, 0, 0, 2, 0, 0, 0])]) == {GapReason.CONTENTION: 2}


def test_losses_at_the_end_are_found_without_a_later_record() -> None:
    tracker = SequenceTracker(2)
    assert tracker.settle(1, [Cpu(3, [3, 0, 0, 0, 0, 0, 0]), Cpu(2, [0, 2, 0, 0, 0, 0, 0])]) == {
        GapReason.RING: 3,
        GapReason.STORAGE: 2,
    }
    assert see(tracker, [4]) == [4]


def test_record_after_its_number_was_declared_lost_is_dropped_and_counted() -> None:
    tracker = SequenceTracker(1)
    tracker.settle(1, [Cpu(3)])
    assert see(tracker, [2]) == []
    assert tracker.statistics.late == 1


def test_record_that_comes_twice_counts_once() -> None:
    tracker = SequenceTracker(1)
    assert see(tracker, [1, 2, 2, 1]) == [1, 2]
    assert tracker.statistics.late == 2


def test_numbers_go_on_past_32_bits() -> None:
    tracker = SequenceTracker(1)
    start = 2**32 - 2
    tracker.start(1, [Cpu(start)])
    assert see(tracker, [start + 1, start + 2, start + 5, start + 4]) == [
        start + 1,
        start + 2,
        start + 5,
        start + 4,
    ]
    assert tracker.settle(1, [Cpu(start + 5, [0, 0, 0, 0, 0, 1, 0])]) == {GapReason.READ: 1}


def test_losses_before_the_start_are_nobodys() -> None:
    tracker = SequenceTracker(1)
    tracker.start(1, [Cpu(100, [7, 0, 0, 0, 0, 0, 0])])
    assert tracker.settle(1, [Cpu(100, [7, 0, 0, 0, 0, 0, 0])]) == {}
    assert tracker.settle(1, [Cpu(101, [8, 0, 0, 0, 0, 0, 0])]) == {GapReason.RING: 1}


def test_refused_record_is_declared() -> None:
    tracker = SequenceTracker(1)
    see(tracker, [1, 2])
    tracker.refuse(1, 0, 2)
    assert tracker.settle(1, [Cpu(2)]) == {GapReason.UNEXPLAINED: 1}


@given(st.integers(0, 2**32), st.integers(1, 3), st.sampled_from([0.0, 0.1, 0.9]))
def test_seen_and_declared_are_all_numbers_exactly(seed: int, cpus: int, lose: float) -> None:
    """Numbers arrive late and out of order, counters run ahead of the ring, reasons of numbers."""
    random = Random(seed)
    tracker = SequenceTracker(cpus)
    counters = [Cpu() for _ in range(cpus)]
    in_ring: list[tuple[int, int]] = []
    seen: list[tuple[int, int]] = []
    declared: dict[GapReason, int] = {}

    def settle(more: bool) -> None:
        known = [Cpu(cpu.captured, list(cpu.lost)) for cpu in counters]
        here = list(in_ring)
        in_ring.clear()
        if more:  # more is captured between the counters and the end
            capture(5)
        behind = list(in_ring)
        late = random.sample(behind, len(behind) // 2)
        for cpu, number in here + late:
            seen.extend((cpu, n) for n in see(tracker, [number], cpu=cpu))
        in_ring[:] = [item for item in behind if item not in late]
        for reason, count in tracker.settle(1, known).items():
            declared[reason] = declared.get(reason, 0) + count

    def capture(count: int) -> None:
        for _ in range(count):
            number = random.randrange(cpus)
            cpu = counters[number]
            cpu.captured += 1
            if random.random() < lose:
                cpu.lost[random.randrange(len(Loss))] += 1
            else:
                at = max(0, len(in_ring) - random.randrange(3))
                in_ring.insert(at, (number, cpu.captured))

    for _ in range(6):
        capture(random.randrange(12))
        settle(random.random() < 0.5)
    settle(False)
    assert len(set(seen)) == len(seen)
    assert len(seen) + sum(declared.values()) == sum(cpu.captured for cpu in counters)
    assert tracker.statistics.late == 0
    totals = {REASONS[r]: sum(cpu.lost[r] for cpu in counters) for r in Loss}
    assert declared == {reason: count for reason, count in totals.items() if count}
