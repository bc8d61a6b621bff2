# SPDX-License-Identifier: Apache-2.0
"""The agent from ring bytes to an auditor, with a real nats-server that is full, killed or away.

Promises: G2 (captured = delivered + declared, to the record), G3, G5, G6, G8.
"""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import nats.js.errors as nats_errors
from headwater_agent.node import NodeIdentity
from headwater_agent.publish import PublishWindow
from headwater_agent.service import Agent, Balance
from headwater_agent.settings import AgentSettings, BatchSettings, DeliverySettings
from headwater_agent.slots import Workload, place
from headwater_auditor import TenantStream
from headwater_cli.consume import Account, fetch_all
from headwater_cli.embedded_nats import EmbeddedNats
from headwater_cli.state import tenant_key
from headwater_operator.accounts import Quotas, unrestricted_user
from headwater_prov.document import Document, merge
from headwater_prov.identifiers import parse_vertex_name
from headwater_prov.policy import PolicySet, load_directory
from headwater_prov.validation import Rule, validate

from bench.pipeline.workloads import random_workload
from tests.integration.fake_kernel import FakeKernel

SETTINGS = AgentSettings(
    batch=BatchSettings(flush_interval_s=0.02, gap_interval_s=0.05),
    delivery=DeliverySettings(
        retry_interval_s=0.05, retry_interval_max_s=0.3, drain_timeout_s=20.0
    ),
    settle_s=0.0,
)


def policies(directory: Path, *namespaces: str, extra: str = "") -> PolicySet:
    directory.mkdir(exist_ok=True)
    for namespace in namespaces:
        (directory / f"{namespace}.yaml").write_text(
            "apiVersion: headwater.dev/v1alpha1\nkind: ProvenancePolicy\n"
            f"metadata: {{name: all, namespace: {namespace}}}\n"
            f"spec:\n  podSelector: {{}}\n  {extra}\n"
        )
    return load_directory(directory)


@asynccontextmanager
async def agent_on(
    nats: EmbeddedNats, kernel: FakeKernel, settings: AgentSettings = SETTINGS
) -> AsyncIterator[Agent]:
    node = NodeIdentity(bytes(16), bytes(range(16)), kernel.load_id)
    window = PublishWindow(
        nats.capture_connection_options(node.token),
        node=node.token,
        max_bytes=settings.delivery.window_bytes,
        answer_timeout_s=1.0,
    )
    await window.start()
    agent = Agent(
        kernel=kernel,  # type: ignore[arg-type]  # the ring is a stand-in
        node=node,
        tenant_key=lambda tenant: tenant_key(nats.state, tenant),
        send=window.put,
        settings=settings,
        spool=nats.state,
        make_room=nats.make_room,
    )
    await agent.start()
    try:
        yield agent
    finally:
        await window.stop()


async def bind(agent: Agent, nats: EmbeddedNats, found: PolicySet, **quotas: int) -> None:
    for number, namespace in enumerate(sorted({p.namespace for p in found.policies}), start=1):
        workload = Workload(namespace, f"run-{number}")
        placement = place(found, workload)
        assert placement is not None
        await nats.ensure_tenant(placement.tenant, Quotas(**quotas) if quotas else None)
        await agent.bind(100 + number, workload, placement)


async def work(kernel: FakeKernel, rounds: int, steps: int = 2_000) -> None:
    for _ in range(rounds):
        await asyncio.to_thread(kernel.work, steps)
        await asyncio.sleep(0.01)


def check(balance: Balance, account: Account) -> None:
    assert balance.balances
    assert (account.delivered, account.declared) == (balance.delivered, balance.declared)
    assert account.missing == 0


async def read(nats: EmbeddedNats, tenant: str) -> tuple[Document, Account]:
    return await fetch_all(nats.access, tenant)


async def test_everything_captured_is_delivered_and_valid(tmp_path: Path) -> None:
    kernel = FakeKernel()
    with EmbeddedNats(tmp_path / "state") as nats:
        async with agent_on(nats, kernel) as agent:
            await bind(agent, nats, policies(tmp_path / "p", "shop"))
            await work(kernel, 7)
            balance = (await agent.stop())["shop"]
        document, account = await read(nats, "shop")
    check(balance, account)
    assert balance.captured == kernel.captured(1) > 5_000
    assert balance.declared == 0
    # The simulation gives arguments and attributes to any object at any time; a kernel does not.
    quirks = {Rule.IN_AFTER_OUT, Rule.ENDPOINT_TYPE}
    assert {problem.rule for problem in validate([document])} <= quirks


