# SPDX-License-Identifier: Apache-2.0
"""G7 on a real server: an agent delivers, an administrator of NATS does what he likes, and
`headwater verify` says what it was."""

import asyncio
import json
import os
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from headwater_agent.chain_heads import ChainHeads
from headwater_agent.node import NodeIdentity
from headwater_agent.node_key import FILE_NAME, NodeKey
from headwater_agent.publish import PublishWindow
from headwater_agent.service import Agent
from headwater_agent.settings import (
    AgentSettings,
    BatchSettings,
    DeliverySettings,
    SpoolSettings,
)
from headwater_auditor import StoredMessage
from headwater_cli.consume import open_stream
from headwater_cli.embedded_nats import EmbeddedNats
from headwater_cli.errors import Failure
from headwater_cli.main import headwater
from headwater_cli.session import signed_chains
from headwater_cli.state import tenant_key
from headwater_operator.accounts import stream_config, unrestricted_user

from tests.integration.fake_kernel import FakeKernel
from tests.integration.test_agent import bind, policies, work

SETTINGS = AgentSettings(
    batch=BatchSettings(flush_interval_s=0.01, gap_interval_s=0.05),
    delivery=DeliverySettings(retry_interval_s=0.05, retry_interval_max_s=0.3),
    settle_s=0.0,
)
HURRIED = replace(
    SETTINGS,
    delivery=DeliverySettings(
        retry_interval_s=0.05, drain_timeout_s=0.2, declare_timeout_s=0.2, queue_bytes=60_000
    ),
    spool=SpoolSettings(tenant_bytes=200_000),
)
TENANT = "shop"


@asynccontextmanager
async def signing_agent(
    nats: EmbeddedNats, kernel: FakeKernel, settings: AgentSettings = SETTINGS
) -> AsyncIterator[Agent]:
    """An agent as `headwater serve` starts it, in scope and stopped by the test."""
    node = NodeIdentity(bytes(16), bytes(range(16)), kernel.load_id)
    window = PublishWindow(
        nats.capture_connection_options(node.token), node=node.token, answer_timeout_s=1.0
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
        chains=signed_chains(nats, node, settings),
    )
    await agent.start()
    try:
        await bind(agent, nats, policies(nats.state.parent / "policies", TENANT))
        yield agent
    finally:
        await window.stop()


async def deliver(nats: EmbeddedNats, load: bytes, *, rounds: int = 5, stop: bool = True) -> None:
    """One life of an agent."""
    kernel = FakeKernel(load_id=load)
    async with signing_agent(nats, kernel) as agent:
        await work(kernel, rounds, steps=300)
        await asyncio.sleep(0.1)
        if stop:
            balance = (await agent.stop())[TENANT]
            assert balance.balances, agent.deliveries()
        else:
            await kill(agent)


async def kill(agent: Agent) -> None:
    """What is left of an agent that was killed: nothing is drained, closed or spooled."""
    assert agent._delivering is not None
    agent._delivering.cancel()
    assert agent._spools is not None
    agent._spools.release()
    await asyncio.to_thread(agent._ring.stop)


async def stored(nats: EmbeddedNats) -> list[StoredMessage]:
    async with open_stream(nats.access, TENANT, name="attacker") as stream:
        return [message async for message in stream.fetch_messages()]


async def rewrite(nats: EmbeddedNats, messages: list[StoredMessage]) -> None:
    """What only an administrator of NATS can do: the stream made anew, of what he wants in it."""
    tenant = nats.keys.tenant(TENANT)
    config = replace(stream_config(tenant.quotas), duplicate_window=0.1)
    async with nats._connect(unrestricted_user(tenant, "administrator", lifetime_s=60)) as client:
        manager, stream = client.jsm(), client.jetstream()
        await manager.delete_stream("PROV")
        await manager.add_stream(config)
        ids: set[str] = set()
        for message in messages:
            name = message.headers.get("Nats-Msg-Id", "")
            if name in ids:
                await asyncio.sleep(0.3)
            ids.add(name)
            await stream.publish(message.subject, message.payload, headers=dict(message.headers))


def invoke(*words: str) -> Result:
    return CliRunner().invoke(headwater, ["verify", *words], prog_name="headwater")


