# SPDX-License-Identifier: Apache-2.0
"""Faults of docs/reliability.md that no other test has: what is captured arrives, or is declared.

Each ends with captured = delivered + declared, to the record, everything stored once, and chains
that verify. Promises: G2, G3, G7, G8.
"""

import asyncio
import os
import resource
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from headwater_agent import publish_link
from headwater_agent.chain import Chains
from headwater_agent.node import NodeIdentity
from headwater_agent.node_key import NodeKey
from headwater_agent.publish import ConnectionOptions, PublishWindow
from headwater_agent.service import Agent
from headwater_agent.settings import AgentSettings, BatchSettings, DeliverySettings
from headwater_agent.slots import Workload, place
from headwater_auditor import TenantStream
from headwater_auditor.batch import parse_header
from headwater_auditor.stream_session import Credentials
from headwater_auditor.tracking import Tracker
from headwater_auditor.verification import Scope, StreamVerifier, Verdict
from headwater_cli.embedded_nats import EmbeddedNats
from headwater_operator.accounts import OperatorKeys, Quotas
from headwater_prov.balance import Balance
from headwater_prov.statement import sign_statement

from tests.integration.fake_kernel import FakeKernel
from tests.integration.nats.freezing import freeze, thaw
from tests.integration.nats.proxy import Proxy
from tests.integration.nats.three_servers import Servers, agent_options
from tests.integration.test_agent import policies, work

SETTINGS = AgentSettings(
    batch=BatchSettings(flush_interval_s=0.02, gap_interval_s=0.05),
    delivery=DeliverySettings(
        retry_interval_s=0.05, retry_interval_max_s=0.3, drain_timeout_s=30.0
    ),
    settle_s=0.0,
)
QUOTAS = Quotas(stream_bytes=64 * 1024 * 1024)
TENANT = "shop"
NODE = NodeIdentity(bytes(16), bytes(range(16)), b"reliable")


@asynccontextmanager
async def agent_by(
    options: ConnectionOptions, keys: OperatorKeys, kernel: FakeKernel, directory: Path
) -> AsyncIterator[Agent]:
    """An agent that captures for one tenant, over a connection of the test's choice."""
    key = NodeKey.generate()
    statement = sign_statement(
        node=NODE.token,
        key=key.public,
        issuer=keys.signing.public,
        issued_at=int(time.time()),
        sign=keys.signing.sign,
    )
    window = PublishWindow(options, node=NODE.token, answer_timeout_s=1.0)
    await window.start()
    spool = directory / "agent"
    spool.mkdir(mode=0o700)
    agent = Agent(
        kernel=kernel,  # type: ignore[arg-type]  # the ring is a stand-in
        node=NODE,
        tenant_key=lambda tenant: tenant.encode().ljust(32, b"k"),
        send=window.put,
        settings=SETTINGS,
        spool=spool,
        chains=Chains(NODE, key, statement=statement),
    )
    await agent.start()
    try:
        found = policies(directory / "policies", TENANT)
        workload = Workload(TENANT, "run")
        await agent.bind(101, workload, place(found, workload))
        yield agent
    finally:
        await window.stop()


async def read(
    urls: Sequence[str], credentials: Credentials, operator: str, *, from_start: bool = True
) -> tuple[Balance, Counter[str], Verdict, object]:
    """What a stream says of itself: numbers, how often each message is there, the verdict."""
    tracker = Tracker(from_start=from_start)
    ids: Counter[str] = Counter()
    verifier = StreamVerifier(TENANT, [operator])
    async with TenantStream(urls, credentials) as stream:
        async for message in stream.fetch_messages():
            tracker.admit(parse_header(message.subject, message.headers))
            ids[message.headers["Nats-Msg-Id"]] += 1
            verifier.feed(message)
    [balance] = tracker.balances().values()
    report = verifier.report(Scope(now_ns=time.time_ns()))
    return balance, ids, report.verdict, report.findings


async def stop_and_check(
    agent: Agent, kernel: FakeKernel, urls: Sequence[str], credentials: Credentials, operator: str
) -> Balance:
    """The end of every test: nothing is missing, nothing is there twice."""
    said = (await agent.stop())[TENANT]
    assert said.captured == kernel.captured(1) > 1_000
    assert said.balances, agent.deliveries()
    balance, ids, verdict, findings = await read(urls, credentials, operator)
    assert (balance.delivered, balance.declared) == (said.delivered, said.declared)
    assert balance.is_even and balance.repeated == 0, balance
    assert set(ids.values()) == {1}
    assert verdict is Verdict.INTACT, findings
    return balance


@pytest.fixture
async def nats(tmp_path: Path) -> AsyncIterator[EmbeddedNats]:
    with EmbeddedNats(tmp_path / "state", storage_bytes=1024**3) as nats:
        await nats.ensure_tenant(TENANT, QUOTAS)
        yield nats


