# SPDX-License-Identifier: Apache-2.0
"""What kopf's thread says reaches the model whole and in order, and kopf never gives up."""

from __future__ import annotations

import asyncio
import itertools
import threading
from typing import Any

import kopf
import pytest
from headwater_operator.cluster.connection import Address
from headwater_operator.cluster.kinds import NODES, READ
from headwater_operator.cluster.observed import Cluster
from headwater_operator.cluster.watches import Backoffs, Handover, make_registry, take


def event(kind: Any, name: str, version: int, uid: str = "") -> kopf.RawEvent:
    metadata = {"name": name, "uid": uid or f"uid-{name}", "resourceVersion": str(version)}
    return kopf.RawEvent(type=kind, object={"metadata": metadata})  # type: ignore[typeddict-item]


async def test_events_of_another_thread_come_whole_and_in_order() -> None:
    changes: list[int] = []
    # A Node is the same but for its version unless its uid is another one.
    cluster = Cluster(lambda _old, new: changes.append(new.version if new else 0))
    handover = Handover(cluster, asyncio.get_running_loop())
    count = 500

    async def watch() -> None:
        for number in range(1, count + 1):
            handover.tell(NODES, event("MODIFIED", "node", number, f"uid-{number}"))
            if number % 100 == 0:
                await asyncio.sleep(0.03)
        handover.tell(NODES, event("DELETED", "node", count, f"uid-{count}"))
        await asyncio.sleep(0.1)

    thread = threading.Thread(target=lambda: asyncio.run(watch()))
    thread.start()
    async with asyncio.timeout(5):
        while not changes or changes[-1] != 0:
            await asyncio.sleep(0.01)
    thread.join()
    assert changes == [*range(1, count + 1), 0]
    assert not cluster.of(NODES)


@pytest.mark.parametrize(
    "body", [{}, {"metadata": {}}, {"metadata": {"name": "n", "uid": "u", "resourceVersion": "x"}}]
)
def test_event_that_cannot_be_read_is_left_out(body: Any) -> None:
    cluster = Cluster()
    take(cluster, NODES, {"type": "ADDED", "object": body})
    assert not cluster.of(NODES)


def test_kopf_asks_for_ever_and_never_waits_long() -> None:
    waits = list(itertools.islice(Backoffs(), 1_000))
    assert len(waits) == 1_000
    assert max(waits) <= 5
    assert list(itertools.islice(Backoffs(), 3)) == waits[:3], "each request begins anew"


def test_every_kind_is_watched_and_nothing_else() -> None:
    address = Address("http://127.0.0.1:1", None, None, None, None)
    registry = make_registry(lambda _kind, _event: None, address)
    watched = {handler.id for handler in registry._watching.get_all_handlers()}
    assert watched == {kind.plural for kind in READ}