async def verify(nats: EmbeddedNats, *words: str) -> tuple[int, dict[str, Any]]:
    """Run the program on the state of `nats`; return its status and what it said."""
    return await verify_tenant(nats, TENANT, *words)


async def verify_tenant(nats: EmbeddedNats, tenant: str, *words: str) -> tuple[int, dict[str, Any]]:
    arguments = ("--tenant", tenant, "--state", str(nats.state), "-o", "json", *words)
    result = await asyncio.to_thread(invoke, *arguments)
    assert result.exit_code in (0, 1, 3), result.output
    return result.exit_code, json.loads(result.stdout)


def kinds(report: dict[str, Any]) -> set[str]:
    return {finding["kind"] for finding in report["findings"]}


@pytest.fixture
async def nats(tmp_path: Path) -> AsyncIterator[EmbeddedNats]:
    with EmbeddedNats(tmp_path / "state", storage_bytes=4 * 1024**3) as nats:
        yield nats


# -- what is honest --------------------------------------------------------------------------------


async def test_an_untouched_stream_is_intact_through_restarts(nats: EmbeddedNats) -> None:
    for load in (b"load-one", b"load-two"):
        await deliver(nats, load)
    status, report = await verify(nats)
    assert (status, report["verdict"]) == (0, "intact"), report
    assert [chain["end"] for chain in report["chains"]] == ["closed", "closed"]
    assert {chain["operator"] for chain in report["chains"]} == {nats.keys.signing.public}
    assert report["delivered"] > 100 and report["notes"] == []


async def test_a_running_agent_is_open_and_a_killed_one_is_replaced(nats: EmbeddedNats) -> None:
    await deliver(nats, b"load-one", stop=False)
    status, report = await verify(nats)
    assert status == 0 and [chain["end"] for chain in report["chains"]] == ["open"], report
    await deliver(nats, b"load-two")
    status, report = await verify(nats)
    assert status == 0, report
    assert sorted(chain["end"] for chain in report["chains"]) == ["closed", "replaced"]


async def test_killed_servers_and_answers_that_are_lost_are_no_finding(nats: EmbeddedNats) -> None:
    kernel = FakeKernel()
    async with signing_agent(nats, kernel) as agent:
        for _ in range(3):
            await work(kernel, 3, steps=300)
            os.kill(nats.server_pid, signal.SIGKILL)
            await work(kernel, 3, steps=300)
            while not nats.server_pid:
                await asyncio.sleep(0.05)
        await agent.stop()
    status, report = await verify(nats)
    assert status == 0, report
    assert [chain["end"] for chain in report["chains"]] == ["closed"]


async def test_spooled_and_given_up_messages_are_no_finding(tmp_path: Path) -> None:
    """NATS goes away: the bound gives batches up, the rest is spooled for the next agent."""
    state = tmp_path / "state"
    kernel = FakeKernel()
    with EmbeddedNats(state) as nats:
        async with signing_agent(nats, kernel, HURRIED) as agent:
            await work(kernel, 2, steps=300)
            await asyncio.sleep(0.2)
            nats.stop()
            await work(kernel, 10, steps=1000)
            await asyncio.sleep(0.1)
            balance = (await agent.stop())[TENANT]
    assert balance.owed > 0 and any((state / "spool" / TENANT).iterdir())
    with EmbeddedNats(state) as nats:
        await deliver(nats, b"load-two")
        status, report = await verify(nats)
    assert status == 0, report
    assert [chain["end"] for chain in report["chains"]] == ["replaced", "closed"]
    assert report["declared"] > 0 and report["notes"] == []


async def test_a_full_stream_leaves_void_places_and_is_intact(nats: EmbeddedNats) -> None:
    kernel = FakeKernel()
    async with signing_agent(nats, kernel) as agent:
        tenant = nats.keys.tenant(TENANT)
        await nats.ensure_tenant(TENANT, replace(tenant.quotas, stream_bytes=256 * 1024))
        await work(kernel, 20, steps=1500)
        balance = (await agent.stop())[TENANT]
    assert balance.balances and balance.declared > 0
    voids = [m for m in await stored(nats) if "Hw-Void" in m.headers]
    assert voids, "nothing was refused and given up: the test proves nothing"
    status, report = await verify(nats)
    assert status == 0, report
    assert report["declared"] == balance.declared and report["delivered"] == balance.delivered


