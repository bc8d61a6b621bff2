# SPDX-License-Identifier: Apache-2.0
"""The measured process: an agent on the ring of `tenants`, first at a steady rate, then flat out.

usage: python -m bench.delivery.agent DIRECTORY TENANTS RATE SECONDS (started by bench.delivery)
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from headwater_agent.batch import Batch
from headwater_agent.delivery import Answered, Fate
from headwater_agent.layout import SLOTS as KERNEL_SLOTS
from headwater_agent.layout import Loss
from headwater_agent.node import NodeIdentity
from headwater_agent.publish import PublishWindow
from headwater_agent.reader import CpuCounters
from headwater_agent.render import scan
from headwater_agent.ring import MAX_CHUNK_BYTES, RingChunk
from headwater_agent.service import Agent
from headwater_agent.settings import AgentSettings, RingSettings
from headwater_agent.slots import Workload, place
from headwater_cli.embedded_nats import EmbeddedNats
from headwater_cli.state import tenant_key
from headwater_operator.accounts import Quotas
from headwater_prov.policy import CompiledPolicy, PolicySet, load_directory

from bench.delivery.tenants import SLOTS, TURN, Turns
from bench.footprint.agent import cpu_s, resident_mb

OWED_MAX: Final = 4 * 1024 * 1024
"""Flat out the ring becomes readable no faster than NATS takes what comes of it."""


class PacedRing:
    """Bytes of a file that become readable as time goes on, or as fast as they are delivered."""

    def __init__(self, path: Path, turns: Turns, owed_bytes: Callable[[], int]) -> None:
        self._file = os.open(path, os.O_RDONLY)
        self._owed_bytes = owed_bytes
        self._ends = np.concatenate(([0], np.cumsum(np.repeat(turns.sizes, SLOTS))))
        self.size = turns.bytes
        self.bytes_per_record = self.size / turns.records
        self.bytes_per_s = 0.0
        self.began = 0.0
        self.limit = 0
        """Readable up to here; at a steady rate, when its time has come."""

        self.position = 0

    def pace(self, records_per_s: float, until: int) -> None:
        """From now on so many records a second; 0: as many as are delivered."""
        self.bytes_per_s = records_per_s * self.bytes_per_record
        self.began = time.monotonic()
        self.limit = until

    @property
    def is_done(self) -> bool:
        return self.position >= self.size

    def snapshot(self) -> int:
        if not self.limit:
            return 0
        if self.bytes_per_s:
            due = int((time.monotonic() - self.began) * self.bytes_per_s)
        else:
            due = self.position + (MAX_CHUNK_BYTES if self._owed_bytes() < OWED_MAX else 0)
        # A record that is half there would be one that a program has not submitted yet.
        whole = int(self._ends[np.searchsorted(self._ends, due, "right") - 1])
        return min(max(whole, self.position), self.limit)

    def poll(self, timeout_s: float) -> bool:
        # Sleeping as epoll does; a busy ring wakes its reader for every page of records or so.
        if self.position >= self.snapshot():
            time.sleep(0.002 if self.limit else timeout_s)
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


class PacedKernel:
    """A `KernelPort` over the ring; what it numbered is known when the ring is read."""

    slots = KERNEL_SLOTS
    load_id = b"delivery"
    mode = "lsm"

    def __init__(self, ring: PacedRing, captured: list[int]) -> None:
        self._ring = ring
        self._captured = captured

    def ring(self) -> PacedRing:
        return self._ring

    def read(self, slots: list[int]) -> Mapping[int, list[CpuCounters]]:
        numbers = self._captured if self._ring.is_done else [0] * len(self._captured)
        lost = (0,) * len(Loss)
        return {slot: [CpuCounters(number, lost) for number in numbers] for slot in slots}

    def configure(self, slot: int, epoch: int, policy: CompiledPolicy) -> None:
        if slot != epoch:
            raise AssertionError(f"the records of slot {slot} are not of epoch {epoch}")

    def suspend(self, slot: int) -> None:
        return

    def add_cgroup(self, cgroup: int, slot: int) -> None:
        return

    def remove_cgroup(self, cgroup: int) -> None:
        return


class Latency:
    """From a record's being readable in the ring to its being stored, of every record."""

    BOUNDS: Final = np.array([0, *np.geomspace(0.001, 16.0, 57), np.inf])

    def __init__(self, ring: PacedRing, turns: Turns, tenants: int) -> None:
        self._ring = ring
        self._tenants = tenants
        self._share = SLOTS // tenants
        sizes = np.array(turns.sizes)
        self._sizes = sizes
        self._begins = np.concatenate(([0], np.cumsum(sizes)[:-1])) * SLOTS
        self.counts = np.zeros(len(self.BOUNDS) - 1, np.int64)

    def add(self, tenant: int, first: int, last: int) -> None:
        """Records of a tenant are stored now: they are counted by their turns."""
        now = time.monotonic()
        numbers = np.arange(first - 1, last)
        rounds = numbers // (self._share * TURN)
        slots = tenant + numbers // TURN % self._share * self._tenants
        places = self._begins[rounds] + (slots + 1) * self._sizes[rounds]
        waited = now - (self._ring.began + places / self._ring.bytes_per_s)
        self.counts += np.histogram(np.maximum(waited, 0.0), self.BOUNDS)[0]

    def quantile(self, share: float) -> float:
        """Upper bound, in seconds, of what so many waited at most."""
        total = np.cumsum(self.counts)
        return float(self.BOUNDS[int(np.searchsorted(total, share * total[-1])) + 1])

    def histogram(self, bounds: tuple[float, ...]) -> dict[str, float]:
        """Share of records stored within each bound."""
        total = max(1, int(self.counts.sum()))
        below = [int(self.counts[self.BOUNDS[1:] <= bound * 1.0001].sum()) for bound in bounds]
        return {f"{bound:g}": count / total for bound, count in zip(bounds, below, strict=True)}


