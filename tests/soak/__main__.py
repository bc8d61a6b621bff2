# SPDX-License-Identifier: Apache-2.0
"""`python -m tests.soak [--minutes N] [--rate N] [--seed N]`: does it still add up after hours?

One agent after the other captures at a steady rate on the simulated kernel, over a proxy, into a
real nats-server; faults come at random, one every few seconds: the server killed or stopped, the
connection cut or silent, the stream full, the agent killed or stopped. At the end every number that
any agent had given is in the stream once, or declared there, and every chain verifies. Prints its
seed; the same one brings the same faults in the same order. Exit status 1 when it does not add up.
"""

import argparse
import asyncio
import contextlib
import secrets
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from headwater_agent.spool.mark import read_mark
from headwater_auditor import TenantStream
from headwater_auditor.batch import parse_header
from headwater_auditor.tracking import Tracker
from headwater_auditor.verification import Scope, StreamVerifier, Verdict
from headwater_cli.embedded_nats import EmbeddedNats, NatsAccess
from headwater_operator.accounts import Quotas
from headwater_prov.balance import Balance

from tests.integration.killable_agent import KillableAgent, killable_agent
from tests.integration.nats.proxy import Proxy
from tests.integration.test_agent import policies
from tests.soak.faults import FAULTS, STREAM_BYTES, TENANT, Surroundings

AGENT_FAULTS = ("agent killed", "agent stopped")
BETWEEN_S = (1.0, 8.0)
"""Pause between two faults."""

REPORT_S = 15.0


@dataclass
class Soak:
    """One soak: who runs, what was given, what was broken."""

    nats: EmbeddedNats
    proxy: Proxy
    directory: Path
    random: Random
    rate: int
    given: dict[str, int] = field(default_factory=dict)
    """By load, the highest number that an agent had given."""

    broken: Counter[str] = field(default_factory=Counter)
    peak_rss: int = 0

    async def run(self, seconds: float) -> None:
        """Agents one after the other, until the time is up; the last one ends in order."""
        until = time.monotonic() + seconds
        around = Surroundings(self.nats, self.proxy, self.random)
        while time.monotonic() < until:
            load = f"{len(self.given):08}".encode()
            self.given[load.hex()] = 0
            async with self._agent(load) as agent:
                await agent.ask("pace", self.rate)
                fault = await self._until_it_ends(agent, around, until)
                if fault == "agent killed":
                    await agent.kill()
                    self.given[load.hex()] = self._mark(load)
                    continue
                captured: int = (await agent.ask("halt"))[TENANT]
                self.given[load.hex()] = captured
                stopped = await agent.stop()
                if stopped[TENANT][0] != captured:
                    raise RuntimeError(f"{load!r}: {captured} captured, it says {stopped}")
        # Whatever is still owed, without faults.
        load = f"{len(self.given):08}".encode()
        async with self._agent(load) as agent:
            self.given[load.hex()] = (await agent.ask("work", 1, 100))[TENANT]
            await agent.stop()

    @contextlib.asynccontextmanager
    async def _agent(self, load: bytes) -> AsyncIterator[KillableAgent]:
        access = NatsAccess(self.proxy.url, self.nats.keys)
        rules, state = self.directory / "policies", self.directory / "agent"
        async with killable_agent(access, state, load, policies=rules) as agent:
            yield agent

    def _mark(self, load: bytes) -> int:
        """What the killed agent had given, as its disk says."""
        mark = read_mark(self.directory / "agent" / "spool" / TENANT / load.hex())
        return mark.given if mark is not None else 0

    async def _until_it_ends(self, agent: KillableAgent, around: Surroundings, until: float) -> str:
        """Break one thing after the other, until it is the agent's turn or the time is up."""
        reported = time.monotonic()
        while time.monotonic() < until:
            await around.pause(*BETWEEN_S)
            counts = (await agent.ask("counts")).get(TENANT, {})
            self.peak_rss = max(self.peak_rss, counts.get("rss", 0))
            if time.monotonic() > reported + REPORT_S:
                reported = time.monotonic()
                left = max(0.0, until - reported)
                print(
                    f"{left / 60:6.1f} min left: {counts.get('delivered', 0):,} delivered by this "
                    f"agent, {counts.get('disk', 0):,} bytes wait on disk, "
                    f"{counts.get('rss', 0) / 1e6:.0f} MB; {sum(self.broken.values())} faults",
                    flush=True,
                )
            fault = self.random.choice([*FAULTS, *AGENT_FAULTS])
            self.broken[fault] += 1
            if fault in AGENT_FAULTS:
                return fault
            await FAULTS[fault](around)
        return ""