# -- attacks ---------------------------------------------------------------------------------------


def _drop(messages: list[StoredMessage]) -> list[StoredMessage]:
    return messages[:3] + messages[4:]


def _alter(messages: list[StoredMessage]) -> list[StoredMessage]:
    return [*messages[:3], replace(messages[3], payload=messages[2].payload), *messages[4:]]


def _alter_header(messages: list[StoredMessage]) -> list[StoredMessage]:
    headers = {**messages[3].headers, "Hw-Policy": "none"}
    return [*messages[:3], replace(messages[3], headers=headers), *messages[4:]]


def _move(messages: list[StoredMessage]) -> list[StoredMessage]:
    return [*messages[:3], *messages[4:], messages[3]]


def _duplicate(messages: list[StoredMessage]) -> list[StoredMessage]:
    return [*messages, messages[3]]


def _forge(messages: list[StoredMessage]) -> list[StoredMessage]:
    headers = {k: v for k, v in messages[3].headers.items() if k not in ("Hw-Sig", "Hw-Chain")}
    return [*messages, replace(messages[3], headers={**headers, "Nats-Msg-Id": "made-up"})]


def _cut_first_load(messages: list[StoredMessage]) -> list[StoredMessage]:
    first = [m for m in messages if m.headers["Hw-Load"] == messages[0].headers["Hw-Load"]]
    return [*first[:-3], *messages[len(first) :]]


@pytest.mark.parametrize(
    ("attack", "expected"),
    [
        (_drop, {"dropped"}),
        (_alter, {"altered"}),
        (_alter_header, {"altered"}),
        (_move, {"reordered"}),
        (_duplicate, {"duplicated"}),
        (_forge, {"forged"}),
        (_cut_first_load, {"truncated"}),
    ],
)
async def test_g7_what_an_administrator_of_nats_does_is_found(
    nats: EmbeddedNats,
    attack: Callable[[list[StoredMessage]], list[StoredMessage]],
    expected: set[str],
) -> None:
    for load in (b"load-one", b"load-two"):
        await deliver(nats, load)
    messages = await stored(nats)
    await rewrite(nats, messages)
    assert (await verify(nats))[0] == 0, "copying alone must not be found"
    await rewrite(nats, attack(messages))
    status, report = await verify(nats)
    assert status == 1 and kinds(report) == expected, report


async def test_g7_the_end_cut_off_is_a_doubt_and_found_by_an_earlier_verification(
    nats: EmbeddedNats, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await deliver(nats, b"load-one")
    memory = ("--save-checkpoint", str(tmp_path / "m"), "--since-checkpoint", str(tmp_path / "m"))
    assert (await verify(nats, *memory))[0] == 0
    assert (await verify(nats, *memory))[0] == 0
    messages = await stored(nats)
    await rewrite(nats, messages[:-3])
    status, report = await verify(nats, *memory)
    assert status == 1 and kinds(report) == {"truncated"}, report
    # Without it the node could be at work still; not so when its next checkpoint is overdue.
    assert (await verify(nats))[0] == 0
    real = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: real() + 1100 * 10**9)
    status, report = await verify(nats)
    assert status == 3 and "was due at" in report["doubts"][0], report


async def test_g7_a_stream_emptied_is_found(nats: EmbeddedNats, tmp_path: Path) -> None:
    await deliver(nats, b"load-one")
    assert (await verify(nats, "--save-checkpoint", str(tmp_path / "m")))[0] == 0
    await rewrite(nats, [])
    assert (await verify(nats))[0] == 3
    status, report = await verify(nats, "--since-checkpoint", str(tmp_path / "m"))
    assert status == 1 and kinds(report) == {"truncated"}


async def test_g7_a_stranger_with_a_key_of_his_own_is_found(nats: EmbeddedNats) -> None:
    """He may publish whatever he likes, and signs it; the operator did not state his key."""
    await deliver(nats, b"load-one")
    (nats.state / FILE_NAME).rename(nats.state / "kept")
    await deliver(nats, b"load-two")
    messages = await stored(nats)
    real = [m for m in messages if m.headers["Hw-Load"] == b"load-one".hex()]
    # The embedded operator states whatever key lies there, so the statements have to go.
    forged = [m for m in messages if m not in real and not m.subject.endswith(".checkpoint")]
    assert forged
    await rewrite(nats, [*real, *forged])
    status, report = await verify(nats)
    assert status == 1 and kinds(report) == {"forged"}, report
    assert "no trusted operator states" in report["findings"][0]["text"]


