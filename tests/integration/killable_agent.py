# SPDX-License-Identifier: Apache-2.0
"""An agent in a process of its own, over the simulated kernel, to be killed at any moment.

It is told what to do by lines on its input and answers each with a line of JSON. The tests' side is
:class:`KillableAgent`. Keys, spool and chains are in its state directory, as in a cluster.
"""

import asyncio
import json
import os
import resource
import signal
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from headwater_agent.cluster.nats_credentials import CredentialsFile
from headwater_agent.cluster.node_chains import STATEMENT_NAME, NodeChains
from headwater_agent.node import NodeIdentity
from headwater_agent.node_key import NodeKey
from headwater_agent.publish import PublishWindow
from headwater_agent.service import Agent
from headwater_agent.settings import (
    AgentSettings,
    BatchSettings,
    DeliverySettings,
    RingSettings,
    SpoolSettings,
    WhenFull,
)
from headwater_agent.slots import Workload, place
from headwater_cli.embedded_nats.access import NatsAccess
from headwater_operator.accounts import agent_user
from headwater_prov.policy import load_directory
from headwater_prov.statement import sign_statement

from tests.integration.fake_kernel import FakeKernel

ROOT = Path(__file__).parents[2]
NODE = NodeIdentity(bytes(16), bytes(range(16)), bytes(8))
_SETTINGS = AgentSettings(
    batch=BatchSettings(flush_interval_s=0.02, gap_interval_s=0.05),
    delivery=DeliverySettings(
        retry_interval_s=0.05,
        retry_interval_max_s=0.3,
        drain_timeout_s=20.0,
        declare_timeout_s=5.0,
    ),
    settle_s=0.0,
)


class KillableAgent:
    """The tests' side of one agent process."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def ask(self, *words: object) -> Any:
        """Have something done and return the answer."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write((" ".join(map(str, words)) + "\n").encode())
        await self._process.stdin.drain()
        answer = await asyncio.wait_for(self._process.stdout.readline(), 50)
        assert answer, f"the agent ended with {await self._process.wait()}"
        return json.loads(answer)

    async def tell(self, *words: object) -> None:
        """Have something done and wait for nothing."""
        assert self._process.stdin is not None
        self._process.stdin.write((" ".join(map(str, words)) + "\n").encode())
        await self._process.stdin.drain()

    async def kill(self) -> None:
        """SIGKILL."""
        self._process.send_signal(signal.SIGKILL)
        await self._process.wait()

    async def stop(self) -> dict[str, Any]:
        """An ordered stop; return the balances by tenant."""
        balances: dict[str, Any] = await self.ask("stop")
        assert await asyncio.wait_for(self._process.wait(), 20) == 0
        return balances


@asynccontextmanager
async def killable_agent(
    nats: NatsAccess,
    state: Path,
    load: bytes,
    *,
    policies: Path,
    boot: bytes = NODE.boot_id,
    settings: Mapping[str, object] | None = None,
) -> AsyncIterator[KillableAgent]:
    """Run an agent for the tenants of the policies; its streams have to be there.

    Args:
        nats: the server, which may be away.
        state: the agent's state directory.
        load: id of its load, 8 bytes.
        policies: directory of the policies.
        boot: id of the boot.
        settings: of the delivery and the spool, by name; and `file_bytes_max`: no file of the
            process may become larger.
    """
    credentials = _prepare(nats, state)
    options = {
        "state": str(state),
        "url": nats.url,
        "credentials": str(credentials),
        "load": load.hex(),
        "boot": boot.hex(),
        "policies": str(policies),
        "settings": dict(settings or {}),
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.integration.killable_agent",
        json.dumps(options),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        cwd=ROOT,
    )
    try:
        agent = KillableAgent(process)
        assert await agent.ask("ready") == "ready"
        yield agent
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        process._transport.close()  # type: ignore[attr-defined]


def _prepare(nats: NatsAccess, state: Path) -> Path:
    """What the operator gives a node: credentials, which are returned, and a statement."""
    state.mkdir(mode=0o700, exist_ok=True)
    operator = nats.keys.signing
    (state / STATEMENT_NAME).write_text(
        sign_statement(
            node=NODE.token,
            key=NodeKey.load_or_create(state).public,
            issuer=operator.public,
            issued_at=int(time.time()),
            sign=operator.sign,
        )
    )
    credentials = state.parent / "agent.creds"
    credentials.write_text(agent_user(nats.keys, NODE.token, lifetime_s=3600.0).text())
    return credentials


# -- the agent's side ------------------------------------------------------------------------------