def port_of(nats: EmbeddedNats) -> int:
    return int(nats.url.rpartition(":")[2])


async def check(agent: Agent, kernel: FakeKernel, nats: EmbeddedNats) -> Balance:
    """`stop_and_check` of the embedded server."""
    credentials = nats.tenant_credentials(TENANT).text
    operator = nats.keys.signing.public
    return await stop_and_check(agent, kernel, [nats.url], credentials, operator)


# -- the way to NATS -------------------------------------------------------------------------------


async def test_g3_connection_cut_again_and_again(nats: EmbeddedNats, tmp_path: Path) -> None:
    kernel = FakeKernel()
    async with (
        Proxy(port_of(nats)) as proxy,
        agent_by(
            agent_options(nats.keys, (proxy.url,), NODE.token), nats.keys, kernel, tmp_path
        ) as agent,
    ):
        for _ in range(12):
            await work(kernel, 2, steps=500)
            proxy.cut()
        balance = await check(agent, kernel, nats)
    assert proxy.connections > 6
    assert balance.declared == 0


@pytest.mark.parametrize("directions", [(), ("answers",), ("requests",)])
async def test_g3_partition_that_nobody_is_told_of(
    nats: EmbeddedNats, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, directions: tuple[str, ...]
) -> None:
    """No packet, no reset: neither way, or what was stored is not said, or never arrives."""
    monkeypatch.setattr(publish_link, "_PING_INTERVAL_S", 0.5)
    kernel = FakeKernel()
    async with (
        Proxy(port_of(nats)) as proxy,
        agent_by(
            agent_options(nats.keys, (proxy.url,), NODE.token), nats.keys, kernel, tmp_path
        ) as agent,
    ):
        await work(kernel, 3, steps=500)
        proxy.silence(*directions)
        await work(kernel, 10, steps=500)
        await asyncio.sleep(2.5)
        assert agent.deliveries()[TENANT].owed_bytes > 0
        proxy.heal()
        await work(kernel, 3, steps=500)
        balance = await check(agent, kernel, nats)
    assert balance.declared == 0


async def test_g8_token_ends_while_the_server_is_away(nats: EmbeddedNats, tmp_path: Path) -> None:
    """Of two seconds, and nothing answers for five: the connection is refused, then a new one."""
    kernel = FakeKernel()
    options = agent_options(nats.keys, (nats.url,), NODE.token, lifetime_s=2.0)
    async with agent_by(options, nats.keys, kernel, tmp_path) as agent:
        await work(kernel, 3, steps=500)
        freeze(nats.server_pid)
        await work(kernel, 10, steps=500)
        await asyncio.sleep(5.0)
        thaw(nats.server_pid)
        await work(kernel, 3, steps=500)
        balance = await check(agent, kernel, nats)
    assert balance.declared == 0


# -- NATS' own disk --------------------------------------------------------------------------------


async def test_g3_disk_of_nats_is_full_and_has_room_again(
    nats: EmbeddedNats, tmp_path: Path
) -> None:
    """It answers nothing that it cannot write, and takes nothing more until it is started again."""
    kernel = FakeKernel()
    options = agent_options(nats.keys, (nats.url,), NODE.token)
    async with agent_by(options, nats.keys, kernel, tmp_path) as agent:
        await work(kernel, 3, steps=500)
        everything = resource.prlimit(nats.server_pid, resource.RLIMIT_FSIZE)
        resource.prlimit(nats.server_pid, resource.RLIMIT_FSIZE, (64 * 1024, everything[1]))
        await work(kernel, 10, steps=1000)
        await asyncio.sleep(2.0)
        assert agent.deliveries()[TENANT].offers_failed > 0
        resource.prlimit(nats.server_pid, resource.RLIMIT_FSIZE, everything)
        os.kill(nats.server_pid, signal.SIGKILL)
        await work(kernel, 3, steps=500)
        balance = await check(agent, kernel, nats)
    assert balance.declared == 0 and nats.restarts == 1


# -- time ------------------------------------------------------------------------------------------


def _later(real: Callable[[], int], jump_ns: int) -> int:
    return real() + jump_ns


