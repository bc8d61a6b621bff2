# SPDX-License-Identifier: Apache-2.0
"""The part of the benchmark that runs in the node VM: one column after the other, as JSON.

Called by `bench.workload_cost` as root, with guest time counting instructions: the processor time
of a workload's cgroup is how many instructions its tasks executed, in the kernel and outside.
"""

from __future__ import annotations

import json
import os
import shutil
import struct
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

import numpy as np
from headwater_agent.attach_points import CaptureMode
from headwater_agent.layout import COUNTERS, SlotFlag
from headwater_agent.load import Capture
from headwater_agent.ring import RingReader
from headwater_agent.scope import Scope, SlotConfig
from headwater_prov.vocabulary import VertexType

from bench.workload_cost import audit
from bench.workload_cost.workloads import LOGIN_USER, WORKLOADS, run_in

RING_BYTES: Final = 256 << 20
SLOT: Final = 1
RUNS: Final = 2
FLAGS: Final = (
    SlotFlag.ACTIVE | SlotFlag.COMPRESS_NODES | SlotFlag.COMPRESS_EDGES | SlotFlag.ARGUMENTS
)
FILTERS: Final = {
    "default policy": frozenset(
        {VertexType.DIRECTORY, VertexType.INODE_UNKNOWN, VertexType.CHAR, VertexType.ENVP}
    ),
    "everything": frozenset[VertexType](),
}
"""Vertex types that are not recorded, by column; the first is CamFlow's default."""
_CGROUPS: Final = Path("/sys/fs/cgroup")


def say(text: str) -> None:
    """Tell the host how far it is."""
    print(text, file=sys.stderr, flush=True)


def processor_us(cgroup: Path) -> int:
    """What the cgroup's tasks used, in microseconds."""
    for line in (cgroup / "cpu.stat").read_text().splitlines():
        name, figure = line.split()
        if name == "usage_usec":
            return int(figure)
    raise RuntimeError(f"{cgroup}/cpu.stat has no usage_usec")


def measure(name: str, cgroup: Path) -> list[int]:
    """Run a workload; microseconds of each run."""
    workload = WORKLOADS[name]
    figures = []
    for _ in range(RUNS):
        directory = Path(tempfile.mkdtemp(prefix="workload-"))
        try:
            workload.prepare(directory)
            before = processor_us(cgroup)
            run_in(cgroup, workload, directory)
            figures.append(processor_us(cgroup) - before)
        finally:
            shutil.rmtree(directory)
    return figures


class Bench:
    """Columns of figures."""

    def __init__(self, names: list[str]) -> None:
        self.names = names
        self.columns: dict[str, dict[str, list[int]]] = {}
        self.records: dict[str, dict[str, int]] = {}
        """Records a run, by column and workload."""
        self.lost: dict[str, int] = {}
        """Records, or audit's events, that found no room."""
        self.inside, self.outside = _CGROUPS / "inside", _CGROUPS / "outside"
        self.inside.mkdir()
        self.outside.mkdir()

    def run(self, column: str, name: str, cgroup: Path) -> None:
        """One cell of the table."""
        say(f"{column}: {name}")
        self.columns.setdefault(column, {})[name] = measure(name, cgroup)

    def run_captured(self, mode: CaptureMode) -> None:
        """The columns with Headwater's programs attached."""
        with Capture(ring_bytes=RING_BYTES, mode=mode) as capture:
            scope = Scope(capture)
            scope.add_cgroup(self.inside.stat().st_ino, SLOT)
            ring = RingReader(capture.ring_fd, RING_BYTES)

            def counted() -> tuple[int, int]:
                raw = b"".join(capture.counters.lookup_cpus(struct.pack("<I", SLOT)))
                counters = np.frombuffer(raw, COUNTERS)
                return int(counters["captured"].sum()), int(counters["lost"].sum())

            for name in self.names:
                self.run("out of scope", name, self.outside)
            for epoch, (column, vertices_off) in enumerate(FILTERS.items(), 1):
                scope.bind(SLOT, SlotConfig(epoch, FLAGS, vertices_off=vertices_off))
                for name in self.names:
                    captured, lost = counted()
                    self.run(column, name, self.inside)
                    now, lost_now = counted()
                    self.records.setdefault(column, {})[name] = (now - captured) // RUNS
                    self.lost[column] = self.lost.get(column, 0) + lost_now - lost
                    end = ring.snapshot()
                    while ring.position < end:
                        ring.release(ring.read(end).end)

    def run_audited(self) -> None:
        """The columns with Linux audit; the last ones, because tasks keep what audit needs."""
        directory = Path(tempfile.mkdtemp(prefix="audit-")) / "log"
        with audit.daemon(directory) as log:
            for column in audit.RULES:
                audit.put_rules(column, LOGIN_USER)
                for name in self.names:
                    before, lost = audit.events(log), audit.status("lost")
                    self.run(column, name, self.outside)
                    found = audit.events(log) - before
                    self.records.setdefault(column, {})[name] = found // RUNS
                    self.lost[column] = self.lost.get(column, 0) + audit.status("lost") - lost


def main() -> None:
    """Measure every column and print them."""
    mode, *names = sys.argv[1:]
    bench = Bench(names)
    for name in names:
        bench.run("alone", name, bench.outside)
    bench.run_captured(CaptureMode(mode))
    bench.run_audited()
    result: dict[str, Any] = {
        "kernel": os.uname().release,
        "mode": mode,
        "us": bench.columns,
        "records": bench.records,
        "lost": bench.lost,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
