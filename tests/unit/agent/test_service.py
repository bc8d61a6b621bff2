# SPDX-License-Identifier: Apache-2.0
"""The agent's care for cgroups: what is below goes along, keys come first, losses are added up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from headwater_agent.batch import Batch
from headwater_agent.delivery import Answered, Fate
from headwater_agent.node import NodeIdentity
from headwater_agent.service import Agent
from headwater_agent.settings import AgentSettings, BatchSettings, DeliverySettings, SpoolSettings
from headwater_agent.slots import Placement, Workload

from tests.integration.fake_kernel import FakeKernel
from tests.unit.agent.cluster.policies import compiled
from tests.unit.agent.harness import document_of

WEB = Workload("shop", "web-1", {"app": "web"}, pod_uid="uid-1")


def placement(tenant: str = "alpha", name: str = "p") -> Placement:
    return Placement(tenant, (f"shop/{name}",), compiled())


class Keys:
    def __init__(self) -> None:
        self.missing: set[str] = set()

    def __call__(self, tenant: str) -> bytes:
        if tenant in self.missing:
            raise LookupError(tenant)
        return tenant.encode().ljust(32, b".")


class Rig:
    def __init__(
        self,
        lose: float = 0.0,
        forget_after_s: float = 60.0,
        state: Path | None = None,
        load: bytes = b"fakeload",
    ) -> None:
        self.kernel = FakeKernel(lose=lose, load_id=load)
        self.takes = True
        self.keys = Keys()
        self.batches: list[Batch] = []
        self.agent = Agent(
            kernel=self.kernel,  # type: ignore[arg-type]  # the ring is a stand-in
            node=NodeIdentity(bytes(16), bytes(range(16)), self.kernel.load_id),
            tenant_key=self.keys,
            send=self.send,
            settings=AgentSettings(
                batch=BatchSettings(flush_interval_s=0.02, gap_interval_s=0.02),
                settle_s=0.0,
                forget_after_s=forget_after_s,
                spool=SpoolSettings(retry_s=0.02),
                delivery=DeliverySettings(drain_timeout_s=0.1, declare_timeout_s=0.1),
            ),
            spool=state,
        )

    async def send(self, batch: Batch, answered: Answered) -> None:
        if not self.takes:
            await asyncio.sleep(3600)
        self.batches.append(batch)
        answered(Fate.STORED, "")

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Agent]:
        await self.agent.start()
        try:
            yield self.agent
        finally:
            await self.agent.stop()

    def described(self) -> set[str]:
        """Names of the containers that tasks were declared with, empty for none."""
        return {
            str(members.get("hw:container", ""))
            for batch in self.batches
            if batch.klass == "graph"
            for members in document_of(batch).get("activity", {}).values()
            if "cf:pid" in members
        }


def tree(directory: Path) -> tuple[Path, list[int]]:
    """A pod's cgroup with two below; returns all ids, its own first."""
    paths = [directory / "pod", directory / "pod" / "a", directory / "pod" / "a" / "b"]
    for path in paths:
        path.mkdir()
    return paths[0], [path.stat().st_ino for path in paths]


async def test_g1_what_is_below_a_cgroup_is_bound_and_moved_with_it(tmp_path: Path) -> None:
    rig = Rig()
    path, ids = tree(tmp_path)
    async with rig.running() as agent:
        slot = await agent.bind(ids[0], WEB, placement(), path)
        assert slot is not None
        assert rig.kernel.cgroups == dict.fromkeys(ids, slot.number)
        assert await agent.place(ids[0], WEB, placement(name="q"))
        assert set(rig.kernel.cgroups) == set(ids)
        assert slot.number not in rig.kernel.cgroups.values()
        assert not await agent.place(ids[0], WEB, placement(name="q"))
        assert not await agent.place(ids[0], WEB, None)
        assert not rig.kernel.cgroups
        assert await agent.place(ids[0], WEB, placement())
        assert rig.kernel.cgroups == dict.fromkeys(ids, slot.number)
        agent.release(ids[0])
        assert ids[0] not in rig.kernel.cgroups


