# SPDX-License-Identifier: Apache-2.0
"""One leads, whatever the clocks say; who cannot renew stops; what the leader dies of is told."""

from __future__ import annotations

import asyncio
import contextlib
import copy
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

import pytest
from headwater_operator.cluster import leadership
from headwater_operator.cluster.api import ApiError
from headwater_operator.cluster.kinds import Kind
from headwater_operator.cluster.leadership import LEASE_S, LeadershipLostError, Lease, lead

NAMESPACE, NAME = "system", "operator"


class LeaseServer:
    """Keeps one Lease, with versions; refuses what is not as was said."""

    def __init__(self) -> None:
        self.lease: dict[str, Any] | None = None
        self.fault: ApiError | None = None
        """What every request ends with."""
        self.before_write: Callable[[], None] = lambda: None
        self.writes = self.reads = 0
        self._version = 0

    @property
    def spec(self) -> dict[str, Any]:
        assert self.lease is not None
        spec: dict[str, Any] = self.lease["spec"]
        return spec

    def put(self, **spec: Any) -> None:
        """Another operator's write."""
        self._version += 1
        before = self.spec if self.lease else {"leaseDurationSeconds": int(LEASE_S)}
        metadata = {"name": NAME, "resourceVersion": str(self._version)}
        self.lease = {"metadata": metadata, "spec": {**before, **spec}}

    async def get(self, kind: Kind, namespace: str, name: str) -> dict[str, Any]:
        self._check(namespace, name)
        self.reads += 1
        if self.lease is None:
            raise ApiError(404, "not found")
        return copy.deepcopy(self.lease)

    async def create(self, kind: Kind, body: Mapping[str, Any]) -> dict[str, Any]:
        self._check(body["metadata"]["namespace"], body["metadata"]["name"])
        self.before_write()
        if self.lease is not None:
            raise ApiError(409, "already exists")
        self.writes += 1
        self.put(**body["spec"])
        return self._stored()

    async def patch(
        self, kind: Kind, namespace: str, name: str, body: Mapping[str, Any], subresource: str = ""
    ) -> dict[str, Any]:
        self._check(namespace, name)
        self.before_write()
        if self.lease is None:
            raise ApiError(404, "not found")
        if body["metadata"]["resourceVersion"] != self.lease["metadata"]["resourceVersion"]:
            raise ApiError(409, "the object has been modified")
        self.writes += 1
        self.put(**body["spec"])
        self.lease["spec"] = {key: value for key, value in self.spec.items() if value is not None}
        return copy.deepcopy(self.lease)

    def _stored(self) -> dict[str, Any]:
        assert self.lease is not None
        return copy.deepcopy(self.lease)

    def _check(self, namespace: str, name: str) -> None:
        assert (namespace, name) == (NAMESPACE, NAME)
        if self.fault is not None:
            raise self.fault


class Clock:
    def __init__(self) -> None:
        self.now_s = 1_000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def server() -> LeaseServer:
    return LeaseServer()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def new_lease(server: LeaseServer, clock: Clock) -> Callable[[str], Lease]:
    return lambda identity: Lease(server, NAMESPACE, NAME, identity, clock)


# -- taking and renewing ---------------------------------------------------------------------------


async def test_absent_lease_is_taken(
    server: LeaseServer, new_lease: Callable[[str], Lease]
) -> None:
    assert await new_lease("a").try_once()
    assert server.spec["holderIdentity"] == "a"
    assert server.spec["leaseTransitions"] == 0
    assert server.spec["leaseDurationSeconds"] == LEASE_S
    assert server.spec["acquireTime"] == server.spec["renewTime"]


async def test_renewal_is_one_request(
    server: LeaseServer, new_lease: Callable[[str], Lease]
) -> None:
    lease = new_lease("a")
    assert await lease.try_once()
    for _ in range(3):
        assert await lease.try_once()
    assert (server.reads, server.writes) == (1, 4)


async def test_lease_that_was_deleted_is_taken_again(
    server: LeaseServer, new_lease: Callable[[str], Lease]
) -> None:
    lease = new_lease("a")
    assert await lease.try_once()
    server.lease = None
    assert await lease.try_once()
    assert server.spec["holderIdentity"] == "a"


async def test_own_lease_is_renewed(server: LeaseServer, new_lease: Callable[[str], Lease]) -> None:
    lease = new_lease("a")
    await lease.try_once()
    acquired = server.spec["acquireTime"]
    assert await lease.try_once()
    assert server.spec["acquireTime"] == acquired
    assert server.spec["leaseTransitions"] == 0
    assert server.writes == 2