async def judge(nats: EmbeddedNats) -> tuple[dict[str, Balance], Counter[str], list[str]]:
    """What the stream says: numbers by load, how often each message is there, findings."""
    tracker = Tracker(from_start=True)
    ids: Counter[str] = Counter()
    verifier = StreamVerifier(TENANT, [nats.keys.signing.public])
    async with TenantStream(nats.url, nats.tenant_credentials(TENANT).text) as stream:
        async for message in stream.fetch_messages():
            tracker.admit(parse_header(message.subject, message.headers))
            ids[message.headers["Nats-Msg-Id"]] += 1
            verifier.feed(message)
    report = verifier.report(Scope(now_ns=time.time_ns()))
    found = [finding.text for finding in report.findings]
    if report.verdict is not Verdict.INTACT and not found:
        found = [str(report.verdict), *report.doubts]
    return (
        {name.rpartition("-")[2]: each for name, each in tracker.balances().items()},
        ids,
        found,
    )


def problems(
    given: dict[str, int], balances: dict[str, Balance], ids: Counter[str], findings: list[str]
) -> list[str]:
    """What does not add up."""
    said = [f"verify: {finding}" for finding in findings[:20]]
    said += [f"message {name} is stored {n} times" for name, n in ids.items() if n > 1][:20]
    for load, count in given.items():
        balance = balances.get(load)
        if balance is None:
            if count:
                said.append(f"load {load}: nothing of its {count} records is in the stream")
        elif not balance.is_even or balance.repeated or balance.captured != count:
            said.append(f"load {load}: {count} given, in the stream {balance}")
    return said


async def soak(directory: Path, minutes: float, rate: int, seed: int) -> list[str]:
    """Do it; return what does not add up."""
    policies(directory / "policies", TENANT)
    with EmbeddedNats(directory / "state", storage_bytes=2 * STREAM_BYTES) as nats:
        await nats.ensure_tenant(TENANT, Quotas(stream_bytes=STREAM_BYTES))
        async with Proxy(int(nats.url.rpartition(":")[2])) as proxy:
            running = Soak(nats, proxy, directory, Random(seed), rate)
            began = time.monotonic()
            await running.run(minutes * 60)
            took = time.monotonic() - began
        balances, ids, findings = await judge(nats)
    delivered = sum(each.delivered for each in balances.values())
    declared = sum(each.declared for each in balances.values())
    peak_mb = running.peak_rss / 1e6
    print(f"{took / 60:.1f} minutes, {len(running.given)} agents, peak {peak_mb:.0f} MB")
    print(", ".join(f"{name}: {n}" for name, n in sorted(running.broken.items())))
    print(
        f"given {sum(running.given.values()):,} = delivered {delivered:,} + declared {declared:,}, "
        f"{len(ids):,} messages, {delivered / took:,.0f} records/s"
    )
    return problems(running.given, balances, ids, findings)


def main() -> int:
    """Read the options, soak, say what came of it."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=20.0, help="how long (default: 20)")
    parser.add_argument("--rate", type=int, default=20_000, help="records a second")
    parser.add_argument("--seed", type=int, default=None, help="of the faults; default: any")
    chosen = parser.parse_args()
    seed = chosen.seed if chosen.seed is not None else secrets.randbits(32)
    print(f"soak: {chosen.minutes:g} minutes at {chosen.rate:,} records/s, seed {seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="headwater-soak-") as directory:
        found = asyncio.run(soak(Path(directory), chosen.minutes, chosen.rate, seed))
    for problem in found:
        print(problem, file=sys.stderr)
    print(f"soak: {'it does not add up' if found else 'it adds up'}, seed {seed}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
