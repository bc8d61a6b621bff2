# SPDX-License-Identifier: Apache-2.0
"""compression.duplicate, from the policy's file to an auditor that remembers no message."""

from pathlib import Path

from headwater_cli.consume import open_stream
from headwater_cli.embedded_nats import EmbeddedNats

from tests.integration.fake_kernel import FakeKernel
from tests.integration.test_agent import agent_on, bind, check, policies, read, work


async def complete_by_epoch(nats: EmbeddedNats, tenant: str) -> dict[str, list[bool]]:
    """By epoch, whether each document declares all that its relations mention."""
    found: dict[str, list[bool]] = {}
    async with open_stream(nats.access, tenant, name="test") as stream:
        async for batch in stream.fetch_all():
            edges = batch.document.edges
            if edges:
                ends = {end for edge in edges for end in (edge.sender, edge.receiver)}
                found.setdefault(batch.header.epoch, []).append(
                    ends <= batch.document.vertices.keys()
                )
    return found


async def test_only_the_policy_that_asks_gets_documents_that_stand_alone(tmp_path: Path) -> None:
    kernel = FakeKernel(lose=0.01)
    with EmbeddedNats(tmp_path / "state") as nats:
        async with agent_on(nats, kernel) as agent:
            policies(tmp_path / "p", "asks", extra="compression: {duplicate: true}")
            await bind(agent, nats, policies(tmp_path / "p", "plain"))
            await work(kernel, 6, steps=800)
            # The edit takes it back: the slot stays, its later documents build on earlier ones.
            await agent.apply(policies(tmp_path / "p", "asks"))
            await work(kernel, 6, steps=800)
            balances = await agent.stop()
        for tenant in ("asks", "plain"):
            check(balances[tenant], (await read(nats, tenant))[1])
        asks = await complete_by_epoch(nats, "asks")
        plain = await complete_by_epoch(nats, "plain")
    assert asks.keys() == {"1", "2"} and plain.keys() == {"1"}
    assert len(asks["1"]) > 3 and all(asks["1"])
    assert not all(asks["2"])
    assert not all(plain["1"])
