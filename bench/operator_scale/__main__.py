# SPDX-License-Identifier: Apache-2.0
"""`python -m bench.operator_scale [--nodes N ...] [--json FILE]`: the operator in a large cluster.

1,000 tenants, 2,000 policies and N nodes on a real etcd and kube-apiserver of this machine; the
operator is a process with the rights that the chart gives it, the nodes' agents are played by this
one. Prints a table with one column for each N; never a gate. Operator, API server, etcd and played
agents share the CPUs: with two of them, and other work beside, 1,000 nodes take seven minutes.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bench.operator_scale.measure import measure
from bench.operator_scale.population import Size

Figures = dict[str, Any]

GOAL_TOLD_S = 5.0
GOAL_MEMORY_BYTES = 256e6
GOAL_NODE_BYTES = 4096


def _seconds(*path: str) -> Callable[[Figures], str]:
    return lambda figures: f"{_at(figures, path):.2f} s"


def _megabytes(*path: str) -> Callable[[Figures], str]:
    return lambda figures: f"{_at(figures, path) / 1e6:.0f} MB"


def _spread(*path: str) -> Callable[[Figures], str]:
    def show(figures: Figures) -> str:
        one = _at(figures, path)
        return f"{one['median']:.2f} s (max {one['max']:.2f})"

    return show


def _at(figures: Figures, path: Sequence[str]) -> Any:
    found: Any = figures
    for one in path:
        found = found[one]
    return found


ROWS: list[tuple[str, Callable[[Figures], str]]] = [
    ("start from nothing: first write", _seconds("start", "first_write_s")),
    ("  every node told", _seconds("start", "told_s")),
    ("  every policy said to be programmed", _seconds("start", "programmed_s")),
    ("  operator's CPU", _seconds("start", "cpu_s")),
    ("  operator's memory, peak", _megabytes("start", "peak_bytes")),
    ("start with all in place: first computation", _seconds("restart", "computed_s")),
    ("  writes", lambda figures: f"{figures['restart']['writes']}"),
    ("  operator's CPU", _seconds("restart", "cpu_s")),
    ("  operator's memory", _megabytes("restart", "resident_bytes")),
    ("a minute without edits: operator's CPU", _seconds("idle", "cpu_s")),
    ("  reports of agents", lambda figures: f"{figures['idle']['reports']:.0f}"),
    (
        "  operator's requests",
        lambda figures: f"{sum(figures['idle']['requests'].values()):.0f}",
    ),
    ("an edit: last node told", _spread("edit", "told_s")),
    ("  its status says programmed", _spread("edit", "programmed_s")),
    ("  operator's CPU", _spread("edit", "cpu_s")),
    ("    of that, kopf's watches", _spread("edit", "watching_cpu_s")),
    ("  API server's and etcd's CPU", _spread("edit", "server_cpu_s")),
    ("operator's memory after the edits, peak", _megabytes("memory", "peak_bytes")),
    ("a ProvenanceNode in etcd", lambda figures: f"{figures['node_bytes']:.0f} B"),
]


def table(columns: list[Figures]) -> None:
    """Print all figures, one column for each size."""

    def line(name: str, values: list[str]) -> None:
        print(f"{name:<46}" + "".join(f"{value:>22}" for value in values))

    line("nodes", [f"{one['nodes']:,}" for one in columns])
    for name, show in ROWS:
        line(name, [show(one) for one in columns])
    for about, title in (("edit", "writes for an edit"), ("idle", "requests in the idle minute")):
        print(f"\n{title}")
        for name in sorted({name for one in columns for name in one[about]["requests"]}):
            counts = [one[about]["requests"].get(name, 0) for one in columns]
            line(f"  {name}", [f"{count:,.1f}".removesuffix(".0") for count in counts])


def goals(figures: Figures) -> None:
    """Print what was aimed at and what came of it."""

    def verdict(is_reached: bool) -> str:
        return "reached" if is_reached else "NOT reached"

    nodes = figures["nodes"]
    writes = figures["edit"]["requests"].get("patch provenancenodes", 0)
    told_s, peak = figures["edit"]["told_s"]["max"], figures["memory"]["peak_bytes"]
    peak = max(peak, figures["start"]["peak_bytes"])
    print(f"\ngoals at {nodes:,} nodes")
    print(f"  last node told within {GOAL_TOLD_S:.0f} s: {verdict(told_s <= GOAL_TOLD_S)}")
    print(
        f"  one write and only nodes whose set changed: {verdict(writes <= nodes)} "
        f"({writes:,.0f} nodes; decision 9 makes it two writes, a policy and its set)"
    )
    print(f"  at most 256 MB: {verdict(peak <= GOAL_MEMORY_BYTES)} ({peak / 1e6:.0f})")
    is_small = figures["node_bytes"] <= GOAL_NODE_BYTES
    print(f"  a ProvenanceNode of at most 4 KB, with its status: {verdict(is_small)}")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.operator_scale", description=__doc__)
    parser.add_argument("--nodes", type=int, nargs="+", default=[1_000], metavar="N")
    parser.add_argument("--edits", type=int, default=5, help="of which median and maximum count")
    parser.add_argument("--idle", type=float, default=60.0, help="seconds without edits")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures there")
    chosen = parser.parse_args()
    began_s = time.monotonic()

    def say(what: str) -> None:
        print(f"{time.monotonic() - began_s:6.1f} s  {what}", file=sys.stderr, flush=True)

    columns = []
    load = os.getloadavg()[0]
    for nodes in chosen.nodes:
        figures = asyncio.run(measure(Size(nodes), chosen.edits, chosen.idle, say))
        columns.append({**figures, "load_before": load})
    print(f"1,000 tenants, 2,000 policies; the machine's load before: {load:.1f}\n")
    table(columns)
    for figures in columns:
        goals(figures)
    if chosen.json:
        chosen.json.write_text(json.dumps(columns, indent=1) + "\n")


if __name__ == "__main__":
    main()
