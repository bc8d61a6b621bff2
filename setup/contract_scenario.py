# SPDX-License-Identifier: Apache-2.0
"""The stored scenario of docs/stream-contract.md: one node, made the same way each time.

Why: examples that people write by hand are wrong after a month, and examples of a chance run cannot
be compared. So the records come from the simulated kernel, the clocks and keys are fixed, and
everything else is what runs on a node: the pipeline, the queue, the chain and the window of the
agent, and a real nats-server. Called by `contract.py`; next is the wire.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from hashlib import sha256
from random import Random
from typing import Final
from unittest import mock

import nats.js.errors
import nkeys
import numpy as np
from headwater_agent.batch import Batch
from headwater_agent.chain import Chains
from headwater_agent.delivery import Answered, DeliveryQueue, Fate
from headwater_agent.layout import Loss
from headwater_agent.node import NodeIdentity
from headwater_agent.node_key import NodeKey
from headwater_agent.pipeline import Pipeline, SlotBinding
from headwater_agent.publish import PublishWindow
from headwater_agent.reader import CpuCounters
from headwater_agent.ring import RingChunk
from headwater_agent.settings import DeliverySettings
from headwater_agent.slots import Workload
from headwater_cli.embedded_nats import EmbeddedNats
from headwater_operator.accounts import KeyPair, Role, connected, unrestricted_user
from headwater_prov.statement import sign_statement
from headwater_prov.vocabulary import Relation

from bench.pipeline.simulation import SimulatedKernel

TENANT: Final = "shop"
FULL: Final = "full"
"""A tenant whose stream takes no more."""

NODE: Final = NodeIdentity(
    bytes(range(16)),
    bytes(range(16, 32)),
    bytes.fromhex("3820627974657321"),
    release="6.12.43+deb13-amd64",
    version="#1 SMP Debian 6.12.43-1",
    machine="x86_64",
)
NODE_KEY: Final = NodeKey(bytes(range(32)))
OPERATOR: Final = KeyPair(
    nkeys.encode_seed(bytes(range(32, 64)), nkeys.PREFIX_BYTE_OPERATOR).decode("ascii"),
    Role.OPERATOR,
)
BEGIN_NS: Final = 1_795_240_800_000_000_000
"""2026-11-21T06:00:00Z."""

_KEY: Final = bytes(range(32))
_CGROUP: Final = 77
_FILLER: Final = 40 * 1024
_POLICIES: Final = tuple(sha256(name).hexdigest() for name in (b"policy 1", b"policy 2"))


class Clock:
    """Nanoseconds since 1970, a millisecond later at each question."""

    def __init__(self, now_ns: int = BEGIN_NS) -> None:
        self.now_ns = now_ns

    def __call__(self) -> int:
        """The time now."""
        self.now_ns += 1_000_000
        return self.now_ns


@dataclass(frozen=True)
class Made:
    """What the agent's pipeline made of the scenario."""

    batches: list[Batch]
    pipeline: Pipeline


def make(tenant: str) -> Made:
    """`sort /data/words > /data/sorted`; three records lost; a policy edit; one more flow."""
    with mock.patch("headwater_agent.pipeline.time.time_ns", Clock(BEGIN_NS + 10**9)):
        return _make(tenant)


