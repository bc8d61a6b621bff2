# SPDX-License-Identifier: Apache-2.0
"""The contract of a stream, kept by an auditor that shares no code with ours (G2, G7).

It was written from docs/record-format.md in another language; what it says of a real stream must be
what `headwater verify` says.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from headwater_cli.embedded_nats import EmbeddedNats

from tests.integration.fake_kernel import FakeKernel
from tests.integration.killable_agent import killable_agent
from tests.integration.nats.nodejs import Audited, audit, prepare
from tests.integration.nats.test_verification import (
    TENANT,
    deliver,
    rewrite,
    signing_agent,
    stored,
    verify,
)
from tests.integration.test_agent import policies, work
from tests.integration.test_reliability import port_of


@pytest.fixture
async def nats(tmp_path: Path) -> AsyncIterator[EmbeddedNats]:
    with EmbeddedNats(tmp_path / "state", storage_bytes=4 * 1024**3) as nats:
        yield nats


@pytest.fixture
async def auditor(tmp_path: Path) -> tuple[Path, Path]:
    directory = tmp_path / "auditor"
    directory.mkdir()
    return prepare(directory), directory


async def run(nats: EmbeddedNats, auditor: tuple[Path, Path], durable: str = "nodejs") -> Audited:
    node, directory = auditor
    credentials = directory / "shop.creds"
    credentials.write_text(nats.tenant_credentials(TENANT).text())
    credentials.chmod(0o600)
    words = ("--server", nats.access.url, "--credentials", str(credentials), "--tenant", TENANT)
    key = nats.access.keys.signing.public
    return await asyncio.to_thread(
        audit, node, directory, *words, "--operator-key", key, "--durable", durable
    )


async def test_g2_g7_it_counts_and_believes_what_verify_does(
    nats: EmbeddedNats, auditor: tuple[Path, Path]
) -> None:
    await deliver(nats, b"\1" * 8)
    await deliver(nats, b"\2" * 8)
    audited = await run(nats, auditor)
    assert (audited.status, audited.stderr) == (0, "")
    status, report = await verify(nats)
    assert status == 0
    said: dict[str, Any] = audited.said
    assert said["problems"] == []
    assert said["messages"] == report["messages"]
    assert said["delivered"] == report["delivered"] > 0
    assert said["declared"] == report["declared"]
    assert said["relations"]["read"] > 0 and said["relations"]["memory_write"] > 0
    assert any(path.startswith("/") for path in said["paths"])


async def test_what_was_given_up_is_declared_and_no_hole(
    nats: EmbeddedNats, auditor: tuple[Path, Path]
) -> None:
    kernel = FakeKernel()
    async with signing_agent(nats, kernel) as agent:
        tenant = nats.keys.tenant(TENANT)
        await nats.ensure_tenant(TENANT, replace(tenant.quotas, stream_bytes=256 * 1024))
        await work(kernel, 20, steps=1500)
        balance = (await agent.stop())[TENANT]
    assert any("Hw-Void" in message.headers for message in await stored(nats))
    audited = await run(nats, auditor)
    assert (audited.status, audited.said["problems"]) == (0, [])
    assert audited.said["delivered"] == balance.delivered
    assert audited.said["declared"] == balance.declared > 0


@asynccontextmanager
async def after_a_power_failure(nats: EmbeddedNats, directory: Path) -> AsyncIterator[EmbeddedNats]:
    """Numbers are declared behind later ones, and places of the chain are never used."""
    await nats.ensure_tenant(TENANT)
    policies(directory / "policies", TENANT)
    state, rules, port = directory / "agent", directory / "policies", port_of(nats)
    async with killable_agent(nats.access, state, b"load-one", policies=rules) as agent:
        await agent.ask("work", 3, 500)
        nats.stop()
        await agent.ask("work", 10, 1000)
        await agent.kill()
    (path,) = (state / "spool" / TENANT / b"load-one".hex()).glob("*.log")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with EmbeddedNats(nats.state, port=port) as back:
        async with killable_agent(
            back.access, state, b"load-two", policies=rules, boot=bytes(16)
        ) as agent:
            await agent.stop()
        yield back


async def test_a_power_failure_is_no_problem(
    nats: EmbeddedNats, auditor: tuple[Path, Path], tmp_path: Path
) -> None:
    async with after_a_power_failure(nats, tmp_path) as back:
        audited = await run(back, auditor)
        status, report = await verify(back)
    assert (audited.status, audited.said["problems"], status) == (0, [], 0)
    assert audited.said["delivered"] == report["delivered"]
    assert audited.said["declared"] == report["declared"] > 0


async def test_it_goes_on_where_it_was(nats: EmbeddedNats, auditor: tuple[Path, Path]) -> None:
    await deliver(nats, b"\1" * 8)
    first = await run(nats, auditor)
    again = await run(nats, auditor)
    assert first.said["messages"] > 0
    assert again.said["messages"] == 0


@pytest.mark.parametrize(
    ("what", "expected"),
    [
        ("altered", "its node did not sign this"),
        ("dropped", "of the chain is missing"),
        ("forged", "no operator states"),
    ],
)
async def test_g7_it_finds_what_an_administrator_of_nats_does(
    nats: EmbeddedNats, auditor: tuple[Path, Path], what: str, expected: str
) -> None:
    await deliver(nats, b"\1" * 8)
    messages = await stored(nats)
    index = next(number for number, each in enumerate(messages) if each.subject.endswith(".graph"))
    if what == "altered":
        payload = messages[index].payload
        messages[index] = replace(messages[index], payload=payload[:-1] + bytes([payload[-1] ^ 1]))
    elif what == "dropped":
        del messages[index]
    else:
        (Path(nats.state) / "node-key.json").unlink()
        await deliver(nats, b"\3" * 8)
        messages = [each for each in await stored(nats) if not each.subject.endswith("checkpoint")]
    await rewrite(nats, messages)
    audited = await run(nats, auditor)
    assert audited.status == 1, audited.stderr
    assert any(expected in problem for problem in audited.said["problems"]), audited.said