async def test_g2_lost_records_are_declared_exactly(tmp_path: Path) -> None:
    kernel = FakeKernel(lose=0.03)
    with EmbeddedNats(tmp_path / "state") as nats:
        async with agent_on(nats, kernel) as agent:
            await bind(agent, nats, policies(tmp_path / "p", "shop"))
            await work(kernel, 5)
            balance = (await agent.stop())["shop"]
        document, account = await read(nats, "shop")
    check(balance, account)
    lost = sum(sum(cpu.lost) for cpu in kernel.simulated.counters[1])
    assert balance.declared == lost > 0
    assert sum(gap.count for gap in document.gaps) == lost


async def test_g3_server_killed_again_and_again_loses_and_repeats_nothing(tmp_path: Path) -> None:
    kernel = FakeKernel()
    with EmbeddedNats(tmp_path / "state") as nats:
        async with agent_on(nats, kernel) as agent:
            await bind(agent, nats, policies(tmp_path / "p", "shop"))
            for _ in range(3):
                await work(kernel, 3)
                os.kill(nats.server_pid, signal.SIGKILL)
                await work(kernel, 3)
                while not nats.server_pid:
                    await asyncio.sleep(0.05)
            balance = (await agent.stop())["shop"]
        _, account = await read(nats, "shop")
        assert nats.restarts == 3
    check(balance, account)
    assert balance.declared == 0
    assert account.delivered == kernel.captured(1)


async def test_g2_full_stream_is_declared_exactly_and_disturbs_no_other(tmp_path: Path) -> None:
    kernel = FakeKernel()
    with EmbeddedNats(tmp_path / "state") as nats:
        async with agent_on(nats, kernel) as agent:
            found = policies(tmp_path / "p", "full", "roomy")
            await nats.ensure_tenant("roomy")
            for number, namespace in enumerate(("full", "roomy"), start=1):
                workload = Workload(namespace, "run")
                placement = place(found, workload)
                quota = Quotas(stream_bytes=256 * 1024) if namespace == "full" else Quotas()
                await nats.ensure_tenant(namespace, quota)
                await agent.bind(100 + number, workload, placement)
            await work(kernel, 20)
            balances = await agent.stop()
        accounts = {tenant: (await read(nats, tenant))[1] for tenant in ("full", "roomy")}
    for tenant in ("full", "roomy"):
        check(balances[tenant], accounts[tenant])
    assert balances["full"].declared > 0
    assert balances["full"].delivered > 0
    assert balances["roomy"].declared == 0


async def test_g2_stream_full_to_the_last_byte_still_takes_its_gap(tmp_path: Path) -> None:
    kernel = FakeKernel()
    with EmbeddedNats(tmp_path / "state") as nats:
        async with agent_on(nats, kernel) as agent:
            await bind(agent, nats, policies(tmp_path / "p", "shop"), stream_bytes=256 * 1024)
            manager = unrestricted_user(nats.keys.tenants()[0], "manager", lifetime_s=60.0)
            async with nats._connect(manager) as connection:
                size = 100 * 1024
                while size:  # smaller and smaller pieces, until not one byte fits
                    try:
                        await connection.jetstream().publish("prov.v1.x.graph", bytes(size))
                    except nats_errors.APIError:
                        size //= 2
            await work(kernel, 3)
            balance = (await agent.stop())["shop"]
        quotas = nats.keys.tenants()[0].quotas
        await nats.ensure_tenant("shop", quotas)  # and the room is taken back
    assert balance.balances
    assert balance.delivered == 0 < balance.declared


async def test_g8_what_is_owed_at_a_stop_is_delivered_by_the_next_agent(tmp_path: Path) -> None:
    first = FakeKernel(load_id=b"load-one")
    hurried = AgentSettings(
        batch=SETTINGS.batch,
        delivery=DeliverySettings(drain_timeout_s=0.2, declare_timeout_s=0.2),
        settle_s=0.0,
    )
    state = tmp_path / "state"
    found = policies(tmp_path / "p", "shop")
    with EmbeddedNats(state) as nats:
        async with agent_on(nats, first, hurried) as agent:
            await bind(agent, nats, found)
            await work(first, 3)
            await asyncio.sleep(0.5)
            nats.stop()
            await work(first, 3)
            balance = (await agent.stop())["shop"]
    assert balance.owed > 0
    left = [state / "spool", *(state / "spool").rglob("*")]
    assert any(path.suffix == ".log" for path in left)
    for path in left:
        assert path.stat().st_mode & 0o777 == (0o700 if path.is_dir() else 0o600), path

    second = FakeKernel(load_id=b"load-two")
    with EmbeddedNats(state) as nats:
        async with agent_on(nats, second) as agent:
            await bind(agent, nats, found)
            await work(second, 2)
            after = (await agent.stop())["shop"]
        _, account = await read(nats, "shop")
    assert after.balances
    assert account.missing == 0
    assert account.delivered + account.declared == balance.captured + after.captured
    assert not any((state / "spool").iterdir())