async def test_many_bound_at_once_find_their_slot_configured() -> None:
    rig = Rig()
    async with rig.running() as agent:
        slots = await asyncio.gather(
            *(agent.bind(number, WEB, placement()) for number in range(1, 101))
        )
        assert len({slot.number for slot in slots if slot is not None}) == 1
        assert len(rig.kernel.configured) == 1
        assert len(rig.kernel.cgroups) == 100
        assert agent.epoch == 1


async def test_slot_without_a_key_is_never_taken_for_configured() -> None:
    rig = Rig()
    rig.keys.missing.add("alpha")
    async with rig.running() as agent:
        for _ in range(2):
            with pytest.raises(LookupError):
                await agent.bind(1, WEB, placement())
        assert not rig.kernel.cgroups
        assert not rig.kernel.configured
        rig.keys.missing.clear()
        await agent.bind(1, WEB, placement())
        assert len(rig.kernel.configured) == 1
        rig.keys.missing.add("beta")
        with pytest.raises(LookupError):
            await agent.place(1, WEB, placement("beta"))
        assert list(rig.kernel.cgroups) == [1]
        assert len(rig.kernel.configured) == 1


async def test_container_keeps_its_name_when_its_pod_moves_and_loses_it_after_its_end(
    tmp_path: Path,
) -> None:
    rig = Rig(forget_after_s=0.0)
    path, ids = tree(tmp_path)
    rig.kernel.simulated.cgroup = ids[1]
    container = Workload("shop", "web-1", WEB.labels, "uid-1", "main", "sha256:1")
    async with rig.running() as agent:
        await agent.bind(ids[0], WEB, placement(), path)
        await agent.describe(ids[1], ids[0], container)
        await agent.place(ids[0], WEB, placement(name="q"))
        await asyncio.to_thread(rig.kernel.work, 200)
        async with asyncio.timeout(10):
            while not rig.described():
                await asyncio.sleep(0.02)
        assert rig.described() == {"main"}
        agent.forget(ids[1], ids[0])
        async with asyncio.timeout(10):
            while rig.described() != {""}:
                rig.batches.clear()
                await asyncio.to_thread(rig.kernel.work, 200)
                await asyncio.sleep(0.1)


async def test_losses_are_added_up_by_reason_and_tenant() -> None:
    rig = Rig(lose=0.05)
    async with rig.running() as agent:
        await agent.bind(1, WEB, placement())
        await agent.bind(2, WEB, placement("beta"))
        await asyncio.to_thread(rig.kernel.work, 2000)
        by_reason, by_tenant = agent.losses()
    lost = {
        slot: sum(sum(cpu.lost) for cpu in cpus)
        for slot, cpus in rig.kernel.simulated.counters.items()
    }
    assert by_tenant == {"alpha": lost[1], "beta": lost[2]}
    assert sum(by_reason.values()) == sum(by_tenant.values()) > 0
    assert by_reason["stream"] == 0


async def test_question_to_the_ring_that_nobody_waits_for_any_more_ends_nothing() -> None:
    rig = Rig()
    async with rig.running() as agent:
        cancelled = sum(agent._ring.call(lambda pipeline: None).cancel() for _ in range(50))
        assert cancelled, "the ring's thread was faster each time"
        await asyncio.wrap_future(agent._ring.call(lambda pipeline: None))
        agent.check()


async def test_g8_what_is_left_for_a_tenant_waits_for_its_key(tmp_path: Path) -> None:
    first = Rig(state=tmp_path)
    first.takes = False
    await first.agent.start()
    await first.agent.bind(101, WEB, placement())
    await asyncio.to_thread(first.kernel.work, 500)
    balance = (await first.agent.stop())["alpha"]
    assert balance.owed == balance.captured > 0
    second = Rig(state=tmp_path, load=b"load-two")
    second.keys.missing.add("alpha")
    await second.agent.start()
    await asyncio.sleep(0.1)
    assert second.batches == [] and list((tmp_path / "spool" / "alpha").iterdir())
    second.keys.missing.clear()
    async with asyncio.timeout(5):
        while sum(b.last - b.first + 1 for b in second.batches if b.last) < balance.captured:
            await asyncio.sleep(0.01)
    await second.agent.stop()
    assert not any((tmp_path / "spool").rglob("*.log"))
