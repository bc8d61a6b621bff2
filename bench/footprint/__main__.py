# SPDX-License-Identifier: Apache-2.0
"""`python -m bench.footprint [--json FILE]`: memory and CPU of an agent, idle and under load.

The agent is a process of its own, as on a node, with a real nats-server beside it; the ring is a
simulated build that becomes readable at a steady rate, so that the figure is the agent's and not
that of an emulated CPU. Prints a table; never a gate.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from random import Random
from typing import Any

from bench.pipeline.simulation import SimulatedKernel
from bench.pipeline.workloads import build_workload

GOAL_BYTES = 120 * 1000 * 1000


def record(path: Path, records: int) -> None:
    """Write the ring bytes of a build of so many records, and its counters beside them."""
    kernel = SimulatedKernel(Random(1))
    kernel.set_epoch(1, 1)
    build_workload(kernel, 1, records)
    path.write_bytes(bytes(kernel.ring))
    counters = [cpu.captured for cpu in kernel.counters[1]]
    path.with_suffix(".json").write_text(json.dumps(counters))


def measure(directory: Path, rate: int, seconds: float) -> list[dict[str, Any]]:
    """Run the agent's process and return its figures by phase."""
    words = ["-m", "bench.footprint.agent", str(directory), str(rate), str(seconds)]
    result = subprocess.run(
        [sys.executable, *words], stdout=subprocess.PIPE, check=True, timeout=600
    )
    phases: list[dict[str, Any]] = json.loads(result.stdout)
    return phases


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.footprint", description=__doc__)
    parser.add_argument("--rate", type=int, default=50_000, help="records per second")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each phase")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures there")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="headwater-footprint-") as directory:
        record(Path(directory) / "ring", int(chosen.rate * chosen.seconds))
        phases = measure(Path(directory), chosen.rate, chosen.seconds)
    print(f"{'phase':<10}{'records/s':>12}{'agent MB':>10}{'peak MB':>9}{'CPU %':>8}{'NATS MB':>9}")
    for phase in phases:
        print(
            f"{phase['phase']:<10}{phase['records_per_s']:>12,.0f}{phase['rss_mb']:>10.1f}"
            f"{phase['peak_mb']:>9.1f}{phase['cpu_percent']:>8.1f}{phase['nats_mb']:>9.1f}"
        )
    peak = max(phase["peak_mb"] for phase in phases)
    verdict = "reached" if peak * 1e6 <= GOAL_BYTES else "not reached"
    print(f"goal: at most {GOAL_BYTES / 1e6:.0f} MB resident: {verdict}")
    last = phases[-1]
    print(
        f"captured {last['captured']:,} = delivered {last['delivered']:,} + declared lost "
        f"{last['declared']:,}"
    )
    if chosen.json:
        chosen.json.write_text(json.dumps(phases, indent=1) + "\n")


if __name__ == "__main__":
    main()