async def test_g5_two_tenants_never_share_an_id(tmp_path: Path) -> None:
    kernel = FakeKernel()
    with EmbeddedNats(tmp_path / "state") as nats:
        async with agent_on(nats, kernel) as agent:
            await bind(agent, nats, policies(tmp_path / "p", "alpha", "beta"))
            await work(kernel, 4)
            balances = await agent.stop()
        documents = {tenant: (await read(nats, tenant))[0] for tenant in ("alpha", "beta")}
    assert all(balance.balances for balance in balances.values())
    ids = {tenant: {v.object for v in d.vertices.values()} for tenant, d in documents.items()}
    assert ids["alpha"]
    assert ids["beta"]
    assert not ids["alpha"] & ids["beta"]


async def test_g6_policy_edit_under_load_loses_nothing(tmp_path: Path) -> None:
    kernel = FakeKernel()
    with EmbeddedNats(tmp_path / "state") as nats:
        async with agent_on(nats, kernel) as agent:
            await bind(agent, nats, policies(tmp_path / "p", "alpha", "beta"))
            for edit in range(5):
                await work(kernel, 2)
                filters = "read" if edit % 2 else "write"
                found = policies(
                    tmp_path / "p", "alpha", extra=f"filters: {{relations: [{filters}]}}"
                )
                assert await agent.apply(found) == 1
            await work(kernel, 2)
            balances = await agent.stop()
        for tenant in ("alpha", "beta"):
            document, account = await read(nats, tenant)
            check(balances[tenant], account)
            assert not document.gaps
    assert len([slot for slot, _ in kernel.configured if slot == 1]) == 6
    assert len([slot for slot, _ in kernel.configured if slot == 2]) == 1


async def test_filter_by_policy_shows_what_tasks_of_its_pods_did(tmp_path: Path) -> None:
    """Two pods of one tenant on one node, each selected by one policy, and a third by both."""
    directory = tmp_path / "p"
    directory.mkdir()
    for name, selector in (("web", "app: web"), ("db", "app: db"), ("more", "tier: both")):
        (directory / f"{name}.yaml").write_text(
            "apiVersion: headwater.dev/v1alpha1\nkind: ProvenancePolicy\n"
            f"metadata: {{name: {name}, namespace: shop}}\n"
            f"spec: {{podSelector: {{matchLabels: {{{selector}}}}}}}\n"
        )
    found = load_directory(directory)
    kernel = FakeKernel()
    with EmbeddedNats(tmp_path / "state") as nats:
        async with agent_on(nats, kernel) as agent:
            await nats.ensure_tenant("shop")
            pods = ({"app": "web"}, {"app": "db"}, {"app": "db", "tier": "both"})
            for number, labels in enumerate(pods):
                workload = Workload("shop", f"pod-{number}", labels)
                await agent.bind(100 + number, workload, place(found, workload))
            for cgroup, slot in kernel.cgroups.items():
                kernel.simulated.cgroup = cgroup
                await asyncio.to_thread(random_workload, kernel.simulated, [slot], 800)
            balance = (await agent.stop())["shop"]

        async def read_pods(*policies: str) -> set[str]:
            """Names of the pods whose tasks act in what is shown."""
            credentials = nats.tenant_credentials("shop").text
            async with TenantStream(nats.url, credentials, policies=policies) as stream:
                document = merge([batch.document async for batch in stream.fetch_all()])
                [counted] = stream.balances().values()
            pods = {
                vertex.object: str(vertex.attributes["hw:pod"])
                for vertex in document.vertices.values()
                if "hw:pod" in vertex.attributes
            }
            ends = {end for edge in document.edges for end in (edge.sender, edge.receiver)}
            acting = {parse_vertex_name(end)[0] for end in ends} & pods.keys()
            assert counted.is_even and counted.captured == balance.captured
            return {pods[each] for each in acting}

        assert await read_pods() == {"pod-0", "pod-1", "pod-2"}
        assert await read_pods("shop/web") == {"pod-0"}
        assert await read_pods("shop/db") == {"pod-1", "pod-2"}
        assert await read_pods("shop/more") == {"pod-2"}
        assert await read_pods("shop/more", "shop/web") == {"pod-0", "pod-2"}
        assert await read_pods("bank/web") == set()
