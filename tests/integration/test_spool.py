# SPDX-License-Identifier: Apache-2.0
"""G2, G3 and G8 with an agent that is killed and a server that is away, full or slow.

What was captured, what is in the stream and what was declared are compared to the record, and the
chains of every load are verified.
"""

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from headwater_auditor import TenantStream
from headwater_cli.embedded_nats import EmbeddedNats
from headwater_operator.accounts import Quotas
from headwater_prov.balance import Balance

from tests.integration.killable_agent import killable_agent
from tests.integration.nats.batches import stored_ids
from tests.integration.nats.test_verification import verify_tenant
from tests.integration.test_agent import policies


@pytest.fixture
async def nats(tmp_path: Path) -> AsyncIterator[EmbeddedNats]:
    with EmbeddedNats(tmp_path / "state", storage_bytes=4 * 1024**3) as nats:
        await nats.ensure_tenant("shop")
        policies(tmp_path / "policies", "shop")
        yield nats


def away_and_back(nats: EmbeddedNats) -> tuple[int, Path]:
    """Stop the server; return where a new one has to be."""
    port = int(nats.url.rsplit(":", 1)[1])
    nats.stop()
    return port, nats.state


async def balances(nats: EmbeddedNats, tenant: str = "shop") -> dict[str, Balance]:
    """What the stream says, by load."""
    async with TenantStream(nats.url, nats.tenant_credentials(tenant).text) as stream:
        async for _ in stream.fetch_all():
            pass
        return {name.rpartition("-")[2]: each for name, each in stream.balances().items()}


async def check(
    nats: EmbeddedNats, captured: dict[bytes, int], *, tenant: str = "shop"
) -> dict[bytes, Balance]:
    """Everything captured is in the stream, once, or declared; and the chains are intact."""
    found = await balances(nats, tenant)
    assert set(found) == {load.hex() for load in captured}
    for load, count in captured.items():
        balance = found[load.hex()]
        assert balance.missing == () and balance.repeated == 0, balance
        assert balance.delivered + balance.declared == count, balance
    ids = await stored_ids(nats, tenant)
    assert set(ids.values()) == {1}
    status, report = await verify_tenant(nats, tenant)
    assert status == 0, report
    return {load: found[load.hex()] for load in captured}


async def test_g8_killed_in_an_outage_everything_is_delivered_by_the_next_agent(
    nats: EmbeddedNats, tmp_path: Path
) -> None:
    state, rules = tmp_path / "agent", tmp_path / "policies"
    captured: dict[bytes, int] = {}
    access = nats.access
    async with killable_agent(access, state, b"load-one", policies=rules) as agent:
        await agent.ask("work", 3, 500)
        port, store = away_and_back(nats)
        captured[b"load-one"] = (await agent.ask("work", 20, 1000))["shop"]
        await agent.kill()
    # A second one, killed in the same outage, and a third that sees the end of it.
    async with killable_agent(access, state, b"load-two", policies=rules) as agent:
        captured[b"load-two"] = (await agent.ask("work", 10, 1000))["shop"]
        await agent.kill()
    with EmbeddedNats(store, port=port) as back:
        async with killable_agent(back.access, state, b"load-tre", policies=rules) as agent:
            captured[b"load-tre"] = (await agent.ask("work", 3, 500))["shop"]
            stopped = await agent.stop()
        found = await check(back, captured)
    assert stopped["shop"][0] == stopped["shop"][1] == captured[b"load-tre"]
    assert all(balance.declared == 0 for balance in found.values())
    assert not any((state / "spool").iterdir())