async def test_it_is_refused_while_another_one_renews(
    server: LeaseServer, clock: Clock, new_lease: Callable[[str], Lease]
) -> None:
    first, second = new_lease("a"), new_lease("b")
    await first.try_once()
    for _ in range(10):
        clock.now_s += LEASE_S * 0.9
        assert await first.try_once()
        assert not await second.try_once()
    assert server.spec["holderIdentity"] == "a"


@pytest.mark.parametrize(
    "renewed", ["1970-01-01T00:00:00.000000Z", "2999-12-31T23:59:59.000000Z", "", None]
)
async def test_it_has_run_out_when_it_was_seen_unchanged_whatever_its_times_say(
    server: LeaseServer, clock: Clock, new_lease: Callable[[str], Lease], renewed: str | None
) -> None:
    """The other machine's clock is years behind, or ahead."""
    server.put(holderIdentity="a", renewTime=renewed)
    lease = new_lease("b")
    assert not await lease.try_once(), "it is seen for the first time"
    clock.now_s += LEASE_S
    assert not await lease.try_once(), "the other one may just renew"
    clock.now_s += 0.1
    assert await lease.try_once()
    assert server.spec["holderIdentity"] == "b"
    assert server.spec["leaseTransitions"] == 1


async def test_time_is_counted_from_the_last_change_that_was_seen(
    server: LeaseServer, clock: Clock, new_lease: Callable[[str], Lease]
) -> None:
    server.put(holderIdentity="a")
    lease = new_lease("b")
    await lease.try_once()
    clock.now_s += LEASE_S * 0.9
    server.put(renewTime="whenever")
    assert not await lease.try_once()
    clock.now_s += LEASE_S * 0.9
    assert not await lease.try_once()
    clock.now_s += LEASE_S * 0.2
    assert await lease.try_once()


async def test_holder_says_how_long_it_lasts(
    server: LeaseServer, clock: Clock, new_lease: Callable[[str], Lease]
) -> None:
    server.put(holderIdentity="a", leaseDurationSeconds=60)
    lease = new_lease("b")
    await lease.try_once()
    clock.now_s += 59
    assert not await lease.try_once()
    clock.now_s += 2
    assert await lease.try_once()


@pytest.mark.parametrize("there", [False, True])
async def test_somebody_was_faster(
    server: LeaseServer, new_lease: Callable[[str], Lease], there: bool
) -> None:
    if there:
        server.put(holderIdentity=None)
    server.before_write = lambda: server.put(holderIdentity="b")
    assert not await new_lease("a").try_once()
    assert server.spec["holderIdentity"] == "b"


async def test_refusal_is_no_answer_to_who_leads(
    server: LeaseServer, new_lease: Callable[[str], Lease]
) -> None:
    server.fault = ApiError(403, "forbidden")
    with pytest.raises(ApiError, match="forbidden"):
        await new_lease("a").try_once()


# -- handing back ----------------------------------------------------------------------------------


async def test_lease_that_was_handed_back_is_free_at_once(
    server: LeaseServer, new_lease: Callable[[str], Lease]
) -> None:
    first, second = new_lease("a"), new_lease("b")
    await first.try_once()
    assert not await second.try_once()
    await first.hand_back()
    assert "holderIdentity" not in server.spec
    assert await second.try_once()


async def test_anothers_lease_is_not_handed_back(
    server: LeaseServer, new_lease: Callable[[str], Lease]
) -> None:
    server.put(holderIdentity="b")
    await new_lease("a").hand_back()
    assert server.spec["holderIdentity"] == "b"


@pytest.mark.parametrize("status", [0, 404, 409, 500])
async def test_handing_back_fails_in_silence(
    server: LeaseServer, new_lease: Callable[[str], Lease], status: int
) -> None:
    lease = new_lease("a")
    await lease.try_once()
    server.fault = ApiError(status, "away")
    await lease.hand_back()


# -- leading ---------------------------------------------------------------------------------------


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leadership, "RETRY_S", 0.01)
    monkeypatch.setattr(leadership, "RENEW_WITHIN_S", 0.2)
    monkeypatch.setattr(leadership, "HAND_BACK_WITHIN_S", 0.2)