def _make(tenant: str) -> Made:
    kernel = SimulatedKernel(Random(1))
    kernel.cgroup = _CGROUP
    pipeline = Pipeline(NODE, clock_offset_ns=BEGIN_NS - 1_000_000_000)
    batches: list[Batch] = []
    fed = 0

    def read() -> None:
        nonlocal fed
        chunk = bytes(kernel.ring[fed:])
        pipeline.feed(RingChunk(np.frombuffer(chunk, np.uint8), fed))
        fed += len(chunk)
        pipeline.reconcile(1, _counters(kernel))
        batches.extend(pipeline.flush())

    def enforce(epoch: int) -> None:
        pipeline.bind(SlotBinding(1, tenant, epoch, _POLICIES[epoch - 1], False), _KEY)
        kernel.set_epoch(1, epoch)

    enforce(1)
    pipeline.describe(_CGROUP, tenant, Workload("shop", "web-1"))
    sort = kernel.process(0, 1, 4711, b"sort")
    words = kernel.inode(0, 0, "/data/words", ino=1311)
    ordered = kernel.inode(0, 1, "/data/sorted", ino=1312)
    kernel.arguments(sort, b"sort", b"/data/words")
    kernel.name(sort, words)
    kernel.used(sort, Relation.READ, words, 4)
    kernel.name(sort, ordered)
    kernel.generated(sort, Relation.WRITE, ordered, 2)
    read()
    kernel.counters[1][0].captured += 3
    kernel.counters[1][0].lost[Loss.RING] += 3
    read()
    enforce(2)
    kernel.used(sort, Relation.READ, words, 4, 4096)
    read()
    return Made(batches, pipeline)


def _counters(kernel: SimulatedKernel) -> list[CpuCounters]:
    return [CpuCounters(cpu.captured, tuple(cpu.lost)) for cpu in kernel.counters[1]]


def statement() -> str:
    """The operator's word that the node's key is the node's."""
    return sign_statement(
        node=NODE.token,
        key=NODE_KEY.public,
        issuer=OPERATOR.public,
        issued_at=BEGIN_NS // 10**9 - 3600,
        sign=OPERATOR.sign,
    )


@contextlib.asynccontextmanager
async def delivery(
    server: EmbeddedNats, made: Made, refusals: list[str]
) -> AsyncIterator[DeliveryQueue]:
    """The agent's queue and window; one message at a time, so that runs do not differ."""
    window = PublishWindow(server.capture_connection_options(NODE.token), node=NODE.token)
    await window.start()

    async def send(batch: Batch, answered: Answered) -> None:
        answer: asyncio.Future[tuple[Fate, str]] = asyncio.get_running_loop().create_future()
        await window.put(batch, lambda fate, words: answer.set_result((fate, words)))
        fate, words = await answer
        if fate is not Fate.STORED:
            refusals.append(words)
        answered(fate, words)

    queue = DeliveryQueue(
        send=send,
        declare=lambda tenant, first, last: made.pipeline.declare(tenant, first, last, "stream"),
        chains=Chains(NODE, NODE_KEY, statement=statement(), clock_ns=Clock()),
        settings=DeliverySettings(retry_interval_s=0.01, retry_interval_max_s=0.01),
        clock=asyncio.get_running_loop().time,
        make_room=server.make_room,
    )
    running = asyncio.create_task(queue.run())
    try:
        yield queue
    finally:
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running
        await window.stop()


async def deliver(server: EmbeddedNats) -> None:
    """The scenario into the stream of `TENANT`, from the chain's opening to its end."""
    made = make(TENANT)
    async with delivery(server, made, []) as queue:
        queue.offer(made.batches)
        if await queue.drain():
            raise RuntimeError("the server did not answer for every message")


async def deliver_to_full(server: EmbeddedNats) -> list[str]:
    """The same into a stream without room: what is refused becomes a gap. Returns the refusals."""
    made, refusals = make(FULL), list[str]()
    async with delivery(server, made, refusals) as queue:
        machine = [batch for batch in made.batches if batch.klass == "machine"][:1]
        queue.offer(machine)
        await _until(lambda: not queue.owes())
        await _fill(server)
        queue.offer(batch for batch in made.batches if batch is not machine[0])
        if await queue.drain():
            raise RuntimeError("the server did not answer for every message")
    return refusals


async def _fill(server: EmbeddedNats) -> None:
    """Until not one byte fits."""
    user = unrestricted_user(server.keys.tenant(FULL), "manager", lifetime_s=60.0)
    async with connected([server.url], user) as client:
        size = _FILLER
        while size:
            try:
                await client.jetstream().publish("prov.v1.filler.graph", bytes(size))
            except nats.js.errors.APIError:
                size //= 2


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110  # nobody signals it
            await asyncio.sleep(0.01)
