# SPDX-License-Identifier: Apache-2.0
"""`python -m bench.delivery [--json FILE]`: one agent, and 1, 10 and 100 tenants on it.

The same ring bytes each time: a hundred workloads in turn, and only who owns them differs. The
agent is a process of its own with a real nats-server beside it: first at a steady rate, for the
time from a record's being readable to its being stored; then as fast as NATS takes it. Passes take
the numbers of tenants in turn, so the ratios are of one run. Prints a table; never a gate.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.delivery.tenants import SLOTS, TURN, write_ring
from bench.pipeline.__main__ import RECORDING
from bench.pipeline.recording import load

TENANTS = (1, 10, 100)
GOAL_RECORDS_PER_CORE_S = 1_000_000
GOAL_SHARE = 0.8
GOAL_MB = 120


def measure(directory: Path, tenants: int, rate: int, seconds: float) -> dict[str, Any]:
    """One pass, in a process of its own."""
    words = ["-m", "bench.delivery.agent", str(directory), str(tenants), str(rate), str(seconds)]
    result = subprocess.run(
        [sys.executable, *words], stdout=subprocess.PIPE, check=True, timeout=900
    )
    for suffix in ("", ".policies"):
        shutil.rmtree(directory / f"tenants-{tenants}{suffix}")
    figures: dict[str, Any] = json.loads(result.stdout)
    return figures


def middle(passes: list[dict[str, Any]]) -> dict[str, Any]:
    """The pass in the middle by speed: all its figures are of one run."""
    wanted = statistics.median_low(each["records_per_core_s"] for each in passes)
    return next(each for each in passes if each["records_per_core_s"] == wanted)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.delivery", description=__doc__)
    parser.add_argument("--rate", type=int, default=50_000, help="records a second, steady")
    parser.add_argument("--seconds", type=float, default=10.0, help="of the steady phase")
    parser.add_argument("--runs", type=int, default=3, help="passes, of which the middle counts")
    parser.add_argument("--turns", type=int, default=256, help=f"turns of {TURN} records by slot")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures there")
    chosen = parser.parse_args()
    passes: dict[int, list[dict[str, Any]]] = {tenants: [] for tenants in TENANTS}
    with tempfile.TemporaryDirectory(prefix="headwater-delivery-") as name:
        directory = Path(name)
        turns = write_ring(load(RECORDING), chosen.turns, directory / "ring")
        turns.save(directory / "turns.json")
        print(f"{turns.records:,} records of {SLOTS} workloads, {turns.bytes:,} bytes")
        for _ in range(chosen.runs):
            for tenants, found in passes.items():
                found.append(measure(directory, tenants, chosen.rate, chosen.seconds))
    figures = [middle(found) for found in passes.values()]
    alone = figures[0]["records_per_core_s"]
    print(f"{'tenants':>36}" + "".join(f"{each['tenants']:>14}" for each in figures))
    rows: dict[str, Callable[[dict[str, Any]], str]] = {
        "flat out: records/s per core": lambda f: f"{f['records_per_core_s']:,.0f}",
        "  beside one tenant": lambda f: f"{f['records_per_core_s'] / alone:.0%}",
        "  records/s by the wall clock": lambda f: f"{f['records_per_s']:,.0f}",
        "  CPU, s per million records": lambda f: f"{f['cpu_s_per_million']:.2f}",
        "  records a message": lambda f: f"{f['records_per_message']:.0f}",
        f"{chosen.rate:,}/s: CPU, s per million": lambda f: f"{f['steady_cpu_s_per_million']:.2f}",
        "  stored within, 50 of 100": lambda f: f"{f['latency_s']['50'] * 1000:.0f} ms",
        "  95 of 100": lambda f: f"{f['latency_s']['95'] * 1000:.0f} ms",
        "  99 of 100": lambda f: f"{f['latency_s']['99'] * 1000:.0f} ms",
        "  999 of 1000": lambda f: f"{f['latency_s']['99.9'] * 1000:.0f} ms",
        "memory, MB: bound, nothing captured": lambda f: f"{f['idle_mb']:.0f}",
        "  at the steady rate": lambda f: f"{f['steady_mb']:.0f}",
        "  peak of all": lambda f: f"{f['peak_mb']:.0f}",
    }
    for label, cell in rows.items():
        print(f"{label:>36}" + "".join(f"{cell(each):>14}" for each in figures))
    for bound in figures[0]["stored_within"]:
        cells = "".join(f"{each['stored_within'][bound]:>14.1%}" for each in figures)
        print(f"{'stored within ' + bound + ' s':>36}{cells}")
    print(
        f"goals: {GOAL_RECORDS_PER_CORE_S:,} records/s per core for one tenant, "
        f"{GOAL_SHARE:.0%} of that for {TENANTS[-1]}, at most {GOAL_MB} MB"
    )
    if chosen.json:
        chosen.json.write_text(json.dumps(passes, indent=1) + "\n")


if __name__ == "__main__":
    main()
