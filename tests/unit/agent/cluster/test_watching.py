# SPDX-License-Identifier: Apache-2.0
"""A watch through every fault of an API server (G8): nothing is missed, nothing is stormed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from headwater_agent.cluster.backoff import BackoffSettings
from headwater_agent.cluster.watching import Watch

from tests.unit.agent.cluster.fake_api import (
    CUT,
    HANG,
    QUICK,
    Answer,
    FakeApi,
    bookmark,
    event,
    running,
)

BACKOFF = BackoffSettings(first_s=0.02, longest_s=0.1)


class Names:
    """The names of the objects that a watch says there are."""

    def __init__(self) -> None:
        self.names: set[str] = set()
        self.replaced = 0

    def replace(self, objects: list[dict[str, Any]]) -> None:
        self.replaced += 1
        self.names = {each["metadata"]["name"] for each in objects}

    def change(self, content: dict[str, Any]) -> None:
        self.names.add(content["metadata"]["name"])

    def remove(self, content: dict[str, Any]) -> None:
        self.names.discard(content["metadata"]["name"])


def item(name: str) -> dict[str, Any]:
    return {"metadata": {"name": name}}


@asynccontextmanager
async def watching(fake: FakeApi) -> AsyncIterator[tuple[Watch, Names]]:
    names = Names()
    async with running(fake) as api:
        watch = Watch(api, "/api/v1/pods", "spec.nodeName=n", names, backoff=BACKOFF)
        task = asyncio.create_task(watch.run())
        try:
            yield watch, names
        finally:
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task


async def until(names: Names, *wanted: str) -> None:
    async with asyncio.timeout(5):
        while names.names != set(wanted):
            await asyncio.sleep(0.005)


async def test_changes_follow_a_list_from_the_servers_memory() -> None:
    fake = FakeApi()
    fake.lists.append((7, [item("a")]))
    fake.watches.append(
        [event("ADDED", "b", 8), event("DELETED", "a", 9), event("MODIFIED", "c", 10), HANG]
    )
    async with watching(fake) as (watch, names):
        await until(names, "b", "c")
        assert watch.listed.is_set()
    assert fake.of("GET")[0] == {
        "fieldSelector": "spec.nodeName=n",
        "resourceVersion": "0",
        "resourceVersionMatch": "NotOlderThan",
    }
    query = fake.of("GET", watch=True)[0]
    assert (query["resourceVersion"], query["allowWatchBookmarks"]) == ("7", "true")
    assert 30 <= int(query["timeoutSeconds"]) <= 60


@pytest.mark.parametrize("end", [[], [CUT], [HANG], [b'{"type": "ADD']])
async def test_ended_cut_and_silent_watches_go_on_from_the_last_bookmark(end: list[Any]) -> None:
    fake = FakeApi()
    fake.lists.append((7, []))
    fake.watches.append([event("ADDED", "a", 8), bookmark(20), *end])
    fake.watches.append([event("ADDED", "b", 21), HANG])
    async with watching(fake) as (watch, names):
        await until(names, "a", "b")
        assert watch.statistics.lists == 1
    assert [query["resourceVersion"] for query in fake.of("GET", watch=True)[:2]] == ["7", "20"]


@pytest.mark.parametrize(
    "gone",
    [
        Answer(410, {"kind": "Status", "message": "too old resource version", "code": 410}),
        [{"type": "ERROR", "object": {"kind": "Status", "code": 410, "message": "expired"}}],
        [
            {
                "type": "ERROR",
                "object": {
                    "code": 504,
                    "message": "Timeout: Too large resource version: 9, current: 1",
                },
            }
        ],
    ],
)
async def test_expired_version_lists_anew(gone: Any) -> None:
    fake = FakeApi()
    fake.lists.extend([(7, [item("a"), item("b")]), (90, [item("b")])])
    fake.watches.append(gone)
    fake.watches.append([event("ADDED", "c", 91), HANG])
    async with watching(fake) as (watch, names):
        await until(names, "b", "c")
        assert (watch.statistics.lists, watch.statistics.expired) == (2, 1)
    assert fake.of("GET")[1]["resourceVersion"] == "7"
    assert fake.of("GET", watch=True)[1]["resourceVersion"] == "90"


async def test_version_that_even_the_list_refuses_is_given_up() -> None:
    fake = FakeApi()
    fake.lists.extend([(7, []), Answer(410, {"code": 410}), (3, [item("a")])])
    fake.watches.append(Answer(410, {}))
    async with watching(fake) as (_, names):
        await until(names, "a")
    assert "resourceVersion" not in fake.of("GET")[2]


async def test_error_inside_a_watch_that_is_not_expiry_goes_on_without_a_list() -> None:
    fake = FakeApi()
    fake.lists.append((7, []))
    fake.watches.append([{"type": "ERROR", "object": {"code": 500, "message": "etcd is away"}}])
    fake.watches.append([event("ADDED", "a", 8), HANG])
    async with watching(fake) as (watch, names):
        await until(names, "a")
        assert (watch.statistics.lists, watch.statistics.failures) == (1, 1)


async def test_failures_keep_what_was_known_and_wait_longer_each_time() -> None:
    fake = FakeApi()
    fake.lists.append((7, [item("a")]))
    fake.watches.extend([Answer(500, {"message": "no"})] * 6)
    async with watching(fake) as (watch, names):
        await until(names, "a")
        await asyncio.sleep(0.15)
        assert names.names == {"a"}
        assert names.replaced == 1
        assert watch.statistics.last_error == "no"
    assert 3 <= len(fake.of("GET", watch=True)) <= 6


async def test_too_many_requests_waits_as_long_as_asked() -> None:
    fake = FakeApi()
    fake.lists.extend([Answer(429, {"message": "slow"}, {"Retry-After": "1"}), (7, [item("a")])])
    async with watching(fake) as (_, names):
        await asyncio.sleep(0.8)
        assert len(fake.requests) == 1
        await until(names, "a")


async def test_events_longer_than_the_librarys_lines_and_in_pieces_arrive() -> None:
    fake = FakeApi()
    fake.lists.append((7, []))
    import json

    long = json.dumps(event("ADDED", "long", 8, padding="x" * 300_000)).encode() + b"\n"
    both = json.dumps(event("ADDED", "b", 9)).encode() + b"\n"
    fake.watches.append([long[:70_000], long[70_000:] + both + both[:9], both[9:], HANG])
    async with watching(fake) as (_, names):
        await until(names, "long", "b")


@pytest.mark.parametrize("line", [b"no json\n", b"[]\n", b'{"type": "ADDED"}\n'])
async def test_nonsense_is_a_failure_and_no_event(line: bytes) -> None:
    fake = FakeApi()
    fake.lists.append((7, []))
    fake.watches.append([line, HANG])
    fake.watches.append([event("ADDED", "a", 8), HANG])
    async with watching(fake) as (watch, names):
        await until(names, "a")
        assert watch.statistics.failures == 1


async def test_unknown_kind_of_event_is_passed_over() -> None:
    fake = FakeApi()
    fake.lists.append((7, []))
    fake.watches.append([event("RENAMED", "x", 8), event("ADDED", "a", 9), HANG])
    async with watching(fake) as (watch, names):
        await until(names, "a")
        assert watch.statistics.failures == 0


async def test_server_that_is_not_there_at_the_start_is_found_later() -> None:
    fake = FakeApi()
    fake.lists.append((7, [item("a")]))
    async with running(fake, QUICK) as api:
        away = type(api)(api._access.__class__("http://127.0.0.1:9", lambda: None), QUICK)
        names = Names()
        async with away:
            watch = Watch(away, "/api/v1/pods", "spec.nodeName=n", names, backoff=BACKOFF)
            task = asyncio.create_task(watch.run())
            while watch.statistics.failures < 2:
                await asyncio.sleep(0.01)
            object.__setattr__(away._access, "server", api._access.server)
            await until(names, "a")
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
