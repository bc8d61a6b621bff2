# SPDX-License-Identifier: Apache-2.0
"""What waits is on disk, within its bounds, and every number ends as delivered or declared."""

import asyncio
import errno
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

import pytest
from headwater_agent.batch import Batch
from headwater_agent.chain import Chains
from headwater_agent.delivery import Answered, DeliveryQueue, Fate
from headwater_agent.node_key import NodeKey
from headwater_agent.settings import DeliverySettings, SpoolSettings, WhenFull
from headwater_agent.spool import Spools
from headwater_agent.spool import log as spool_log
from headwater_auditor.verification import ChainEnd
from headwater_prov.balance import Ledger
from headwater_prov.stream import SequenceRange, parse_subject
from headwater_prov.vocabulary import RecordClass
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.agent.harness import NODE
from tests.unit.agent.test_delivery import FAST, Server, gap, graph
from tests.unit.auditor.simulated import Node, Stream, faulty, verify

MACHINE = Batch(
    "a", "machine", b"m", {"Nats-Msg-Id": "a-m", "Hw-Load": NODE.load_id.hex()}, first=0, last=0
)


@dataclass
class Gate:
    """A server behind a connection that is there or not."""

    server: Server
    is_open: bool = True

    async def send(self, batch: Batch, answered: Answered) -> None:
        while not self.is_open:
            await asyncio.sleep(0.001)
        await self.server.send(batch, answered)


@asynccontextmanager
async def queue_on(
    send: Callable[..., object],
    state: Path,
    spool: SpoolSettings | None = None,
    delivery: DeliverySettings = FAST,
    tenant_key: Callable[[str], bytes] = lambda tenant: bytes(32),
) -> AsyncIterator[DeliveryQueue]:
    spools = Spools(
        state,
        settings=spool or SpoolSettings(),
        load=NODE.load_id.hex(),
        boot=NODE.boot_id,
        tenant_key=tenant_key,
    )
    queue = DeliveryQueue(
        send=send,  # type: ignore[arg-type]
        declare=gap,
        chains=Chains(NODE, NodeKey.generate()),
        settings=delivery,
        clock=time.monotonic,
        spools=spools,
    )
    running = asyncio.create_task(queue.run())
    try:
        yield queue
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        spools.close()


def stored(batch: Batch, offer: int) -> Fate:
    return Fate.STORED


async def test_g8_memory_is_bounded_and_the_order_stays(tmp_path: Path) -> None:
    gate = Gate(Server(stored), is_open=False)
    small = replace(FAST, queue_bytes=1000, drain_timeout_s=5.0)
    async with queue_on(gate.send, tmp_path, delivery=small) as queue:
        for number in range(1, 102):
            queue.offer([graph(number)])
            if number % 10 == 0:
                await asyncio.sleep(0.001)
        assert queue.queue("a").held_bytes <= 1000
        assert queue.statistics()["a"].owed_bytes >= 101 * 100
        gate.is_open = True
        assert await queue.drain() == []
        counts = queue.statistics()["a"]
    assert gate.server.order == [f"a-{n}" for n in range(1, 102)]
    assert (counts.delivered, counts.declared, counts.owed_bytes) == (1010, 0, 0)
    assert list((tmp_path / "spool").iterdir()) == []


@pytest.mark.parametrize("when_full", WhenFull)
async def test_g2_beyond_a_tenants_bound_one_end_is_declared(
    tmp_path: Path, when_full: WhenFull
) -> None:
    gate = Gate(Server(stored), is_open=False)
    bound = SpoolSettings(tenant_bytes=16_000, when_full=when_full)
    patient = replace(FAST, drain_timeout_s=5.0)
    async with queue_on(gate.send, tmp_path, bound, patient) as queue:
        for number in range(1, 201):
            queue.offer([graph(number), replace(MACHINE, headers=_named(number))])
            spool = queue.queue("a").spool
            assert spool is not None
            if when_full is WhenFull.DROP_OLDEST:
                assert spool.size <= 16_000 + 500
            assert len(queue.queue("a").waiting) < 90
        gate.is_open = True
        assert await queue.drain() == []
        counts = queue.statistics()["a"]
    assert counts.delivered + counts.declared == 2000 and counts.declared == counts.given_up > 0
    ranges = gate.server.ranges("a")
    assert [n for _, first, last in ranges for n in range(first, last + 1)] == [*range(1, 2001)]
    machines = [name for name in gate.server.order if name.startswith("machine")]
    assert len(machines) == len(set(machines)) and "machine-200" in machines
    assert (ranges[-1][0] == "gap") == (when_full is WhenFull.DROP_NEWEST)


