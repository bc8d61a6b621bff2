# SPDX-License-Identifier: Apache-2.0
"""One cluster size, measured: start from nothing, start again, a minute of nothing, edits.

Why: the order matters. What a phase leaves to be done, as Events of the first start or compiled
policies that nobody needs any more, would be counted in the next one, so each waits for quiet.
Called by `__main__`.
"""

from __future__ import annotations

import asyncio
import os
import random
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.operator_scale.agents import Played, playing
from bench.operator_scale.audit import Audit, Request, counted
from bench.operator_scale.client import Client, connected
from bench.operator_scale.population import Size, policy_path, policy_spec, populate
from tests.cluster.control_plane import ROOT, ControlPlane, wait_until
from tests.cluster.operator_process import COMPILED, NODES, OperatorProcess, install

LOG = ROOT / "build" / "cluster" / "operator-scale.log"
QUIET_S = 2.5
"""Without a write for so long, the operator has nothing to do: it says counts within a second."""

COLLECTED_AFTER_S = 60.0
"""`OperatorSettings.collect_after_s`: then what an edit has replaced is deleted."""

SETTLE_S = 10.0
"""After a start, until the watches have brought what the lists had before."""

_TICKS = os.sysconf("SC_CLK_TCK")


def cpu_s(pid: int, thread: int = 0) -> float:
    """CPU seconds that a process, or one thread of it, has used."""
    path = Path(f"/proc/{pid}/task/{thread}/stat" if thread else f"/proc/{pid}/stat")
    fields = path.read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


@dataclass(slots=True)
class Edit:
    """One tenant's edit of one policy."""

    told_s: float
    """From the request until the last node has the reference in its spec."""
    programmed_s: float
    """Until the policy's status says that all nodes apply it."""
    cpu_s: float
    """Of the operator, until quiet."""
    watching_cpu_s: float
    """Of that, of threads other than the main one: kopf's watches."""
    server_cpu_s: float
    """Of API server and etcd, the played agents' reports included."""
    requests: Counter[tuple[str, str]] = field(default_factory=Counter)