def _settings(chosen: dict[str, Any]) -> AgentSettings:
    delivery = {k: v for k, v in chosen.items() if k in DeliverySettings.__dataclass_fields__}
    spool = {k: v for k, v in chosen.items() if k in SpoolSettings.__dataclass_fields__}
    if "when_full" in spool:
        spool["when_full"] = WhenFull(spool["when_full"])
    return replace(
        _SETTINGS,
        delivery=replace(_SETTINGS.delivery, **delivery),
        spool=replace(_SETTINGS.spool, **spool),
    )


async def _serve(options: dict[str, Any]) -> None:
    state = Path(options["state"])
    settings = _settings(options["settings"])
    node = replace(
        NODE, load_id=bytes.fromhex(options["load"]), boot_id=bytes.fromhex(options["boot"])
    )
    kernel = FakeKernel(load_id=node.load_id, seed=int.from_bytes(node.load_id, "big"))
    chains = NodeChains(state, node, settings.chain)
    window = PublishWindow(
        CredentialsFile(Path(options["credentials"])).options((options["url"],), node.token),
        node=node.token,
        max_bytes=settings.delivery.window_bytes,
        answer_timeout_s=1.0,
    )
    await window.start()
    if "file_bytes_max" in options["settings"]:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        most = options["settings"]["file_bytes_max"]
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    agent = Agent(
        kernel=kernel,  # type: ignore[arg-type]  # the ring is a stand-in
        node=node,
        tenant_key=lambda tenant: tenant.encode().ljust(32, b"k"),
        send=window.put,
        settings=settings,
        spool=state,
        chains=chains.chains,
    )
    await agent.start()
    slots: dict[str, int] = {}
    found = load_directory(Path(options["policies"]))
    for number, namespace in enumerate(sorted({p.namespace for p in found.policies}), start=1):
        placement = place(found, Workload(namespace, "run"))
        assert placement is not None
        slot = await agent.bind(100 + number, Workload(namespace, "run"), placement)
        assert slot is not None
        slots[placement.tenant] = slot.number
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    pacing: asyncio.Task[None] | None = None
    while line := await reader.readline():
        word, *rest = line.decode().split()
        match word:
            case "ready":
                _say("ready")
            case "work":
                for _ in range(int(rest[0])):
                    await asyncio.to_thread(kernel.work, int(rest[1]))
                    await asyncio.sleep(0.01)
                _say(await _given(agent, kernel, slots))
            case "go":
                while True:  # until it is killed
                    await asyncio.to_thread(kernel.work, int(rest[0]))
                    await asyncio.sleep(0.005)
            case "pace":
                pacing = asyncio.create_task(_pace(kernel, int(rest[0])))
                _say("paced")
            case "halt":
                assert pacing is not None
                pacing.cancel()
                await asyncio.wait([pacing])
                _say(await _given(agent, kernel, slots))
            case "counts":
                _say(_counts(agent))
            case "stop":
                balances = await agent.stop()
                await window.stop()
                _say(
                    {
                        tenant: [each.captured, each.delivered, each.declared]
                        for tenant, each in balances.items()
                    }
                )
                return


async def _pace(kernel: FakeKernel, rate: int) -> None:
    """So many records a second for all tenants together, until it is cancelled."""
    began, made = time.monotonic(), 0
    while True:
        # The simulated ring has no bound of its own, and a busy machine does not keep up.
        while len(kernel.simulated.ring) > RingSettings().size_bytes:
            await asyncio.sleep(0.05)
        due = int((time.monotonic() - began) * rate) - made
        # A process that was held up does not make up for all of it at once.
        steps = min(max(due, 0), rate // 4)
        if steps:
            before = sum(kernel.captured(slot) for slot in kernel.active)
            kernel.work(max(1, steps * 4 // 5))  # a step makes one and a quarter
            made += sum(kernel.captured(slot) for slot in kernel.active) - before
        await asyncio.sleep(0.02)


async def _given(agent: Agent, kernel: FakeKernel, slots: dict[str, int]) -> dict[str, int]:
    """Wait until every record has a number that outlives this process; return the last ones."""
    captured = {tenant: kernel.captured(slot) for tenant, slot in slots.items()}
    for tenant, last in captured.items():
        while True:
            spool = agent._queue.queue(tenant).spool
            if spool is not None and spool.current.mark.given == last:
                break
            await asyncio.sleep(0.005)
    return captured


def _counts(agent: Agent) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    for tenant, counts in agent.deliveries().items():
        queue = agent._queue.queue(tenant)
        assert queue.spool is not None
        found[tenant] = {
            "delivered": counts.delivered,
            "declared": counts.declared,
            "inherited": counts.inherited,
            "given_up": counts.given_up,
            "owed_bytes": counts.owed_bytes,
            "memory": queue.held_bytes,
            "disk": queue.spool.size,
            "rss": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        }
    return found


def _say(answer: object) -> None:
    os.write(1, json.dumps(answer).encode() + b"\n")


if __name__ == "__main__":
    asyncio.run(_serve(json.loads(sys.argv[1])))