def _named(number: int) -> dict[str, str]:
    return {**MACHINE.headers, "Nats-Msg-Id": f"machine-{number}"}


async def test_g5_beyond_the_bound_of_all_whoever_has_most_pays(tmp_path: Path) -> None:
    gate = Gate(Server(stored), is_open=False)
    bound = SpoolSettings(tenant_bytes=40_000, total_bytes=40_000)
    async with queue_on(gate.send, tmp_path, bound, replace(FAST, drain_timeout_s=5.0)) as queue:
        for number in range(1, 201):
            queue.offer([graph(number, tenant="flood")])
            if number % 20 == 0:
                queue.offer([graph(number // 20, tenant="quiet")])
        gate.is_open = True
        assert await queue.drain() == []
        flood, quiet = (queue.statistics()[name] for name in ("flood", "quiet"))
    assert (quiet.delivered, quiet.declared) == (100, 0)
    assert flood.declared > 0 and flood.delivered + flood.declared == 2000


async def test_g2_what_is_too_old_is_declared(tmp_path: Path) -> None:
    gate = Gate(Server(stored), is_open=False)
    bound = SpoolSettings(max_age_s=60.0, file_bytes=1000)
    small = replace(FAST, queue_bytes=500, drain_timeout_s=5.0)
    async with queue_on(gate.send, tmp_path, bound, small) as queue:
        spooling = queue.spooling
        assert spooling is not None
        queue.offer(graph(number) for number in range(1, 51))
        await asyncio.sleep(0.01)
        assert queue.statistics()["a"].given_up == 0
        spooling._clock_ns = lambda: time.time_ns() + 61 * 10**9
        spooling.keep_house([queue.queue("a")], time.monotonic() + 10)
        assert queue.statistics()["a"].given_up >= 490  # one may be on its way
        spooling._clock_ns = time.time_ns
        queue.offer([graph(51)])
        gate.is_open = True
        assert await queue.drain() == []
        counts = queue.statistics()["a"]
    assert counts.delivered + counts.declared == 510 and counts.delivered >= 10
    assert gate.server.ranges("a")[-1] == ("graph", 501, 510)


async def test_metrics_say_how_much_and_how_long(tmp_path: Path) -> None:
    gate = Gate(Server(stored), is_open=False)
    async with queue_on(gate.send, tmp_path) as queue:
        before = time.time_ns()
        queue.offer(graph(number) for number in range(1, 6))
        await asyncio.sleep(0.01)
        assert queue.spooling is not None
        queue.spooling.keep_house([queue.queue("a")], time.monotonic() + 10)
        counts = queue.statistics()["a"]
        assert 500 < counts.disk_bytes < 5000
        assert before <= counts.oldest_ns <= time.time_ns()
        gate.is_open = True
        await queue.drain()
        queue.spooling.keep_house([queue.queue("a")], time.monotonic() + 20)
        assert counts.oldest_ns == 0


async def test_g2_a_full_disk_costs_nothing_while_memory_has_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int, data: bytes, offset: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(spool_log, "_write_all", full)
    server = Server(lambda batch, offer: Fate.UNKNOWN if offer == 1 else Fate.STORED)
    async with queue_on(server.send, tmp_path) as queue:
        queue.offer(graph(number) for number in range(1, 24))
        assert await queue.drain() == []
        counts = queue.statistics()["a"]
    assert (counts.delivered, counts.declared) == (230, 0)


async def test_g2_a_disk_that_is_full_for_a_while_is_exact_to_the_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Writes fail and work in turns, at every second place, with more than memory holds."""
    gate, random, write = Gate(Server(stored), is_open=False), Random(5), spool_log._write_all

    def sometimes(descriptor: int, data: bytes, offset: int) -> None:
        if random.random() < 0.5:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(descriptor, data, offset)

    monkeypatch.setattr(spool_log, "_write_all", sometimes)
    small = replace(FAST, queue_bytes=2000, drain_timeout_s=10.0)
    async with queue_on(gate.send, tmp_path, delivery=small) as queue:
        for number in range(1, 201):
            queue.offer([graph(number)])
        await asyncio.sleep(0.01)
        gate.is_open = True
        assert await queue.drain() == []
        counts = queue.statistics()["a"]
    assert counts.delivered + counts.declared == 2000 and counts.declared > 0
    covered = [n for _, first, last in gate.server.ranges("a") for n in range(first, last + 1)]
    assert covered == list(range(1, 2001))


async def test_g8_a_stop_keeps_what_nobody_takes_on_disk(tmp_path: Path) -> None:
    gate = Gate(Server(stored), is_open=False)
    hasty = replace(FAST, drain_timeout_s=0.05, declare_timeout_s=0.05)
    async with queue_on(gate.send, tmp_path, delivery=hasty) as queue:
        queue.offer(graph(number) for number in range(1, 11))
        assert await queue.drain() == []
        assert queue.statistics()["a"].given_up == 0
    assert gate.server.order == []
    assert list((tmp_path / "spool" / "a" / NODE.load_id.hex()).glob("*.log"))


async def test_g2_a_tenant_whose_key_is_gone_is_served_from_memory(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    keys: dict[str, bytes] = {}
    server = Server(stored)
    async with queue_on(server.send, tmp_path, tenant_key=keys.__getitem__) as queue:
        queue.offer(graph(number) for number in range(1, 6))
        await asyncio.sleep(0.05)
        assert queue.statistics()["a"].delivered == 50
        assert [r.message for r in caplog.records] == ["tenant a has no spool: 'a'"]
        keys["a"] = bytes(32)
        queue.offer(graph(number) for number in range(6, 11))
        assert queue.queue("a").spool is not None
        assert await queue.drain() == []
        assert queue.statistics()["a"].delivered == 100
    assert not list((tmp_path / "spool").rglob("*.log"))  # nothing is taken for owed


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 10**9),
    st.lists(st.booleans(), min_size=1, max_size=4),
    st.sampled_from([WhenFull.DROP_OLDEST, WhenFull.DROP_NEWEST]),
    st.sampled_from([2_000, 8_000, 1 << 20]),
)
def test_g2_g3_g7_through_kills_and_faults_every_number_is_answered_once(
    seed: int, killed: list[bool], when_full: WhenFull, tenant_bytes: int
) -> None:
    """Refusals, lost messages, lost answers, a disk that is too small, kills at any moment."""
    stream, random = Stream(), Random(seed)
    with tempfile.TemporaryDirectory() as directory:
        state = Path(directory) / "state"
        state.mkdir()
        bound = SpoolSettings(tenant_bytes=tenant_bytes, when_full=when_full)
        node = Node(state, spool=bound)
        node.delivery = replace(FAST, queue_bytes=random.choice([200, 1 << 20]))
        for is_killed in killed:
            node.run(
                stream,
                random.randrange(1, 40),
                decide=faulty(random, refuse=random.choice([0, 0.2, 0.9]), lose=0.2),
                random=random,
                killed=is_killed,
            )
        node.delivery = replace(FAST, drain_timeout_s=5.0)
        node.run(stream, 3)
        assert list((state / "spool").iterdir()) == []
    check(stream, node.captured)
    report = verify(stream)
    assert (report.findings, report.doubts) == ((), ())
    assert {chain.end for chain in report.chains} <= {ChainEnd.CLOSED, ChainEnd.REPLACED}


def check(stream: Stream, captured: dict[str, int]) -> None:
    """Every number is in one message."""
    ledgers = {load: Ledger() for load in captured}
    for message in stream.messages:
        _, record_class = parse_subject(message.subject)
        if "Hw-Seq" in message.headers:
            numbers = SequenceRange.parse(message.headers["Hw-Seq"])
            is_gap = record_class is RecordClass.GAP
            ledgers[message.headers["Hw-Load"]].add(numbers, is_gap=is_gap)
    for load, last in captured.items():
        balance = ledgers[load].balance(last)
        assert balance.is_even and balance.repeated == 0, (load, balance)
