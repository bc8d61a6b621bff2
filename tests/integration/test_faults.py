# SPDX-License-Identifier: Apache-2.0
"""Agent and server killed again and again, at any moment, under load: the balance stays exact.

`make test-faults` does it a hundred times each; `make test` a few times. What counts as captured is
what an agent had made a batch of, which is in its spool or in the stream; what it had not died with
the programs (docs/decisions/0017-the-spool.md).
"""

import asyncio
import os
import random
import signal
from pathlib import Path

import pytest
from headwater_agent.spool.mark import MARK_NAME, Mark
from headwater_cli.embedded_nats import EmbeddedNats

from tests.integration.killable_agent import killable_agent
from tests.integration.nats.batches import eventually
from tests.integration.test_agent import policies
from tests.integration.test_spool import check

KILLS = int(os.environ.get("HEADWATER_KILLS", "8"))
TENANTS = ("shop", "bank")


def given(state: Path, tenant: str, load: bytes) -> int | None:
    """The highest number that a killed agent had given, if its log is still there."""
    path = state / "spool" / tenant / load.hex() / MARK_NAME
    mark = Mark.decode(path.read_bytes()) if path.exists() else None
    return mark.given if mark is not None else None


@pytest.mark.timeout(60 + 30 * KILLS)
@pytest.mark.parametrize("server_too", [False, True], ids=["agent", "agent and server"])
async def test_g2_g3_g7_killed_again_and_again_the_balance_is_exact(
    tmp_path: Path, server_too: bool
) -> None:
    source = random.Random(KILLS)
    state = tmp_path / "agent"
    policies(tmp_path / "policies", *TENANTS)
    captured: dict[str, dict[bytes, int]] = {tenant: {} for tenant in TENANTS}
    # Everything comes back within the stream's window, so whatever is stored twice is a fault.
    small = {"queue_bytes": source.choice([100_000, 24 << 20])}
    with EmbeddedNats(tmp_path / "state", storage_bytes=4 * 1024**3) as nats:
        for tenant in TENANTS:
            await nats.ensure_tenant(tenant)
        access = nats.access
        for number in range(KILLS):
            load = f"l{number:07}".encode()
            async with killable_agent(
                access, state, load, policies=tmp_path / "policies", settings=small
            ) as agent:
                await agent.tell("go", 200)
                if server_too:
                    await asyncio.sleep(source.uniform(0.05, 0.4))
                    before = nats.server_pid
                    os.kill(before, signal.SIGKILL)
                    if source.random() < 0.5:
                        await eventually(lambda: nats.server_pid not in (0, before))  # noqa: B023
                await asyncio.sleep(source.uniform(0.02, 0.5))
                await agent.kill()
            for tenant in TENANTS:
                last = given(state, tenant, load)
                captured[tenant] |= {load: last} if last else {}
            await eventually(lambda: nats.server_pid)
        async with killable_agent(
            access, state, b"load-end", policies=tmp_path / "policies"
        ) as agent:
            last_ones = await agent.ask("work", 2, 500)
            stopped = await agent.stop()
        for tenant in TENANTS:
            assert len(captured[tenant]) > KILLS / 2, "killed before they did anything"
            assert stopped[tenant] == [last_ones[tenant], last_ones[tenant], 0]
            found = await check(
                nats, captured[tenant] | {b"load-end": last_ones[tenant]}, tenant=tenant
            )
            # A kill in the middle of a write tears that batch, about one in a hundred.
            declared = sum(balance.declared for balance in found.values())
            assert declared <= sum(balance.captured for balance in found.values()) / 20
    assert not any((state / "spool").iterdir())
