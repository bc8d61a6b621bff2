# SPDX-License-Identifier: Apache-2.0
"""`python -m bench.pipeline [--json FILE]`: how fast ring bytes become acknowledged records.

Prints a table; never a gate. Without a recording it uses the simulated kernel and says so.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import statistics
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from bench.pipeline.measure import Pass, Published, publish, render
from bench.pipeline.recording import Recording, RecordingHeader, load
from bench.pipeline.simulation import SimulatedKernel
from bench.pipeline.workloads import build_workload

RECORDING = Path(__file__).parent / "recorded-build.zst"
GOAL_RECORDS_PER_S = 1_000_000
GOAL_BYTES_PER_RECORD = 60


def simulate(records: int) -> Recording:
    """A build on the simulated kernel."""
    kernel = SimulatedKernel(Random(1))
    kernel.set_epoch(1, 1)
    build_workload(kernel, 1, records)
    header = RecordingHeader({1: 1}, f"simulated build, {records} records", "none: simulated")
    return Recording(header, np.frombuffer(bytes(kernel.ring), np.uint8))


def median(values: Sequence[Any], of: Callable[[Any], float]) -> float:
    return statistics.median(of(value) for value in values)


def line(name: str, value: float) -> str:
    return f"  {name:<42}{value:>14,.0f}" if value > 1000 else f"  {name:<42}{value:>14.1f}"


def report(recording: Recording, passes: list[Pass], shares: list[Pass]) -> dict[str, Any]:
    """Print what rendering costs; return the figures."""
    one = passes[0]
    per_s = {
        "captured_records_per_core_s": median(passes, lambda p: p.records / p.cpu_s),
        "prov_records_per_core_s": median(passes, lambda p: p.elements / p.cpu_s),
        "prov_records_per_s": median(passes, lambda p: p.elements / p.total_s),
    }
    print(f"workload: {recording.header.command} on kernel {recording.header.kernel}")
    print(
        f"          {len(recording.ring):,} ring bytes, {one.records:,} captured records, "
        f"{one.elements:,} PROV records ({one.elements / one.records:.2f} for one captured)"
    )
    print(f"\nring bytes -> compressed documents, median of {len(passes)}")
    for name, value in (
        ("captured records/s per core", per_s["captured_records_per_core_s"]),
        ("PROV records/s per core", per_s["prov_records_per_core_s"]),
        ("PROV records/s by the wall clock", per_s["prov_records_per_s"]),
        ("JSON bytes per PROV record", one.json_bytes / one.elements),
        ("compressed bytes per PROV record", one.payload_bytes / one.elements),
        ("compressed bytes per captured record", one.payload_bytes / one.records),
    ):
        print(line(name, value))
    print(f"\n  {'stage':<42}{'share':>7}{'ns per captured':>17}{'ns per PROV':>13}")
    stages: dict[str, Any] = {}
    parts: list[tuple[str, Callable[[Pass], float]]] = [
        ("find records in the ring", lambda p: p.scan_s),
        ("object ids (Python)", lambda p: p.ids_s),
        ("names and arguments (Python)", lambda p: p.names_s),
        ("decode, objects, versions, text (compiled)", lambda p: p.render_s),
        ("zstd level 1", lambda p: p.zstd_s),
    ]
    for name, of in parts:
        share = statistics.median(of(p) / p.total_s for p in shares)
        each = statistics.median(of(p) / p.records * 1e9 for p in shares)
        prov = statistics.median(of(p) / p.elements * 1e9 for p in shares)
        stages[name] = {"share": share, "ns_per_captured": each, "ns_per_prov": prov}
        print(f"  {name:<42}{share:>7.1%}{each:>17.0f}{prov:>13.1f}")
    return {
        **per_s,
        "records": one.records,
        "elements": one.elements,
        "json_bytes": one.json_bytes,
        "payload_bytes": one.payload_bytes,
        "stages": stages,
    }


def report_published(published: list[Published]) -> dict[str, Any]:
    """Print what it takes until everything is acknowledged; return the figures."""
    one = published[0]
    figures = {
        "captured_records_per_core_s": median(published, lambda p: p.records / p.cpu_s),
        "prov_records_per_core_s": median(published, lambda p: p.elements / p.cpu_s),
        "prov_records_per_s": median(published, lambda p: p.elements / p.total_s),
        "stream_bytes_per_prov_record": one.stream_bytes / one.elements,
        "stream_bytes_per_captured_record": one.stream_bytes / one.records,
    }
    print(f"\nring bytes -> acknowledged in JetStream, median of {len(published)}")
    for name, value in (
        ("captured records/s per core", figures["captured_records_per_core_s"]),
        ("PROV records/s per core", figures["prov_records_per_core_s"]),
        ("PROV records/s by the wall clock", figures["prov_records_per_s"]),
        ("stored bytes per PROV record", figures["stream_bytes_per_prov_record"]),
        ("stored bytes per captured record", figures["stream_bytes_per_captured_record"]),
    ):
        print(line(name, value))
    return figures


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.pipeline", description=__doc__)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here")
    parser.add_argument("--recording", type=Path, help=f"ring bytes to play; default {RECORDING}")
    parser.add_argument("--records", type=int, default=150_000, help="size of the simulated build")
    parser.add_argument("--runs", type=int, default=5, help="passes of which the median is printed")
    parser.add_argument(
        "--duplicate", action="store_true", help="under a policy with compression.duplicate"
    )
    parser.add_argument("--no-nats", action="store_true", help="stop at compressed documents")
    arguments = parser.parse_args()
    path = arguments.recording or (RECORDING if RECORDING.exists() else None)
    recording = load(path) if path else simulate(arguments.records)
    duplicate: bool = arguments.duplicate
    render(recording)  # the first pass pays for cold caches
    passes = [render(recording, duplicate=duplicate) for _ in range(arguments.runs)]
    shares = [render(recording, shares=True, duplicate=duplicate) for _ in range(arguments.runs)]
    figures: dict[str, Any] = {
        "workload": recording.header.command,
        "duplicate": duplicate,
        "kernel": recording.header.kernel,
        "render": report(recording, passes, shares),
    }
    if not arguments.no_nats:
        published = []
        for _ in range(min(3, arguments.runs)):
            with tempfile.TemporaryDirectory() as state:
                run = publish(recording, Path(state) / "state", duplicate=duplicate)
                published.append(asyncio.run(run))
        figures["published"] = report_published(published)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - len(recording.ring)
    figures["peak_memory_bytes"] = memory
    print(f"\npeak memory of this process without the recording: {memory / 1e6:.0f} MB")
    print(
        f"goals: {GOAL_RECORDS_PER_S:,} records/s per core, "
        f"{GOAL_BYTES_PER_RECORD} bytes stored for each"
    )
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
