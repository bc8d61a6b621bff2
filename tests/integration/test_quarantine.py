# SPDX-License-Identifier: Apache-2.0
"""Pods that are not known yet, on a whole agent and a real NATS: nothing is lost undeclared."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

from headwater_agent.service import Agent
from headwater_agent.settings import QuarantineSettings
from headwater_agent.slots import Placement, Workload
from headwater_cli.embedded_nats import EmbeddedNats
from headwater_prov.policy import CompiledPolicy
from headwater_prov.vocabulary import GapReason, Relation

from tests.integration.fake_kernel import FakeKernel
from tests.integration.test_agent import SETTINGS, agent_on, check, read, work
from tests.unit.agent.cluster.policies import compiled

WEB = compiled("web")
POD = Workload("shop", "web-1", pod_uid="u")


def placed(tenant: str, policy: CompiledPolicy = WEB) -> Placement:
    return Placement(tenant, ("shop/p",), policy)


@asynccontextmanager
async def running(
    tmp_path: Path, kernel: FakeKernel, **bounds: float
) -> AsyncIterator[tuple[Agent, EmbeddedNats]]:
    quarantine = QuarantineSettings(settle_s=0.05, **bounds)  # type: ignore[arg-type]
    with EmbeddedNats(tmp_path / "nats") as nats:
        for tenant in ("alpha", "beta"):
            await nats.ensure_tenant(tenant)
        async with agent_on(nats, kernel, replace(SETTINGS, quarantine=quarantine)) as agent:
            yield agent, nats


async def test_g1_g2_what_happened_before_the_pod_was_known_is_in_its_tenants_stream(
    tmp_path: Path,
) -> None:
    kernel = FakeKernel(lose=0.01)
    container = tmp_path / "pod" / "container"
    container.mkdir(parents=True)
    async with running(tmp_path, kernel) as (agent, nats):
        await agent.bind(100, POD, placed("beta"))
        identifier = (tmp_path / "pod").stat().st_ino
        assert await agent.quarantine(identifier, tmp_path / "pod")
        held = kernel.cgroups[identifier]
        assert kernel.cgroups[container.stat().st_ino] == held
        await work(kernel, 5)
        kept = kernel.captured(held)
        assert kept > 0
        named = Workload("shop", "web-1", pod_uid="u", container="main")
        slot = await agent.bind(
            identifier, POD, placed("alpha"), tmp_path / "pod", {container.stat().st_ino: named}
        )
        assert slot is not None
        assert kernel.cgroups[identifier] == kernel.cgroups[container.stat().st_ino] == slot.number
        assert slot.number != held
        await work(kernel, 3)
        balances = await agent.stop()
        for tenant in ("alpha", "beta"):
            check(balances[tenant], (await read(nats, tenant))[1])
        assert balances["alpha"].captured == kernel.captured(held) + kernel.captured(slot.number)


async def test_g2_flood_in_quarantine_is_declared_and_costs_no_other(tmp_path: Path) -> None:
    kernel = FakeKernel()
    async with running(tmp_path, kernel, pod_bytes=50_000) as (agent, nats):
        await agent.bind(100, POD, placed("beta"))
        assert await agent.quarantine(7, tmp_path)
        await work(kernel, 8)
        await agent.bind(7, POD, placed("alpha", compiled("web", Relation.ARG)), tmp_path)
        await work(kernel, 2)
        by_reason, by_tenant = agent.losses()
        balances = await agent.stop()
        for tenant in ("alpha", "beta"):
            check(balances[tenant], (await read(nats, tenant))[1])
        document, _ = await read(nats, "alpha")
        counts: dict[GapReason, int] = {}
        for gap in document.gaps:
            counts[gap.reason] = counts.get(gap.reason, 0) + gap.count
        assert counts[GapReason.QUARANTINE] == by_reason["quarantine"] == by_tenant["alpha"] > 1000
        assert balances["beta"].declared == 0
        assert set(counts) == {GapReason.QUARANTINE, GapReason.POLICY}


async def test_pod_that_no_policy_selects_leaves_nothing(tmp_path: Path) -> None:
    kernel = FakeKernel()
    async with running(tmp_path, kernel) as (agent, nats):
        assert await agent.quarantine(7, tmp_path)
        await work(kernel, 2)
        held = kernel.cgroups[7]
        assert await agent.bind(7, POD, None, tmp_path) is None
        assert 7 not in kernel.cgroups
        assert kernel.active[held] is False
        assert await agent.quarantine(8, tmp_path)
        assert kernel.cgroups[8] != held, "its objects may be somebody's"
        assert await agent.stop() == {}
        assert (await read(nats, "alpha"))[1].delivered == 0


async def test_g5_slot_is_used_again_only_if_nothing_happened_in_it(tmp_path: Path) -> None:
    kernel = FakeKernel()
    async with running(tmp_path, kernel, slots=2) as (agent, nats):
        for cgroup in range(10, 30):
            async with asyncio.timeout(10):
                while not await agent.quarantine(cgroup, tmp_path):
                    await asyncio.sleep(0.02)  # the slots settle
            await agent.bind(cgroup, POD, placed("alpha") if cgroup % 2 else None, tmp_path)
        async with asyncio.timeout(10):
            while not await agent.quarantine(30, tmp_path):
                await asyncio.sleep(0.02)
        assert len({slot for slot, _ in kernel.configured}) == 3, "two, and alpha's own"
        kernel.active = {kernel.cgroups[30]: True}
        await work(kernel, 1)
        await agent.bind(30, POD, placed("beta"), tmp_path)
        balances = await agent.stop()
        for tenant in ("alpha", "beta"):
            check(balances[tenant], (await read(nats, tenant))[1])
        assert balances["beta"].captured > 0


async def test_pod_without_a_slot_in_quarantine_is_captured_when_it_is_known(
    tmp_path: Path,
) -> None:
    kernel = FakeKernel()
    async with running(tmp_path, kernel, slots=1) as (agent, nats):
        assert await agent.quarantine(7, tmp_path)
        assert not await agent.quarantine(8, tmp_path)
        assert 8 not in kernel.cgroups
        await agent.bind(8, POD, placed("alpha"), tmp_path)
        await work(kernel, 1)
        balances = await agent.stop()
        check(balances["alpha"], (await read(nats, "alpha"))[1])


async def test_g2_pod_that_is_unknown_for_too_long_is_declared(tmp_path: Path) -> None:
    kernel = FakeKernel()
    async with running(tmp_path, kernel) as (agent, nats):
        assert await agent.quarantine(7, tmp_path)
        held = kernel.cgroups[7]
        await work(kernel, 2)
        await agent.expire(7, tmp_path)
        assert 7 not in kernel.cgroups
        kernel.active[held] = False
        await agent.bind(7, POD, placed("alpha"), tmp_path)
        await work(kernel, 2)
        balances = await agent.stop()
        check(balances["alpha"], (await read(nats, "alpha"))[1])
        assert balances["alpha"].declared == kernel.captured(held)
