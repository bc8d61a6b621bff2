# SPDX-License-Identifier: Apache-2.0
"""Every number ends as delivered or declared, whatever the server answers (G2, G3, G6)."""

import asyncio
import time
from collections.abc import Callable

from headwater_agent.batch import Batch
from headwater_agent.chain import Chains
from headwater_agent.delivery import Answered, DeliveryQueue, Fate
from headwater_agent.node_key import NodeKey
from headwater_agent.settings import DeliverySettings

from tests.unit.agent.harness import NODE

FAST = DeliverySettings(
    retry_interval_s=0.005,
    retry_interval_max_s=0.02,
    drain_timeout_s=0.5,
    declare_timeout_s=0.3,
)


def graph(number: int, *, tenant: str = "a", size: int = 100, records: int = 10) -> Batch:
    first = (number - 1) * records + 1
    return Batch(
        tenant=tenant,
        klass="graph",
        payload=b"x" * size,
        headers={"Nats-Msg-Id": f"{tenant}-{number}", "Hw-Load": NODE.load_id.hex()},
        first=first,
        last=first + records - 1,
    )


def gap(tenant: str, first: int, last: int) -> Batch:
    return Batch(
        tenant=tenant,
        klass="gap",
        payload=b"gap",
        headers={"Nats-Msg-Id": f"{tenant}-gap-{first}", "Hw-Load": NODE.load_id.hex()},
        first=first,
        last=last,
    )


def chains() -> Chains:
    return Chains(NODE, NodeKey.generate())


class Server:
    """Stores by message id; `answer` decides what the agent hears."""

    def __init__(self, answer: Callable[[Batch, int], Fate]) -> None:
        self.stored: dict[str, Batch] = {}
        self.order: list[str] = []
        self.offers: dict[str, int] = {}
        self._answer = answer

    async def send(self, batch: Batch, answered: Answered) -> None:
        name = batch.headers["Nats-Msg-Id"]
        self.offers[name] = self.offers.get(name, 0) + 1
        fate = self._answer(batch, self.offers[name])
        if fate is Fate.STORED and name not in self.stored:
            self.stored[name] = batch
            if batch.klass != "checkpoint":
                self.order.append(name)
        asyncio.get_running_loop().call_later(0.001, answered, fate, fate.value)

    def ranges(self, tenant: str) -> list[tuple[str, int, int]]:
        found = [b for b in self.stored.values() if b.tenant == tenant and b.first]
        return sorted(((b.klass, b.first, b.last) for b in found), key=lambda item: item[1])


async def deliver(
    server: Server, batches: list[Batch], settings: DeliverySettings = FAST
) -> tuple[DeliveryQueue, list[Batch]]:
    queue = DeliveryQueue(
        send=server.send, declare=gap, chains=chains(), settings=settings, clock=time.monotonic
    )
    running = asyncio.create_task(queue.run())
    queue.offer(batches)
    left = await queue.drain()
    running.cancel()
    return queue, left


async def test_all_stored_in_order() -> None:
    server = Server(lambda batch, offer: Fate.STORED)
    queue, left = await deliver(server, [graph(n) for n in range(1, 24)])
    assert left == []
    assert server.order == [f"a-{n}" for n in range(1, 24)]
    assert queue.statistics()["a"].delivered == 230
    assert queue.statistics()["a"].owed_bytes == 0


async def test_g3_unanswered_batches_are_offered_again_under_the_same_id() -> None:
    server = Server(lambda batch, offer: Fate.UNKNOWN if offer == 1 else Fate.STORED)
    queue, left = await deliver(server, [graph(n) for n in range(1, 8)])
    assert left == []
    assert queue.statistics()["a"].delivered == 70
    assert queue.statistics()["a"].declared == 0
    assert server.order == [f"a-{n}" for n in range(1, 8)]


async def test_g2_full_stream_is_declared_exactly() -> None:
    def full_after_three(batch: Batch, offer: int) -> Fate:
        return Fate.STORED if batch.klass == "gap" or batch.first <= 30 else Fate.REFUSED

    server = Server(full_after_three)
    queue, left = await deliver(server, [graph(n) for n in range(1, 14)])
    assert left == []
    counts = queue.statistics()["a"]
    assert (counts.delivered, counts.declared) == (30, 100)
    covered = [n for _, first, last in server.ranges("a") for n in range(first, last + 1)]
    assert covered == list(range(1, 131))


