# SPDX-License-Identifier: Apache-2.0
"""`python -m bench.pipeline.record FILE -- COMMAND ...`: record the ring while a command runs.

Needs a kernel that can capture; elsewhere run it in the node VM::

    python -m headwater_cli.node_vm --kernel 6.12 -- \\
        python -m bench.pipeline.record bench/pipeline/recorded-build.zst -- make -C /path/to/source

The command runs in a cgroup of its own under a policy that records everything. What the ring could
not hold is said on stderr; the recording keeps the holes.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from headwater_agent.layout import COUNTERS, SlotFlag
from headwater_agent.load import Capture
from headwater_agent.ring import RingReader
from headwater_agent.scope import Scope, SlotConfig

from bench.pipeline.recording import RecordingHeader, record

CGROUPS = Path("/sys/fs/cgroup")
SLOT = 1
FLAGS = SlotFlag.ACTIVE | SlotFlag.COMPRESS_NODES | SlotFlag.COMPRESS_EDGES | SlotFlag.ARGUMENTS


def record_command(path: Path, command: list[str], limit_s: float, ring_bytes: int) -> int:
    """Run a command in scope and write what comes through the ring.

    Args:
        path: file to write.
        command: and its arguments.
        limit_s: end it after so many seconds.
        ring_bytes: size of the ring.

    Returns:
        The command's exit status; 124 if it was ended.
    """
    cgroup = CGROUPS / f"headwater-record-{os.getpid()}"
    cgroup.mkdir()
    try:
        with Capture(ring_bytes) as capture:
            scope = Scope(capture)
            scope.bind(SLOT, SlotConfig(epoch=1, flags=FLAGS))
            scope.add_cgroup(cgroup.stat().st_ino, SLOT)
            reader = RingReader(capture.ring_fd, ring_bytes)
            child = subprocess.Popen(
                command,
                preexec_fn=lambda: (cgroup / "cgroup.procs").write_text("0"),
            )
            end = time.monotonic() + limit_s

            def has_ended() -> bool:
                if child.poll() is None and time.monotonic() > end:
                    (cgroup / "cgroup.kill").write_text("1")
                    child.wait()
                return child.returncode is not None

            words = " ".join(command)[:200]
            header = RecordingHeader({SLOT: 1}, words, os.uname().release)
            written = record(reader, path, header, until=has_ended)
            values = capture.counters.lookup_cpus(SLOT.to_bytes(4, "little"))
            counters = np.frombuffer(b"".join(values), COUNTERS)
            reader.close()
            print(
                f"{written:,} bytes; captured {counters['captured'].sum():,}, "
                f"lost by reason {counters['lost'].sum(axis=0).tolist()}",
                file=sys.stderr,
            )
            return child.returncode if time.monotonic() < end else 124
    finally:
        (cgroup / "cgroup.kill").write_text("1")
        for _ in range(100):
            try:
                cgroup.rmdir()
                break
            except OSError:
                time.sleep(0.05)


def main() -> int:
    """Record."""
    parser = argparse.ArgumentParser(prog="python -m bench.pipeline.record", description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--limit-s", type=float, default=300.0, help="end the command after this")
    parser.add_argument("--ring-mib", type=int, default=64, help="size of the ring")
    parser.add_argument("command", nargs="+")
    arguments = parser.parse_args()
    ring_bytes = arguments.ring_mib * 1024 * 1024
    return record_command(arguments.file, arguments.command, arguments.limit_s, ring_bytes)


if __name__ == "__main__":
    sys.exit(main())