async def test_g7_headers_that_break_readers_break_nothing(nats: EmbeddedNats) -> None:
    """A stored message that looks like a word of the server, or like nothing at all."""
    await deliver(nats, b"load-one")
    tenant, node = nats.keys.tenant(TENANT), "prov.v1.x.graph"
    async with nats._connect(unrestricted_user(tenant, "administrator", lifetime_s=60)) as client:
        stream = client.jetstream()
        await stream.publish(node, b"", headers={"Status": "404", "Description": "No Messages"})
        await stream.publish(node, b"", headers={"Status": "409", "Description": "deleted"})
        await stream.publish(node, b"\xff" * 100, headers={"Hw-Seq": "9" * 4000})
        await stream.publish("prov.v1.x", b"")
    status, report = await verify(nats)
    assert status == 1 and len(report["findings"]) == 4 and kinds(report) == {"forged"}, report


# -- exports, periods, other servers ---------------------------------------------------------------


async def test_an_export_is_verified_without_a_server(tmp_path: Path) -> None:
    state, file = tmp_path / "state", tmp_path / "shop.export"
    with EmbeddedNats(state) as nats:
        await deliver(nats, b"load-one")
        status, report = await verify(nats, "--export", str(file))
        operator = nats.keys.signing.public
    assert status == 0 and file.stat().st_mode & 0o077 == 0
    read = await asyncio.to_thread(invoke, "--operator-key", operator, "-o", "json", str(file))
    again = json.loads(read.stdout)
    assert read.exit_code == 0 and again["chains"] == report["chains"]
    unnamed = await asyncio.to_thread(invoke, str(file))
    assert unnamed.exit_code == 3 and f"{operator} states it" in unnamed.stdout
    by_state = await asyncio.to_thread(invoke, "--state", str(state), str(file))
    assert by_state.exit_code == 0 and "tenant shop: intact" in by_state.stdout
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join(lines[:3] + lines[4:-1]) + b'{"messages": %d}\n' % (len(lines) - 3))
    dropped = await asyncio.to_thread(invoke, "--operator-key", operator, str(file))
    assert dropped.exit_code == 1 and "dropped" in dropped.stdout


async def test_a_period_is_judged_by_itself(nats: EmbeddedNats) -> None:
    await deliver(nats, b"load-one")
    await asyncio.sleep(0.05)
    middle = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime()) + f".{time.time_ns() % 10**9:09d}Z"
    await asyncio.sleep(0.05)
    await deliver(nats, b"load-two")
    for option, load in (("--from", b"load-two"), ("--to", b"load-one")):
        status, report = await verify(nats, option, middle)
        assert status == 0, report
        assert [chain["load"] for chain in report["chains"]] == [load.hex()]


async def test_a_tenant_verifies_with_nothing_but_its_credentials(
    nats: EmbeddedNats, tmp_path: Path
) -> None:
    await deliver(nats, b"load-one")
    credentials = tmp_path / "shop.creds"
    credentials.write_text(nats.tenant_credentials(TENANT).text())
    words = ("--tenant", TENANT, "--server", nats.url, "--credentials", str(credentials))
    trusted = await asyncio.to_thread(invoke, *words, "--operator-key", nats.keys.signing.public)
    assert trusted.exit_code == 0, trusted.output
    assert (await asyncio.to_thread(invoke, *words)).exit_code == 3


async def test_a_node_key_that_others_may_read_stops_the_start(nats: EmbeddedNats) -> None:
    NodeKey.load_or_create(nats.state)
    (nats.state / FILE_NAME).chmod(0o644)
    node = NodeIdentity(bytes(16), bytes(16), b"load-one")
    with pytest.raises(Failure, match="others may read the node's key"):
        signed_chains(nats, node, SETTINGS)


async def test_the_state_directory_keeps_no_secret_but_the_key(nats: EmbeddedNats) -> None:
    await deliver(nats, b"load-one")
    head = ChainHeads(nats.state).read(TENANT)
    assert head is not None and head.load == b"load-one".hex()
    assert (nats.state / "chains").stat().st_mode & 0o077 == 0