async def test_g2_queue_beyond_its_bound_declares_the_oldest() -> None:
    server = Server(lambda batch, offer: Fate.STORED)
    small = DeliverySettings(queue_bytes=500, drain_timeout_s=1.0)
    queue, left = await deliver(server, [graph(n) for n in range(1, 14)], small)
    assert left == []
    counts = queue.statistics()["a"]
    assert (counts.delivered, counts.declared) == (50, 80)
    assert server.ranges("a")[0] == ("gap", 1, 80)


async def test_g5_a_tenant_that_owes_much_costs_another_nothing() -> None:
    server = Server(lambda batch, offer: Fate.STORED)
    small = DeliverySettings(queue_bytes=1000, drain_timeout_s=1.0)
    flood = [graph(n, tenant="a") for n in range(1, 102)]
    others = [graph(n, tenant="b") for n in range(1, 4)]
    queue, left = await deliver(server, [*flood, *others], small)
    assert left == []
    assert (queue.statistics()["b"].delivered, queue.statistics()["b"].declared) == (30, 0)
    counts = queue.statistics()["a"]
    assert counts.declared > 0 and counts.delivered + counts.declared == 1010


async def test_g2_gaps_between_are_kept_in_their_places() -> None:
    server = Server(lambda batch, offer: Fate.STORED)
    small = DeliverySettings(queue_bytes=250, drain_timeout_s=1.0)
    batches = [graph(1), graph(2), gap("a", 21, 30), graph(4), graph(5), graph(6), graph(7)]
    _, left = await deliver(server, batches, small)
    assert left == []
    assert server.ranges("a") == [
        ("gap", 1, 20),
        ("gap", 21, 30),
        ("gap", 31, 50),
        ("graph", 51, 60),
        ("graph", 61, 70),
    ]


async def test_g5_a_tenant_that_never_answers_holds_up_no_other() -> None:
    """`send` waits for room that this tenant's own unanswered messages take."""
    server = Server(lambda batch, offer: Fate.STORED)
    stuck = asyncio.Event()

    async def send(batch: Batch, answered: Answered) -> None:
        if batch.tenant == "a":
            await stuck.wait()
        await server.send(batch, answered)

    queue = DeliveryQueue(
        send=send, declare=gap, chains=chains(), settings=FAST, clock=time.monotonic
    )
    running = asyncio.create_task(queue.run())
    queue.offer(graph(n, tenant=t) for n in range(1, 6) for t in ("a", "b"))
    await asyncio.sleep(0.1)
    assert queue.statistics()["b"].delivered == 50
    assert queue.statistics()["a"].delivered == 0
    stuck.set()
    assert await queue.drain() == []
    assert queue.statistics()["a"].delivered == 50
    running.cancel()


async def test_g6_full_stream_of_one_tenant_holds_up_no_other() -> None:
    server = Server(
        lambda batch, offer: (
            Fate.REFUSED if batch.tenant == "a" and batch.klass == "graph" else Fate.STORED
        )
    )
    batches = [graph(n, tenant=t) for n in range(1, 6) for t in ("a", "b")]
    queue, left = await deliver(server, batches)
    assert left == []
    assert queue.statistics()["a"].declared == 50
    assert queue.statistics()["b"].delivered == 50
    assert queue.statistics()["b"].offers_failed == 0


async def test_what_may_be_stored_is_never_declared() -> None:
    server = Server(lambda batch, offer: Fate.UNKNOWN)
    queue, left = await deliver(server, [graph(1), graph(2)])
    named = {batch.headers["Nats-Msg-Id"] for batch in left}
    assert "a-1" in named
    counts = queue.statistics()["a"]
    assert (counts.delivered, counts.declared) == (0, 0)


async def test_inherited_batches_are_stored_first_and_counted_apart() -> None:
    server = Server(lambda batch, offer: Fate.STORED)
    queue = DeliveryQueue(
        send=server.send, declare=gap, chains=chains(), settings=FAST, clock=time.monotonic
    )
    old = graph(7)
    old.headers["Nats-Msg-Id"] = "older-7"
    queue.inherit([old])
    queue.offer([graph(1)])
    running = asyncio.create_task(queue.run())
    assert await queue.drain() == []
    running.cancel()
    assert server.order == ["older-7", "a-1"]
    counts = queue.statistics()["a"]
    assert (counts.delivered, counts.inherited) == (10, 1)