def policies(directory: Path, tenants: int) -> PolicySet:
    """A policy for each slot, in its tenant's namespace."""
    directory.mkdir()
    for tenant in range(tenants):
        text = "\n---\n".join(
            "apiVersion: headwater.dev/v1alpha1\nkind: ProvenancePolicy\n"
            f"metadata: {{name: app-{slot}, namespace: tenant-{tenant}}}\n"
            f"spec: {{podSelector: {{matchLabels: {{app: app-{slot}}}}}}}\n"
            for slot in range(tenant, SLOTS, tenants)
        )
        (directory / f"tenant-{tenant}.yaml").write_text(text)
    return load_directory(directory)


async def main(directory: Path, tenants: int, rate: int, seconds: float) -> dict[str, Any]:
    """Idle, steady, flat out; return the figures."""
    turns = Turns.load(directory / "turns.json")
    work = directory / f"tenants-{tenants}"
    found = policies(work.with_suffix(".policies"), tenants)
    agents: list[Agent] = []
    ring = PacedRing(
        directory / "ring",
        turns,
        lambda: sum(each.owed_bytes for each in list(agents[0].deliveries().values())),
    )
    latency = Latency(ring, turns, tenants)
    with EmbeddedNats(work, storage_bytes=64 * 1024**3) as nats:
        node = NodeIdentity(bytes(16), bytes(16), PacedKernel.load_id)
        window = PublishWindow(nats.capture_connection_options(node.token), node=node.token)
        await window.start()

        async def send(batch: Batch, answered: Answered) -> None:
            def stored(fate: Fate, words: str) -> None:
                answered(fate, words)
                if fate is Fate.STORED and batch.klass == "graph" and ring.bytes_per_s:
                    latency.add(int(batch.tenant.removeprefix("tenant-")), batch.first, batch.last)

            await window.put(batch, stored)

        agent = Agent(
            kernel=PacedKernel(ring, turns.captured),  # type: ignore[arg-type]  # a stand-in ring
            node=node,
            tenant_key=lambda tenant: tenant_key(nats.state, tenant),
            send=send,
            settings=AgentSettings(ring=RingSettings(poll_timeout_s=0.01)),
            spool=nats.state,
        )
        agents.append(agent)
        await agent.start()
        quotas = Quotas(stream_bytes=512 * 1024 * 1024 // tenants + 64 * 1024 * 1024)
        for slot in range(SLOTS):
            if slot < tenants:
                await nats.ensure_tenant(f"tenant-{slot}", quotas)
            workload = Workload(f"tenant-{slot % tenants}", f"pod-{slot}", {"app": f"app-{slot}"})
            await agent.bind(1 + slot, workload, place(found, workload))

        def delivered() -> int:
            return sum(each.delivered for each in agent.deliveries().values())

        async def settle(records: int) -> None:
            async with asyncio.timeout(300):
                while delivered() < records:
                    agent.check()
                    await asyncio.sleep(0.01)

        idle_mb = resident_mb(os.getpid())
        rounds = min(len(turns.sizes) // 2, max(1, int(rate * seconds) // (SLOTS * TURN)))
        steady_records = rounds * SLOTS * TURN
        began, used = time.monotonic(), cpu_s()
        ring.pace(rate, sum(turns.sizes[:rounds]) * SLOTS)
        await settle(steady_records)
        steady_s, steady_cpu_s = time.monotonic() - began, cpu_s() - used
        steady_mb = resident_mb(os.getpid(), "VmHWM")

        began, used = time.monotonic(), cpu_s()
        messages = window.statistics.stored
        ring.pace(0, ring.size)
        await settle(turns.records)
        took, flat_cpu_s = time.monotonic() - began, cpu_s() - used
        messages = window.statistics.stored - messages
        balances = await agent.stop()
        await window.stop()
    if not all(balance.balances and not balance.declared for balance in balances.values()):
        raise RuntimeError("records were lost: the figures are of something else")
    records = turns.records - steady_records
    return {
        "tenants": tenants,
        "steady_records": steady_records,
        "steady_cpu_s_per_million": steady_cpu_s / steady_records * 1e6,
        "steady_cpu_percent": steady_cpu_s / steady_s * 100,
        "latency_s": {f"{q:g}": latency.quantile(q / 100) for q in (50, 95, 99, 99.9)},
        "stored_within": latency.histogram((0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)),
        "records": records,
        "records_per_core_s": records / flat_cpu_s,
        "records_per_s": records / took,
        "cpu_s_per_million": flat_cpu_s / records * 1e6,
        "records_per_message": records / messages,
        "idle_mb": idle_mb,
        "steady_mb": steady_mb,
        "peak_mb": resident_mb(os.getpid(), "VmHWM"),
    }


if __name__ == "__main__":
    place_, count, per_s, duration = sys.argv[1:5]
    print(json.dumps(asyncio.run(main(Path(place_), int(count), int(per_s), float(duration)))))