async def test_g3_killed_while_it_delivers_nothing_is_lost_or_stored_twice(
    nats: EmbeddedNats, tmp_path: Path
) -> None:
    """Killed at a random moment, again and again: with messages on their way, unanswered."""
    state, rules = tmp_path / "agent", tmp_path / "policies"
    source = random.Random(7)
    loads = [f"load-{number:03}".encode() for number in range(8)]
    for load in loads:
        async with killable_agent(nats.access, state, load, policies=rules) as agent:
            await agent.tell("go", 400)
            await asyncio.sleep(source.uniform(0.1, 0.7))
            await agent.kill()
    async with killable_agent(nats.access, state, b"load-end", policies=rules) as agent:
        last = (await agent.ask("work", 1, 500))["shop"]
        await agent.stop()
    found = await balances(nats)
    captured = {load: found[load.hex()].captured for load in loads if load.hex() in found}
    assert len(captured) > 5
    await check(nats, captured | {b"load-end": last})


async def test_g2_longer_than_memory_allows_costs_no_record_and_no_memory(
    nats: EmbeddedNats, tmp_path: Path
) -> None:
    state, rules = tmp_path / "agent", tmp_path / "policies"
    small = {"queue_bytes": 200_000, "window_bytes": 100_000, "file_bytes": 100_000}
    async with killable_agent(
        nats.access, state, b"load-one", policies=rules, settings=small
    ) as agent:
        port, store = away_and_back(nats)
        captured = (await agent.ask("work", 40, 1500))["shop"]
        counts = (await agent.ask("counts"))["shop"]
        assert counts["memory"] <= 200_000 < 1_000_000 < counts["disk"]
        with EmbeddedNats(store, port=port) as back:
            stopped = await agent.stop()
            assert stopped["shop"] == [captured, captured, 0]
            await check(back, {b"load-one": captured})
    assert not any((state / "spool").iterdir())


@pytest.mark.parametrize("when_full", ["drop-oldest", "drop-newest"])
async def test_g2_beyond_the_bound_on_disk_one_end_is_declared(
    nats: EmbeddedNats, tmp_path: Path, when_full: str
) -> None:
    state, rules = tmp_path / "agent", tmp_path / "policies"
    bounds = {"tenant_bytes": 400_000, "when_full": when_full}
    async with killable_agent(
        nats.access, state, b"load-one", policies=rules, settings=bounds
    ) as agent:
        port, store = away_and_back(nats)
        captured = (await agent.ask("work", 30, 1500))["shop"]
        counts = (await agent.ask("counts"))["shop"]
        assert counts["given_up"] > 0
        assert counts["disk"] <= 400_000
        await agent.kill()
    with EmbeddedNats(store, port=port) as back:
        async with killable_agent(
            back.access, state, b"load-two", policies=rules, settings=bounds
        ) as agent:
            second = (await agent.ask("work", 1, 500))["shop"]
            await agent.stop()
        found = await check(back, {b"load-one": captured, b"load-two": second})
        assert found[b"load-one"].declared > 0 and found[b"load-two"].declared == 0
        gaps = await declared(back, b"load-one")
    # The first messages were on their way already, in memory; what follows them is the oldest.
    if when_full == "drop-newest":
        assert max(last for _, last in gaps) == captured
    else:
        assert max(last for _, last in gaps) < captured


async def declared(nats: EmbeddedNats, load: bytes) -> list[tuple[int, int]]:
    """The runs that gaps in the stream declare."""
    found: list[tuple[int, int]] = []
    async with TenantStream(nats.url, nats.tenant_credentials("shop").text) as stream:
        async for batch in stream.fetch_all():
            header = batch.header
            if header.record_class == "gap" and header.origin.endswith(load.hex()):
                assert header.numbers is not None
                found.append((header.numbers.first, header.numbers.last))
    return found