class Measurement:
    """One operator on one populated control plane, and what is counted of it.

    Args:
        control_plane: with an audit log.
        client: to edit with.
        played: the agents.
        audit: of the control plane.
        operator: not started yet.
        size: of what is there.
        say: told what is under way.
    """

    def __init__(
        self,
        control_plane: ControlPlane,
        client: Client,
        played: Played,
        audit: Audit,
        operator: OperatorProcess,
        size: Size,
        say: Callable[[str], None],
    ) -> None:
        self._control_plane = control_plane
        self._client = client
        self._played = played
        self._audit = audit
        self._operator = operator
        self._size = size
        self._say = say

    async def all(self, edits: int, idle_s: float) -> dict[str, Any]:
        """Measure everything."""
        figures: dict[str, Any] = {"nodes": self._size.nodes, "edits": edits}
        figures["start"] = await self.start()
        figures["restart"] = await self.restart()
        figures["idle"] = await self.idle(idle_s)
        figures["edit"] = await self.edit_some(edits)
        figures["node_bytes"] = self.node_bytes()
        resident, peak = self._memory_bytes()
        figures["memory"] = {"after_edits_bytes": resident, "peak_bytes": peak}
        return figures

    async def start(self) -> dict[str, Any]:
        """No compiled policy, no ProvenanceNode, no status: everything has to be written."""
        self._say("start from nothing")
        self._audit.requests()
        began_s = time.time()
        self._operator.start()
        told, told_s = await self._played.all_told()
        programmed_s = await self._played.all_programmed(self._size.policies)
        requests = await self._quiet()
        await self._check(told)
        resident, peak = self._memory_bytes()
        return {
            "first_write_s": min(one.asked_s for one in requests if one.is_write) - began_s,
            "told_s": told_s - began_s,
            "programmed_s": programmed_s - began_s,
            "cpu_s": cpu_s(self._operator.pid),
            "resident_bytes": resident,
            "peak_bytes": peak,
            "requests": _named(counted(requests)),
        }

    async def restart(self) -> dict[str, Any]:
        """Everything is as it should be: nothing may be written."""
        self._say("start again")
        await asyncio.to_thread(self._operator.stop)
        self._audit.requests()
        began_s = time.monotonic()
        self._operator.start()
        await asyncio.to_thread(
            wait_until, self._has_computed, what="a computation", timeout_s=120.0
        )
        ready_s = time.monotonic() - began_s
        await asyncio.sleep(SETTLE_S)
        requests = await self._quiet()
        resident, peak = self._memory_bytes()
        return {
            "computed_s": ready_s,
            "writes": sum(one.is_write for one in requests),
            "cpu_s": cpu_s(self._operator.pid),
            "resident_bytes": resident,
            "peak_bytes": peak,
        }

    async def idle(self, seconds: float) -> dict[str, Any]:
        """Nobody edits; agents and kubelets give signs of life."""
        self._say(f"nothing for {seconds:.0f} s")
        self._audit.requests()
        reports, cpu = self._played.reports, cpu_s(self._operator.pid)
        await asyncio.sleep(seconds)
        per_minute = 60 / seconds
        return {
            "cpu_s": (cpu_s(self._operator.pid) - cpu) * per_minute,
            "reports": (self._played.reports - reports) * per_minute,
            "requests": {
                name: count * per_minute
                for name, count in _named(counted(self._audit.requests())).items()
            },
        }

    async def edit_some(self, count: int) -> dict[str, Any]:
        """Edits one after the other, each by another tenant, then what they leave is deleted."""
        made: list[Edit] = []
        for number in random.Random(1).sample(range(self._size.policies), count):
            made.append(await self.edit(number))
            self._say(
                f"edit: told {made[-1].told_s:.2f} s, programmed {made[-1].programmed_s:.2f} s"
            )
        self._audit.requests()
        self._say("waiting for what nobody needs any more to be deleted")
        await asyncio.sleep(COLLECTED_AFTER_S + QUIET_S)
        deleted = counted(await self._quiet())
        total = sum((one.requests for one in made), Counter())
        names = sorted({*total, *deleted})
        return {
            "told_s": _spread(one.told_s for one in made),
            "programmed_s": _spread(one.programmed_s for one in made),
            "cpu_s": _spread(one.cpu_s for one in made),
            "watching_cpu_s": _spread(one.watching_cpu_s for one in made),
            "server_cpu_s": _spread(one.server_cpu_s for one in made),
            "requests": _named(
                {
                    name: statistics.median(one.requests[name] for one in made)
                    + deleted[name] / count
                    for name in names
                    if _is_write(name)
                }
            ),
        }

    async def edit(self, number: int) -> Edit:
        """Change one policy and see it through."""
        namespace, name = self._size.policy(number)
        before, _ = await self._played.all_told()
        self._audit.requests()
        cpu, watching, server_cpu = *self._operator_cpu_s(), self._server_cpu_s()
        began_s = time.time()
        body = await self._client.patch(
            policy_path(namespace, name), {"spec": policy_spec(number, version=1)}
        )
        generation = body["metadata"]["generation"]
        told, told_s = await self._played.all_told(but=before)
        programmed_s = await self._played.programmed(namespace, name, generation)
        requests = await self._quiet()
        await self._check(told)
        cpu_after, watching_after = self._operator_cpu_s()
        return Edit(
            told_s - began_s,
            programmed_s - began_s,
            cpu_after - cpu,
            watching_after - watching,
            self._server_cpu_s() - server_cpu,
            counted([one for one in requests if one.verb != "get" and one.what != "leases"]),
        )

    # -- inside --------------------------------------------------------------------------------

    async def _check(self, told: tuple[str, ...]) -> None:
        """What nodes are told is every policy as it is now: each hash is that of its status."""
        found: dict[tuple[str, str], str] = {}
        for name in told:
            for one in (await self._client.get(f"{COMPILED}/{name}"))["spec"]["references"]:
                found[one["namespace"], one["name"]] = one["hash"]
        assert len(found) == self._size.policies, len(found)
        namespace, name = self._size.policy(0)
        status = (await self._client.get(policy_path(namespace, name)))["status"]
        assert found[namespace, name] == status["hash"]

    def _memory_bytes(self) -> tuple[int, int]:
        """Resident memory of the operator, now and at its peak."""
        self._operator.page("healthz")  # says why it has ended, if it has
        lines = Path(f"/proc/{self._operator.pid}/status").read_text().splitlines()
        found = {name: value for name, _, value in (line.partition(":") for line in lines)}
        now, peak = (int(found[one].split()[0]) * 1024 for one in ("VmRSS", "VmHWM"))
        return now, peak

    async def _quiet(self) -> list[Request]:
        """Wait until nothing was written for `QUIET_S`; what was asked since the last look."""
        seen: list[Request] = []
        last_s = time.monotonic()
        while time.monotonic() - last_s < QUIET_S:
            await asyncio.sleep(0.1)
            new = self._audit.requests()
            seen += new
            if any(one.is_write for one in new):
                last_s = time.monotonic()
        return seen

    def _has_computed(self) -> bool:
        return self._operator.metric("headwater_operator_rounds_total") > 0

    def _operator_cpu_s(self) -> tuple[float, float]:
        """Of the whole process, and of its threads other than the main one."""
        pid = self._operator.pid
        whole = cpu_s(pid)
        return whole, whole - cpu_s(pid, pid)

    def _server_cpu_s(self) -> float:
        return sum(map(cpu_s, self._control_plane.pids.values()))

    def node_bytes(self) -> float:
        """Of one ProvenanceNode, as etcd has it."""
        prefix = f"/registry{NODES.removeprefix('/apis').replace('/v1alpha1', '')}/"
        return self._control_plane.stored(prefix) / self._size.nodes


def _is_write(name: tuple[str, str]) -> bool:
    return name[0] not in ("get", "list", "watch") and name[1] != "leases"


def _named(counts: Mapping[tuple[str, str], float]) -> dict[str, float]:
    return {" ".join(name): count for name, count in sorted(counts.items())}


def _spread(values: Any) -> dict[str, float]:
    found = list(values)
    return {"median": statistics.median(found), "max": max(found)}


async def measure(
    size: Size, edits: int, idle_s: float, say: Callable[[str], None]
) -> dict[str, Any]:
    """Figures of one size."""
    LOG.parent.mkdir(parents=True, exist_ok=True)
    LOG.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory(prefix="headwater-operator-scale-") as directory:
        audit = Audit(Path(directory))
        # No controllers: they would share the CPU and have nothing to do here.
        control_plane = ControlPlane(controllers=(), apiserver_options=audit.options)
        with control_plane:
            await asyncio.to_thread(install, control_plane)
            async with connected(control_plane) as client:
                say(f"making {size.nodes:,} nodes and {size.policies:,} policies")
                began_s = time.monotonic()
                await populate(client, size)
                say(f"made in {time.monotonic() - began_s:.0f} s")
                operator = OperatorProcess(control_plane, LOG)
                try:
                    async with playing(client, size.nodes) as played:
                        one = Measurement(control_plane, client, played, audit, operator, size, say)
                        return await one.all(edits, idle_s)
                finally:
                    operator.kill()
