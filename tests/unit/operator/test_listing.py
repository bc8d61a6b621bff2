# SPDX-License-Identifier: Apache-2.0
"""A watch that went silent is found by a list, mended by another, and told to the health page."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from headwater_operator.cluster.api import ApiError
from headwater_operator.cluster.kinds import NAMESPACES, NODES, POLICIES, READ, TENANTS, Kind
from headwater_operator.cluster.listing import Listing
from headwater_operator.cluster.observed import Cluster, observe
from headwater_operator.cluster.reconciler import Reconciler
from headwater_operator.cluster.serving import Health
from headwater_operator.cluster.settings import OperatorSettings

from tests.unit.operator.played_api import PlayedApi, small_cluster

QUICK = OperatorSettings(first_looks_s=(), resync_s=0.02, dead_watch_s=0.05)


class ListedApi(PlayedApi):
    """An API whose lists may be refused, and counts them."""

    def __init__(self) -> None:
        super().__init__()
        self.lists = 0
        self.refusals: list[ApiError] = []
        self.after_list: Callable[[], None] = lambda: None

    async def list(self, kind: Kind, keep: Any, *, metadata_only: bool = False) -> Any:
        self.lists += 1
        if self.refusals:
            raise self.refusals.pop(0)
        found = await super().list(kind, keep, metadata_only=metadata_only)
        self.after_list()
        return found

    def stop_watches(self) -> Cluster:
        """From now on the model is told of nothing, without an error; returns it."""
        (silenced,), self.watchers = self.watchers, []
        return silenced


@pytest.fixture
def api() -> ListedApi:
    api = ListedApi()
    small_cluster(api)
    return api


@pytest.fixture
def reconciler(api: ListedApi) -> Reconciler:
    reconciler = Reconciler(api, QUICK)
    api.fill(reconciler.cluster)
    return reconciler


@pytest.fixture
def listing(api: ListedApi, reconciler: Reconciler) -> Listing:
    return Listing(api, reconciler.cluster, QUICK)


@contextlib.asynccontextmanager
async def running(listing: Listing) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(listing.run())
    try:
        yield task
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task  # raises what it has died of


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.005)


async def test_nothing_is_complete_before_every_kind_was_listed(api: ListedApi) -> None:
    cluster = Cluster()
    api.refusals = [ApiError(404, "no such kind"), ApiError(503, "not yet"), ApiError(0, "away")]
    async with running(Listing(api, cluster, QUICK)):
        await until(lambda: api.lists >= len(READ))
        assert not cluster.is_complete, "three kinds are still missing"
        await until(lambda: cluster.is_complete)
    assert len(cluster.of(NODES)) == 3


async def test_live_watches_are_left_alone(api: ListedApi, listing: Listing) -> None:
    for kind in READ:
        assert await listing.check(kind)
    assert api.lists == len(READ), "one list each, and none to mend anything"
    assert not listing.dead_watches


@pytest.mark.parametrize("change", ["created", "changed", "deleted"])
async def test_change_that_the_watch_does_not_bring_is_found(
    api: ListedApi, listing: Listing, reconciler: Reconciler, change: str
) -> None:
    api.stop_watches()
    match change:
        case "created":
            api.apply(NAMESPACES, "new")
        case "changed":
            api.apply(NAMESPACES, "shop", labels={"team": "another"})
        case "deleted":
            api.remove(NAMESPACES, "shop")
    health = Health(reconciler, listing)
    assert health.problem() == ""
    assert not await listing.check(NAMESPACES)
    assert listing.dead_watches == {NAMESPACES}
    assert health.problem() == "silent watch of namespaces"
    # And the model is right all the same.
    wanted = {key: body["metadata"]["labels"] for key, body in _labelled(api).items()}
    assert {
        key: one.labels for key, one in reconciler.cluster.of(NAMESPACES).items() if one.labels
    } == wanted
    assert ("", "new") in reconciler.cluster.of(NAMESPACES) or change != "created"


def _labelled(api: ListedApi) -> dict[Any, Any]:
    bodies = api.objects[NAMESPACES]
    return {key: body for key, body in bodies.items() if "labels" in body["metadata"]}


async def test_watch_that_comes_to_life_again_is_healthy_again(
    api: ListedApi, listing: Listing, reconciler: Reconciler
) -> None:
    cluster = api.stop_watches()
    api.apply(NAMESPACES, "new")
    assert not await listing.check(NAMESPACES)
    api.watchers = [cluster]
    api.apply(NAMESPACES, "newer")
    assert await listing.check(NAMESPACES)
    assert Health(reconciler, listing).problem() == ""


async def test_slow_watch_is_not_called_dead(
    api: ListedApi, listing: Listing, reconciler: Reconciler
) -> None:
    """It brings the change after the list, and before its time is up."""
    cluster = api.stop_watches()
    api.apply(POLICIES, "late", {}, namespace="shop")
    api.remove(TENANTS, "bank-team")
    checks = [asyncio.create_task(listing.check(kind)) for kind in (POLICIES, TENANTS)]
    await asyncio.sleep(0.01)
    cluster.put(observe(POLICIES, api.objects[POLICIES]["shop", "late"]))
    cluster.remove(TENANTS, ("", "bank-team"), cluster.of(TENANTS)["", "bank-team"].uid)
    assert await asyncio.gather(*checks) == [True, True]
    assert not listing.dead_watches
    assert api.lists == 2


async def test_object_that_comes_and_goes_between_two_looks_is_no_sign_of_death(
    api: ListedApi, listing: Listing
) -> None:
    """A flapping node: the list has it, the watch brings its beginning and its end."""
    cluster = api.stop_watches()
    api.apply(NODES, "flapping")
    check = asyncio.create_task(listing.check(NODES))
    await asyncio.sleep(0.01)
    body = api.objects[NODES]["", "flapping"]
    cluster.put(observe(NODES, body))
    cluster.remove(NODES, ("", "flapping"), body["metadata"]["uid"])
    assert await check
    assert not listing.dead_watches


async def test_change_after_the_list_is_not_missing_from_it(
    api: ListedApi, listing: Listing
) -> None:
    def create() -> None:
        api.apply(NODES, "node-after")

    api.after_list = create
    assert await listing.check(NODES)
    assert api.lists == 1


@pytest.mark.parametrize("status", [0, 401, 403, 404, 410, 429, 500, 503])
async def test_refused_lists_end_nothing(
    api: ListedApi, listing: Listing, reconciler: Reconciler, status: int
) -> None:
    async with running(listing) as task:
        await until(lambda: api.lists > len(READ))
        api.refusals = [ApiError(status, "refused") for _ in range(2 * len(READ))]
        await until(lambda: not api.refusals)
        lists = api.lists
        await until(lambda: api.lists > lists + len(READ))
        assert not task.done()
    assert not listing.dead_watches
    assert Health(reconciler, listing).problem() == ""


async def test_list_that_mends_is_tried_again_when_it_is_refused(
    api: ListedApi, listing: Listing, reconciler: Reconciler
) -> None:
    api.stop_watches()
    api.apply(NAMESPACES, "new")

    def refuse_next() -> None:
        api.refusals = [ApiError(500, "broken")]
        api.after_list = lambda: None

    api.after_list = refuse_next
    with pytest.raises(ApiError):
        await listing.check(NAMESPACES)
    assert listing.dead_watches == {NAMESPACES}
    assert not await listing.check(NAMESPACES)
    assert ("", "new") in reconciler.cluster.of(NAMESPACES)


async def test_what_was_deleted_before_the_watch_began_is_noticed_at_once(
    api: ListedApi,
) -> None:
    """A watch says nothing of it, and is alive all the same; until the next check it is minutes."""
    cluster = Cluster()
    listing = Listing(api, cluster, OperatorSettings(first_looks_s=(0.02,)))
    async with running(listing):
        await until(lambda: cluster.is_complete)
        before = dict(cluster.of(TENANTS))
        api.remove(TENANTS, "bank-team")
        await until(lambda: len(cluster.of(TENANTS)) == len(before) - 1)
    assert not listing.dead_watches
