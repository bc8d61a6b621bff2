# SPDX-License-Identifier: Apache-2.0
"""The part of the benchmark that runs in the node VM: one column after the other, as JSON.

Called by `bench.kernel_cost` as root, with guest time counting instructions.
"""

from __future__ import annotations

import dataclasses
import json
import os
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

from headwater_agent.attach_points import CaptureMode
from headwater_agent.bpf_load import load_programs
from headwater_agent.layout import SlotFlag
from headwater_agent.load import Capture
from headwater_agent.program_cache import compiled_programs
from headwater_agent.ring import RingReader
from headwater_agent.scope import Scope, SlotConfig
from headwater_prov.vocabulary import VertexType

RETURN_ZERO: Final = bytes.fromhex("b7000000000000009500000000000000")
"""r0 = 0; exit"""
RING_BYTES: Final = 64 << 20
SLOT: Final = 1
FILTERS: Final = {
    "default": frozenset(
        {VertexType.DIRECTORY, VertexType.INODE_UNKNOWN, VertexType.CHAR, VertexType.ENVP}
    ),
    "everything": frozenset[VertexType](),
}
"""Vertex types that are not recorded, by policy; the first is CamFlow's default."""
_CGROUPS: Final = Path("/sys/fs/cgroup")


def run_operations(program: str, cgroup: Path) -> dict[str, list[float]]:
    """Run the operations twice in a cgroup; both runs' ns by operation."""
    figures: dict[str, list[float]] = {}
    for _ in range(2):
        # The shell enters the cgroup, so that the program is in it from its exec on.
        command = [
            "sh",
            "-c",
            'echo $$ > "$1/cgroup.procs" && exec "$2"',
            "sh",
            str(cgroup),
            program,
        ]
        lines = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout
        for line in lines.splitlines():
            name, figure = line.split("\t")
            figures.setdefault(name, []).append(float(figure))
    return figures


def main() -> None:
    """Measure every column and print them."""
    program, mode = sys.argv[1], CaptureMode(sys.argv[2])
    inside, outside = _CGROUPS / "inside", _CGROUPS / "outside"
    inside.mkdir()
    outside.mkdir()
    columns: dict[str, Any] = {"baseline": run_operations(program, outside)}
    compiled = compiled_programs(mode=mode)
    empty = dataclasses.replace(
        compiled,
        maps=(),
        programs=tuple(
            dataclasses.replace(spec, instructions=RETURN_ZERO) for spec in compiled.programs
        ),
    )
    loaded = load_programs(empty, RING_BYTES)
    columns["empty hooks"] = run_operations(program, outside)
    hooks = sorted(loaded.links)
    loaded.close()
    lost = captured = 0
    with Capture(ring_bytes=RING_BYTES, mode=mode) as capture:
        if sorted(n for n, status in capture.attached.items() if status == "attached") != hooks:
            sys.exit("the empty programs are not attached to the same hooks as the real ones")
        scope = Scope(capture)
        scope.add_cgroup(inside.stat().st_ino, SLOT)
        ring = RingReader(capture.ring_fd, RING_BYTES)
        epoch = 0
        for policy, vertices_off in FILTERS.items():
            flags = SlotFlag.ACTIVE | SlotFlag.COMPRESS_NODES | SlotFlag.ARGUMENTS
            for name, more in (("repeat", SlotFlag.COMPRESS_EDGES), ("new edge", SlotFlag(0))):
                epoch += 1
                scope.bind(SLOT, SlotConfig(epoch, flags | more, vertices_off=vertices_off))
                if name == "repeat" and "out of scope" not in columns:
                    columns["out of scope"] = run_operations(program, outside)
                columns[f"{policy}: {name}"] = run_operations(program, inside)
                end = ring.snapshot()
                while ring.position < end:
                    ring.release(ring.read(end).end)
        for value in capture.counters.lookup_cpus(struct.pack("<I", SLOT)):
            counts = struct.unpack("<7Q", value[:56])
            captured += counts[0]
            lost += sum(counts[1:])
    result = {
        "kernel": os.uname().release,
        "mode": mode,
        "hooks": hooks,
        "captured": captured,
        "lost": lost,
        "ns": columns,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
