# SPDX-License-Identifier: Apache-2.0
"""A `KernelPort` over the simulated kernel: the agent's whole way without a capturing host."""

import threading
import time
from collections.abc import Mapping
from random import Random

import numpy as np
from headwater_agent.layout import SLOTS
from headwater_agent.reader import CpuCounters
from headwater_agent.ring import MAX_CHUNK_BYTES, RingChunk
from headwater_prov.policy import CompiledPolicy

from bench.pipeline.simulation import SimulatedKernel
from bench.pipeline.workloads import random_workload

_KEPT_BYTES = 1024 * 1024


class FakeRing:
    """What `RingReader` offers; what was read long ago is let go of, so it can run for hours."""

    def __init__(self, kernel: "FakeKernel") -> None:
        self._kernel = kernel
        self._bell = threading.Event()
        self._base = 0
        """Position of the first byte that is still there."""

        self.position = 0

    def snapshot(self) -> int:
        with self._kernel.lock:
            return self._base + len(self._kernel.simulated.ring)

    def poll(self, timeout_s: float) -> bool:
        until = time.monotonic() + timeout_s
        while self.position >= self.snapshot() and time.monotonic() < until:
            if self._bell.wait(0.005):
                self._bell.clear()
                break
        return self.position < self.snapshot()

    def wake(self) -> None:
        self._bell.set()

    def read(self, limit: int | None = None) -> RingChunk:
        with self._kernel.lock:
            end = min(
                self._base + len(self._kernel.simulated.ring) if limit is None else limit,
                self.position + MAX_CHUNK_BYTES // 80 * 80,
            )
            data = bytes(self._kernel.simulated.ring[self.position - self._base : end - self._base])
        # A chunk ends with a whole record; the simulation's longest has 52 cells.
        return RingChunk(np.frombuffer(data[: _whole(data)], np.uint8), self.position)

    def release(self, position: int) -> None:
        self.position = position
        if position - self._base > _KEPT_BYTES:
            with self._kernel.lock:
                del self._kernel.simulated.ring[: position - self._base]
                self._base = position


def _whole(data: bytes) -> int:
    at = 0
    while at + 8 <= len(data):
        length = int.from_bytes(data[at : at + 4], "little") & 0x3FFFFFFF
        after = at + (length + 8 + 7) // 8 * 8
        if after > len(data):
            break
        at = after
    return at


class FakeKernel:
    """Records on demand, in the slots that the agent configured."""

    slots = SLOTS
    mode = "lsm"

    def __init__(self, *, seed: int = 1, lose: float = 0.0, load_id: bytes = b"fakeload") -> None:
        self.simulated = SimulatedKernel(Random(seed), lose=lose)
        self.lock = threading.Lock()
        self.load_id = load_id
        self.active: dict[int, bool] = {}
        self.cgroups: dict[int, int] = {}
        self.configured: list[tuple[int, int]] = []
        self.policies: dict[int, str] = {}
        """Hash of each slot's, as configured last."""

    @property
    def hooks(self) -> dict[str, str]:
        return {"lsm:file_open": "attached", "lsm:file_lock": "no such hook"}

    def ring(self) -> FakeRing:
        return FakeRing(self)

    def read(self, slots: list[int]) -> Mapping[int, list[CpuCounters]]:
        with self.lock:
            return {
                slot: [
                    CpuCounters(cpu.captured, tuple(cpu.lost))
                    for cpu in self.simulated.counters.get(slot, [])
                ]
                for slot in slots
            }

    def configure(self, slot: int, epoch: int, policy: CompiledPolicy) -> None:
        with self.lock:
            self.simulated.set_epoch(slot, epoch)
        self.active[slot] = not policy.suspend
        self.configured.append((slot, epoch))
        self.policies[slot] = policy.hash

    def suspend(self, slot: int) -> None:
        self.active[slot] = False

    def add_cgroup(self, cgroup: int, slot: int) -> None:
        self.cgroups[cgroup] = slot

    def remove_cgroup(self, cgroup: int) -> None:
        self.cgroups.pop(cgroup, None)

    def work(self, steps: int) -> None:
        """Let processes of all active slots with cgroups do something."""
        scoped = set(self.cgroups.values())
        slots = [slot for slot, active in self.active.items() if active and slot in scoped]
        with self.lock:
            random_workload(self.simulated, slots, steps)

    def captured(self, slot: int) -> int:
        return sum(cpu.captured for cpu in self.simulated.counters[slot])