async def test_g2_a_disk_that_takes_nothing_more_costs_what_memory_does_not_hold(
    nats: EmbeddedNats, tmp_path: Path
) -> None:
    """Every write beyond 60,000 bytes of a file fails, as on a full disk."""
    state, rules = tmp_path / "agent", tmp_path / "policies"
    limits: dict[str, Any] = {"file_bytes_max": 60_000, "queue_bytes": 400_000}
    async with killable_agent(
        nats.access, state, b"load-one", policies=rules, settings=limits
    ) as agent:
        port, store = away_and_back(nats)
        captured = (await agent.ask("work", 20, 1500))["shop"]
        with EmbeddedNats(store, port=port) as back:
            stopped = await agent.stop()
            assert sum(stopped["shop"][1:]) == captured
            await check(back, {b"load-one": captured})


async def test_g5_a_full_stream_costs_the_other_tenant_nothing(
    nats: EmbeddedNats, tmp_path: Path
) -> None:
    state, rules = tmp_path / "agent", tmp_path / "policies"
    policies(rules, "full")
    await nats.ensure_tenant("full", Quotas(stream_bytes=128 * 1024))
    bounds = {"tenant_bytes": 2_000_000, "drain_timeout_s": 1.0}
    async with killable_agent(
        nats.access, state, b"load-one", policies=rules, settings=bounds
    ) as agent:
        captured = await agent.ask("work", 40, 1500)
        counts = await agent.ask("counts")
        for _ in range(100):
            counts = await agent.ask("counts")
            if counts["shop"]["delivered"] == captured["shop"]:
                break
            await asyncio.sleep(0.05)
        assert counts["shop"]["delivered"] == captured["shop"]
        assert counts["shop"]["given_up"] == 0 < counts["full"]["disk"]
        stopped = await agent.stop()
        assert stopped["full"][0] > stopped["full"][1]
    # It is enlarged: the next agent delivers what the stream had no room for.
    await nats.ensure_tenant("full", Quotas(stream_bytes=64 * 1024 * 1024))
    async with killable_agent(nats.access, state, b"load-two", policies=rules) as agent:
        second = await agent.ask("work", 1, 500)
        await agent.stop()
    for tenant in ("shop", "full"):
        loads = {b"load-one": captured[tenant], b"load-two": second[tenant]}
        await check(nats, loads, tenant=tenant)


async def test_g7_a_power_failure_is_no_finding(nats: EmbeddedNats, tmp_path: Path) -> None:
    """Another boot, and the last half of what was written never reached the disk."""
    state, rules = tmp_path / "agent", tmp_path / "policies"
    async with killable_agent(nats.access, state, b"load-one", policies=rules) as agent:
        await agent.ask("work", 3, 500)
        port, store = away_and_back(nats)
        await agent.ask("work", 10, 1000)
        await agent.kill()
    (path,) = (state / "spool" / "shop" / b"load-one".hex()).glob("*.log")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with EmbeddedNats(store, port=port) as back:
        async with killable_agent(
            back.access, state, b"load-two", policies=rules, boot=bytes(16)
        ) as agent:
            await agent.stop()
        found = (await balances(back))[b"load-one".hex()]
        assert found.missing == () and found.declared > 0 and found.delivered > 0
        status, report = await verify_tenant(back, "shop")
        assert status == 0, report


async def test_g8_a_tenant_whose_server_never_answers_keeps_its_order(
    nats: EmbeddedNats, tmp_path: Path
) -> None:
    """What waited on disk comes before what came after it."""
    state, rules = tmp_path / "agent", tmp_path / "policies"
    small = {"queue_bytes": 100_000, "window_bytes": 50_000}
    async with killable_agent(
        nats.access, state, b"load-one", policies=rules, settings=small
    ) as agent:
        port, store = away_and_back(nats)
        await agent.ask("work", 10, 1000)
        with EmbeddedNats(store, port=port) as back:
            captured = (await agent.ask("work", 5, 1000))["shop"]
            await agent.stop()
            await check(back, {b"load-one": captured})
            async with TenantStream(back.url, back.tenant_credentials("shop").text) as stream:
                numbers = [
                    batch.header.numbers.first
                    async for batch in stream.fetch_all()
                    if batch.header.numbers is not None
                ]
    assert numbers == sorted(numbers)