class Work:
    """What a leader does; says whether it is at it."""

    def __init__(self, ends_with: Exception | None = None) -> None:
        self.begun = asyncio.Event()
        self.is_under_way = False
        self._ends_with = ends_with

    async def __call__(self) -> None:
        self.is_under_way = True
        self.begun.set()
        try:
            if self._ends_with:
                raise self._ends_with
            await asyncio.Event().wait()
        finally:
            self.is_under_way = False


@contextlib.asynccontextmanager
async def leading(lease: Lease, work: Callable[[], Awaitable[None]]) -> AsyncIterator[Any]:
    task = asyncio.create_task(lead(lease, work))
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.mark.usefixtures("fast")
async def test_who_waits_works_when_the_other_one_stops(
    server: LeaseServer, new_lease: Callable[[str], Lease]
) -> None:
    first, second = Work(), Work()
    async with leading(new_lease("a"), first) as one:
        await asyncio.wait_for(first.begun.wait(), 5)
        async with leading(new_lease("b"), second):
            await asyncio.sleep(0.1)
            assert not second.begun.is_set()
            one.cancel()
            await asyncio.wait_for(second.begun.wait(), 5)
            assert not first.is_under_way, "it stopped before it handed the lease back"
    assert "holderIdentity" not in server.spec


@pytest.mark.usefixtures("fast")
async def test_leader_that_cannot_renew_stops_before_another_one_may_begin(
    server: LeaseServer, new_lease: Callable[[str], Lease]
) -> None:
    work = Work()
    async with leading(new_lease("a"), work) as task:
        await asyncio.wait_for(work.begun.wait(), 5)
        server.fault = ApiError(0, "away")
        with pytest.raises(LeadershipLostError):
            await asyncio.wait_for(task, 5)
        assert not work.is_under_way
    assert leadership.RENEW_WITHIN_S < LEASE_S


@pytest.mark.usefixtures("fast")
async def test_request_that_hangs_is_no_renewal(
    server: LeaseServer, new_lease: Callable[[str], Lease], monkeypatch: pytest.MonkeyPatch
) -> None:
    work = Work()
    async with leading(new_lease("a"), work) as task:
        await asyncio.wait_for(work.begun.wait(), 5)

        async def hang(*_: object) -> dict[str, Any]:
            await asyncio.Event().wait()
            raise AssertionError

        monkeypatch.setattr(server, "get", hang)
        monkeypatch.setattr(server, "patch", hang)
        with pytest.raises(LeadershipLostError):
            await asyncio.wait_for(task, 5)
        assert not work.is_under_way


@pytest.mark.usefixtures("fast")
async def test_short_absence_is_survived(
    server: LeaseServer, new_lease: Callable[[str], Lease]
) -> None:
    work = Work()
    async with leading(new_lease("a"), work) as task:
        await asyncio.wait_for(work.begun.wait(), 5)
        for _ in range(3):
            server.fault = ApiError(503, "away")
            await asyncio.sleep(0.05)
            server.fault = None
            await asyncio.sleep(0.1)
        assert work.is_under_way and not task.done()


@pytest.mark.usefixtures("fast")
async def test_leader_whose_lease_was_taken_stops(
    server: LeaseServer, new_lease: Callable[[str], Lease]
) -> None:
    """Nobody may, but an administrator can."""
    work = Work()
    async with leading(new_lease("a"), work) as task:
        await asyncio.wait_for(work.begun.wait(), 5)
        server.put(holderIdentity="b")
        with pytest.raises(LeadershipLostError):
            await asyncio.wait_for(task, 5)
    assert server.spec["holderIdentity"] == "b"


@pytest.mark.usefixtures("fast")
async def test_what_the_leader_dies_of_is_told_and_the_lease_is_free(
    server: LeaseServer, new_lease: Callable[[str], Lease]
) -> None:
    with pytest.raises(ZeroDivisionError):
        await lead(new_lease("a"), Work(ends_with=ZeroDivisionError()))
    assert "holderIdentity" not in server.spec


@pytest.mark.usefixtures("fast")
async def test_leader_waits_for_an_api_server_that_is_away(
    server: LeaseServer, new_lease: Callable[[str], Lease]
) -> None:
    server.fault = ApiError(0, "away")
    work = Work()
    async with leading(new_lease("a"), work):
        await asyncio.sleep(0.1)
        assert not work.begun.is_set()
        server.fault = None
        await asyncio.wait_for(work.begun.wait(), 5)
