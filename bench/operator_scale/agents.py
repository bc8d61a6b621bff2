# SPDX-License-Identifier: Apache-2.0
"""All nodes' agents, played by one process, and the watch of every policy's status.

Why: 5,000 agents do not fit here, and what the operator sees of them is one status write each after
a change, soon but not all at once, and one every five minutes as a sign of life: `Reporter` in
node-agent/headwater_agent/cluster/reporter.py. A real agent watches its own object only; here one
watch brings all, and says when the last node was told. Called by `measure`.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from typing import Any

from bench.operator_scale.client import CONNECTIONS, Client
from bench.operator_scale.population import NODES_PATH, node_name
from tests.cluster.operator_process import HEADWATER, NODES, POLICIES

GATHER_S = (0.25, 0.5)
"""How long an agent waits after a change before it reports: between these, by chance."""

LIFE_S = 300.0
"""How often an agent reports, and a kubelet its node's status, when nothing happens."""

TIMEOUT_S = 600.0
"""Bound of every wait; only a machine without a free CPU comes near it."""

Told = tuple[str, ...]


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class Played:
    """See the module. Made by `playing`.

    Args:
        client: of the API.
        nodes: how many agents there are.
    """

    def __init__(self, client: Client, nodes: int) -> None:
        self._client = client
        self._nodes = nodes
        self._told: dict[str, Told] = {}
        self._same: dict[Told, Told] = {}
        self._counts: Counter[Told] = Counter()
        self._told_s = 0.0
        self._said: dict[tuple[str, str], tuple[int, bool, float]] = {}
        self._programmed = 0
        self._to_report: asyncio.Queue[str] = asyncio.Queue()
        self._waiting: set[str] = set()
        self._changed = asyncio.Condition()
        self.reports = 0
        """Statuses written so far."""

    # -- what a measurement waits for ----------------------------------------------------------

    async def all_told(self, but: Told = (), timeout_s: float = TIMEOUT_S) -> tuple[Told, float]:
        """Wait until all nodes are told the same; returns it, and when the last one was.

        Args:
            but: what they were told before.
            timeout_s: bound of the wait.
        """

        def found() -> bool:
            first = next(iter(self._counts), ())
            return self._counts[first] == self._nodes and first not in ((), but)

        await self._until(found, timeout_s, "all nodes are told the same")
        return next(iter(self._counts)), self._told_s

    async def programmed(
        self, namespace: str, name: str, generation: int, timeout_s: float = TIMEOUT_S
    ) -> float:
        """Wait until a policy's status says that all nodes apply it; returns when it did."""
        key = (namespace, name)
        await self._until(
            lambda: self._said.get(key, (0, False, 0.0))[:2] == (generation, True),
            timeout_s,
            f"{namespace}/{name} is programmed",
        )
        return self._said[key][2]

    async def all_programmed(self, policies: int, timeout_s: float = TIMEOUT_S) -> float:
        """Wait until so many policies' statuses say so; returns when the last one did."""
        await self._until(
            lambda: self._programmed == policies, timeout_s, "all policies are programmed"
        )
        return max(at for _, _, at in self._said.values())

    async def _until(self, condition: Callable[[], bool], timeout_s: float, what: str) -> None:
        try:
            async with asyncio.timeout(timeout_s), self._changed:
                await self._changed.wait_for(condition)
        except TimeoutError:
            counts = sorted(self._counts.values(), reverse=True)[:3]
            raise TimeoutError(
                f"not after {timeout_s:.0f} s: {what}; nodes told the same {counts}, "
                f"policies programmed {self._programmed}"
            ) from None

    # -- what runs meanwhile -------------------------------------------------------------------

    async def watch_nodes(self) -> None:
        """See what every node is told, and have it reported."""
        loop = asyncio.get_running_loop()
        async for came_s, event in self._client.watch(NODES):
            if event["type"] not in ("ADDED", "MODIFIED"):
                continue
            body = event["object"]
            name = body["metadata"]["name"]
            told = tuple(body["spec"].get("policySets") or ())
            told = self._same.setdefault(told, told)
            before = self._told.get(name)
            if before == told:
                continue
            self._told[name] = told
            self._counts[told] += 1
            if before is not None:
                self._counts[before] -= 1
                if not self._counts[before]:
                    del self._counts[before], self._same[before]
            self._told_s = came_s
            if name not in self._waiting:
                self._waiting.add(name)
                loop.call_later(random.uniform(*GATHER_S), self._to_report.put_nowait, name)
            await self._wake()

    async def watch_policies(self) -> None:
        """See what every policy's status says."""
        async for came_s, event in self._client.watch(f"{HEADWATER}/{POLICIES}"):
            if event["type"] not in ("ADDED", "MODIFIED"):
                continue
            body = event["object"]
            metadata, status = body["metadata"], body.get("status") or {}
            holds = any(
                one["type"] == "Programmed" and one["status"] == "True"
                for one in status.get("conditions") or ()
            )
            key = (metadata["namespace"], metadata["name"])
            new = (status.get("observedGeneration") or 0, holds)
            before = self._said.get(key, (0, False, 0.0))
            if before[:2] != new:
                self._said[key] = (*new, came_s)
                self._programmed += holds - before[1]
                await self._wake()

    async def report(self) -> None:
        """Write statuses of nodes whose turn it is."""
        while True:
            name = await self._to_report.get()
            self._waiting.discard(name)
            status = _status(name, self._told[name])
            await self._client.patch(f"{NODES}/{name}/status", {"status": status})
            self.reports += 1

    async def live(self) -> None:
        """What happens when nothing does: signs of life of agents and kubelets."""
        for number in _round_and_round(self._nodes):
            name = node_name(number)
            ready = {"type": "Ready", "status": "True", "lastHeartbeatTime": _now()}
            await self._client.patch(f"{NODES_PATH}/{name}/status", _node_condition(ready))
            if name in self._told:
                self._to_report.put_nowait(name)
            await asyncio.sleep(LIFE_S / self._nodes)

    async def _wake(self) -> None:
        async with self._changed:
            self._changed.notify_all()


