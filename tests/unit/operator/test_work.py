# SPDX-License-Identifier: Apache-2.0
"""Work is done once, in order, by one worker at a time, and again after a failure."""

from __future__ import annotations

import asyncio

import pytest
from headwater_operator.cluster import work
from headwater_operator.cluster.pacing import Bucket, Pace
from headwater_operator.cluster.work import WorkQueue


async def taken(queue: WorkQueue) -> list[object]:
    found = []
    while len(queue):
        item = await asyncio.wait_for(queue.take(), 1)
        found.append(item)
        queue.done(item)
    return found


async def test_smaller_number_first_then_first_come() -> None:
    queue = WorkQueue()
    for item, priority in (("c", 2), ("a", 1), ("b", 1), ("c", 2), ("a", 3)):
        queue.add(item, priority)
    assert await taken(queue) == ["a", "b", "c"]


async def test_item_that_becomes_urgent_is_taken_once() -> None:
    queue = WorkQueue()
    queue.add("a", 5)
    queue.add("b", 3)
    queue.add("a", 1)
    assert await taken(queue) == ["a", "b"]


async def test_what_changes_while_it_is_worked_on_comes_again_afterwards() -> None:
    queue = WorkQueue()
    queue.add("a", 1)
    assert await queue.take() == "a"
    queue.add("a", 1)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(queue.take(), 0.02)  # never two at once
    queue.done("a")
    assert await asyncio.wait_for(queue.take(), 1) == "a"
    queue.done("a")
    assert len(queue) == 0


async def test_failed_item_waits_longer_each_time_and_holds_up_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(work, "FIRST_RETRY_S", 0.01)
    monkeypatch.setattr(work, "LAST_RETRY_S", 0.1)
    queue = WorkQueue()
    queue.add("bad", 1)
    waits = []
    for _ in range(8):
        assert await asyncio.wait_for(queue.take(), 1) == "bad"
        waits.append(queue.retry("bad", 1))
        queue.add("good", 2)
        assert await asyncio.wait_for(queue.take(), 1) == "good"
        queue.done("good")
    assert waits[0] <= 0.01
    assert all(0.05 <= wait <= 0.1 for wait in waits[5:])
    queue.close()


async def test_change_ends_the_wait_after_a_failure() -> None:
    queue = WorkQueue()
    queue.add("a", 1)
    await queue.take()
    queue.retry("a", 1, after_s=3600)
    queue.add("a", 1)
    assert await asyncio.wait_for(queue.take(), 1) == "a"
    queue.done("a")
    assert len(queue) == 0


def test_bucket_gives_its_burst_and_then_its_rate() -> None:
    bucket = Bucket(rate=2, burst=3)
    assert [bucket.take(100.0) for _ in range(3)] == [0, 0, 0]
    assert bucket.take(100.0) == pytest.approx(0.5)
    assert bucket.take(100.5) == 0
    assert sum(bucket.take(100.5 + tick / 100) == 0 for tick in range(1000)) == 19


def test_busy_place_is_held_back_and_others_are_not() -> None:
    pace: Pace[int] = Pace(rate=0.5, burst=3)
    now = 10.0
    shown = [pace.show("busy", value, now) for value in range(6)]
    assert shown == [0, 1, 2, 2, 2, 2]
    assert pace.due == pytest.approx(now + 2)
    assert pace.show("calm", 7, now) == 7
    pace.begin()
    assert pace.show("busy", 9, now + 2) == 9, "the newest, not the one that was held back"
    assert pace.due is None