async def test_g2_clock_of_the_node_jumps(
    nats: EmbeddedNats, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A day ahead, two days back: numbers, order and chains do not rest on it."""
    kernel = FakeKernel()
    real = time.time_ns
    options = agent_options(nats.keys, (nats.url,), NODE.token)
    async with agent_by(options, nats.keys, kernel, tmp_path) as agent:
        for jump_ns in (0, 86_400 * 10**9, -86_400 * 10**9):
            monkeypatch.setattr(time, "time_ns", partial(_later, real, jump_ns))
            await work(kernel, 4, steps=500)
            await asyncio.sleep(0.1)
        monkeypatch.setattr(time, "time_ns", real)
        await check(agent, kernel, nats)
    async with TenantStream(nats.url, nats.tenant_credentials(TENANT).text) as stream:
        times = [
            edge.time_ns
            async for batch in stream.fetch_all()
            for edge in batch.document.edges
            if edge.time_ns is not None
        ]
    assert max(times) - min(times) > 86_400 * 10**9, "records have the clock's time"


# -- the tenant's account --------------------------------------------------------------------------


async def test_g2_account_deleted_and_made_again(tmp_path: Path) -> None:
    """What was in the stream went with it; everything that it had not is in the new one."""
    kernel = FakeKernel()
    async with Servers(tmp_path / "nats", 1) as servers:
        await servers.ensure_tenant(TENANT, QUOTAS)
        options = servers.agent_options(NODE.token)
        async with agent_by(options, servers.keys, kernel, tmp_path) as agent:
            await work(kernel, 5, steps=500)
            await eventually(lambda: agent.deliveries()[TENANT].delivered == kernel.captured(1))
            before = kernel.captured(1)
            await servers.delete_tenant(TENANT)
            await work(kernel, 5, steps=500)
            await eventually(lambda: agent.deliveries()[TENANT].offers_failed > 2)
            assert agent.deliveries()[TENANT].delivered == before
            await servers.ensure_tenant(TENANT, QUOTAS)
            await work(kernel, 2, steps=500)
            await eventually(lambda: agent.deliveries()[TENANT].delivered == kernel.captured(1))
            said = (await agent.stop())[TENANT]
        assert said.balances and said.captured == kernel.captured(1)
        credentials = servers.auditor(TENANT).text
        operator = servers.keys.signing.public
        balance, ids, verdict, findings = await read(
            servers.urls, credentials, operator, from_start=False
        )
    assert balance.delivered == said.captured - before
    assert balance.is_even and balance.declared == balance.repeated == 0
    assert set(ids.values()) == {1}
    # The stream begins late, as one does whose oldest messages have left it.
    assert verdict is Verdict.INTACT, findings


async def eventually(condition: Any, timeout_s: float = 20.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not condition():  # nobody signals it
            await asyncio.sleep(0.02)


# -- three servers ---------------------------------------------------------------------------------


@asynccontextmanager
async def three_servers(tmp_path: Path, kernel: FakeKernel) -> AsyncIterator[tuple[Servers, Agent]]:
    async with Servers(tmp_path / "nats", 3) as servers:
        await servers.ensure_tenant(TENANT, QUOTAS)
        options = servers.agent_options(NODE.token)
        async with agent_by(options, servers.keys, kernel, tmp_path) as agent:
            await work(kernel, 3, steps=500)
            yield servers, agent


async def check_three(agent: Agent, kernel: FakeKernel, servers: Servers) -> Balance:
    credentials, operator = servers.auditor(TENANT).text, servers.keys.signing.public
    return await stop_and_check(agent, kernel, servers.urls, credentials, operator)


@pytest.mark.timeout(180)
async def test_g3_leader_of_a_stream_is_killed(tmp_path: Path) -> None:
    kernel = FakeKernel()
    async with three_servers(tmp_path, kernel) as (servers, agent):
        for _ in range(2):
            leader = await servers.leader(TENANT)
            await work(kernel, 2, steps=500)
            servers.kill(leader)
            await work(kernel, 5, steps=500)
            assert await servers.leader(TENANT) != leader
            servers.start(leader)
        balance = await check_three(agent, kernel, servers)
    assert balance.declared == 0


@pytest.mark.timeout(180)
async def test_g8_quorum_is_lost_and_comes_back(tmp_path: Path) -> None:
    kernel = FakeKernel()
    async with three_servers(tmp_path, kernel) as (servers, agent):
        gone = [number for number in range(3) if number != await servers.leader(TENANT)]
        for number in gone:
            servers.kill(number)
        before = agent.deliveries()[TENANT].delivered
        await work(kernel, 10, steps=500)
        await asyncio.sleep(3.0)
        assert agent.deliveries()[TENANT].delivered - before < kernel.captured(1) - before
        for number in gone:
            servers.start(number)
        await work(kernel, 3, steps=500)
        balance = await check_three(agent, kernel, servers)
    assert balance.declared == 0


@pytest.mark.timeout(180)
async def test_g3_one_server_loses_its_disk(tmp_path: Path) -> None:
    """It led the stream; it comes back empty and takes a copy from the others."""
    kernel = FakeKernel()
    async with three_servers(tmp_path, kernel) as (servers, agent):
        lost = await servers.leader(TENANT)
        servers.kill(lost)
        servers.wipe(lost)
        await work(kernel, 5, steps=500)
        servers.start(lost)
        await work(kernel, 5, steps=500)
        await servers.leader(TENANT)
        balance = await check_three(agent, kernel, servers)
    assert balance.declared == 0
