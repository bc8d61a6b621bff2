# SPDX-License-Identifier: Apache-2.0
"""The measured process: an agent on a ring that fills at a steady rate.

usage: python -m bench.footprint.agent DIRECTORY RATE SECONDS (started by bench.footprint)
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from headwater_agent.layout import SLOTS, Loss
from headwater_agent.node import NodeIdentity
from headwater_agent.publish import PublishWindow
from headwater_agent.reader import CpuCounters
from headwater_agent.render import scan
from headwater_agent.ring import MAX_CHUNK_BYTES, RingChunk
from headwater_agent.service import Agent
from headwater_agent.settings import AgentSettings
from headwater_agent.slots import Workload, place
from headwater_cli.embedded_nats import EmbeddedNats
from headwater_cli.state import tenant_key
from headwater_prov.policy import CompiledPolicy, PolicySet, default_policy
from headwater_prov.policy.building import default_quotas


class SteadyRing:
    """Bytes of a file that become readable as time goes on, once it was let go."""

    def __init__(self, path: Path, records_per_s: int, records: int) -> None:
        self._file = os.open(path, os.O_RDONLY)
        self._size = path.stat().st_size
        self._bytes_per_s = self._size / (records / records_per_s)
        self._began: float | None = None
        self.position = 0

    def let_go(self) -> None:
        self._began = time.monotonic()

    @property
    def is_done(self) -> bool:
        return self.position >= self._size

    def snapshot(self) -> int:
        if self._began is None:
            return 0
        due = int((time.monotonic() - self._began) * self._bytes_per_s) // 80 * 80
        return min(due, self._size)

    def poll(self, timeout_s: float) -> bool:
        # Sleeping as epoll does; a busy ring wakes its reader for every page of records or so.
        time.sleep(timeout_s if self._began is None else 0.005)
        return self.position < self.snapshot()

    def wake(self) -> None:
        return  # a `poll` is as short as a question may wait

    def read(self, limit: int | None = None) -> RingChunk:
        end = self.snapshot() if limit is None else limit
        data = os.pread(self._file, min(end - self.position, MAX_CHUNK_BYTES), self.position)
        view = np.frombuffer(data, np.uint8)
        return RingChunk(view[: scan(view, MAX_CHUNK_BYTES)], self.position)

    def release(self, position: int) -> None:
        self.position = position


class SteadyKernel:
    """A `KernelPort` over the ring; what it numbered is known when the ring is read."""

    slots = SLOTS
    load_id = b"footprnt"
    mode = "lsm"

    def __init__(self, ring: SteadyRing, captured: list[int]) -> None:
        self._ring = ring
        self._captured = captured

    def ring(self) -> SteadyRing:
        return self._ring

    def read(self, slots: list[int]) -> Mapping[int, list[CpuCounters]]:
        numbers = self._captured if self._ring.is_done else [0] * len(self._captured)
        return {
            slot: [CpuCounters(number, (0,) * len(Loss)) for number in numbers] for slot in slots
        }

    def configure(self, slot: int, epoch: int, policy: CompiledPolicy) -> None:
        assert (slot, epoch) == (1, 1)

    def suspend(self, slot: int) -> None:
        return

    def add_cgroup(self, cgroup: int, slot: int) -> None:
        return

    def remove_cgroup(self, cgroup: int) -> None:
        return


def resident_mb(pid: int, field: str = "VmRSS") -> float:
    """Memory of a process; VmHWM is its peak, which unlike ru_maxrss begins at the exec."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024 / 1e6
    return 0.0


def cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


async def main(directory: Path, rate: int, seconds: float) -> list[dict[str, Any]]:
    """Be idle, then be busy; return the figures of both."""
    captured: list[int] = json.loads((directory / "ring.json").read_text())
    ring = SteadyRing(directory / "ring", rate, sum(captured))
    policies = PolicySet((default_policy(),), (), default_quotas())
    phases: list[dict[str, Any]] = []
    with EmbeddedNats(directory / "state") as nats:
        node = NodeIdentity(bytes(16), bytes(16), SteadyKernel.load_id)
        window = PublishWindow(nats.capture_connection_options(node.token), node=node.token)
        await window.start()
        agent = Agent(
            kernel=SteadyKernel(ring, captured),  # type: ignore[arg-type]  # a stand-in ring
            node=node,
            tenant_key=lambda tenant: tenant_key(nats.state, tenant),
            send=window.put,
            settings=AgentSettings(),
            spool=directory,
        )
        await agent.start()
        workload = Workload("default", "build")
        await nats.ensure_tenant("default")
        await agent.bind(1, workload, place(policies, workload))

        async def phase(name: str, duration_s: float) -> None:
            began, used = time.monotonic(), cpu_s()
            before = agent.deliveries()["default"].delivered if phases else 0
            await asyncio.sleep(duration_s)
            took = time.monotonic() - began
            after = agent.deliveries()["default"].delivered
            phases.append(
                {
                    "phase": name,
                    "records_per_s": (after - before) / took,
                    "rss_mb": resident_mb(os.getpid()),
                    "peak_mb": resident_mb(os.getpid(), "VmHWM"),
                    "cpu_percent": (cpu_s() - used) / took * 100,
                    "nats_mb": resident_mb(nats.server_pid),
                }
            )

        await asyncio.sleep(1.0)
        await phase("idle", seconds)
        ring.let_go()
        await phase("busy", seconds)
        while not ring.is_done:  # noqa: ASYNC110  # the ring's thread signals nobody
            await asyncio.sleep(0.1)
        balance = (await agent.stop())["default"]
        await window.stop()
        phases[-1] |= {
            "captured": balance.captured,
            "delivered": balance.delivered,
            "declared": balance.declared,
        }
    return phases


if __name__ == "__main__":
    figures = asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])))
    print(json.dumps(figures))