def _round_and_round(count: int) -> Any:
    while True:
        yield from range(count)


def _status(name: str, told: Told) -> dict[str, Any]:
    """All that a real agent says, so that the objects have the size that they have."""
    now = _now()
    machine = hashlib.sha256(name.encode()).hexdigest()
    condition = {"status": "True", "observedGeneration": 1, "lastTransitionTime": now}
    return {
        "observedGeneration": 1,
        "captureMode": "lsm",
        "kernel": "6.12.117+deb13-amd64",
        "lsm": ["lockdown", "capability", "landlock", "yama", "apparmor", "bpf", "ima"],
        "machineId": machine[:32],
        "bootId": machine[32:],
        "agentVersion": "0.1.0",
        "epoch": 1,
        "policySets": list(told),
        "scopedCgroups": 30,
        "lost": {"total": 0, "byReason": [], "byTenant": []},
        "failures": [],
        "startedAt": now,
        "lastReported": now,
        "conditions": [
            {"type": one, "reason": one, "message": "in order", **condition}
            for one in ("Ready", "Capturing", "Publishing")
        ],
    }


def _node_condition(ready: dict[str, str]) -> dict[str, Any]:
    # A merge patch replaces the list: a heartbeat of one condition, which is what is looked at.
    return {"status": {"conditions": [ready]}}


@contextlib.asynccontextmanager
async def playing(client: Client, nodes: int) -> AsyncIterator[Played]:
    """Agents at work until the context ends; whatever they die of ends the context."""
    played = Played(client, nodes)
    async with asyncio.TaskGroup() as group:
        works = [played.watch_nodes(), played.watch_policies(), played.live()]
        works += [played.report() for _ in range(CONNECTIONS // 2)]
        tasks = [group.create_task(work) for work in works]
        try:
            yield played
        finally:
            for task in tasks:
                task.cancel()
