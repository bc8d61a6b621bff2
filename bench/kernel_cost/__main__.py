# SPDX-License-Identifier: Apache-2.0
"""`python -m bench.kernel_cost [--kernel 6.12] [--mode lsm]`: what capture adds to system calls.

Guest time under QEMU's icount is a count of instructions, so the figures do not depend on what
else the machine does. Each column is extra time over the baseline; the goals are ratios to what
empty programs on the same hooks add. Prints a table; never a gate.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from headwater_agent.attach_points import PROGRAM_TEXTS, CaptureMode
from headwater_cli.node_vm import compile_for, find_kernel

ROOT = Path(__file__).resolve().parents[2]
GOALS = {"out of scope": 1.15, "repeat": 2.5, "new edge": 4.0}
"""Of the extra time that empty programs cost."""
TIMEOUT_S = 900


def measure(kernel_name: str, mode: CaptureMode) -> dict[str, Any]:
    """Boot the node VM and return the guest's figures."""
    kernel = find_kernel(kernel_name)
    compile_for(kernel, mode)
    program = ROOT / "build" / "kernel_cost"
    program.parent.mkdir(exist_ok=True)
    source = Path(__file__).with_name("operations.c")
    subprocess.run(["gcc", "-O2", "-static", "-o", program, source], check=True)
    words = ["-m", "headwater_cli.node_vm", "--kernel", kernel.release, "--cpus", "1", "--icount"]
    words += ["--timeout", str(TIMEOUT_S), "--"]
    words += ["env", "PYTHONDONTWRITEBYTECODE=1", sys.executable, "-m", "bench.kernel_cost.guest"]
    done = subprocess.run(
        [sys.executable, *words, str(program), mode],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        check=True,
    )
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return figures


def print_table(columns: dict[str, dict[str, list[float]]], policy: str) -> None:
    """One policy's table: baseline, then extra ns and ratio to the empty hooks."""
    names = {"out of scope": "out of scope"}
    names |= {name: f"{policy}: {name}" for name in ("repeat", "new edge")}
    print(f"policy {policy} (extra ns; ratio to the empty hooks' extra, ! = over the goal)")
    heads = "".join(f"{f'{name} <= {GOALS[name]}':>24}" for name in names)
    print(f"{'operation':<24}{'baseline':>10}{'empty hooks':>13}{heads}")
    for operation, runs in columns["baseline"].items():
        base = min(runs)
        empty = min(columns["empty hooks"][operation]) - base
        line = f"{operation:<24}{base:>10,.0f}{empty:>+13,.0f}"
        for name, column in names.items():
            extra = min(columns[column][operation]) - base
            # getppid has no hook: no ratio.
            ratio = extra / empty if empty > 10 else 0.0
            mark = "!" if ratio > GOALS[name] else " "
            text = f"{ratio:6.2f}x{mark}" if ratio else " " * 8
            line += f"{extra:>+14,.0f} {text:>9}"
        print(line)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.kernel_cost", description=__doc__)
    parser.add_argument("--kernel", default="6.12", help="release or its beginning")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures there")
    parser.add_argument("--mode", default="lsm", choices=[mode.value for mode in PROGRAM_TEXTS])
    chosen = parser.parse_args()
    figures = measure(chosen.kernel, CaptureMode(chosen.mode))
    columns = figures["ns"]
    hooks = len(figures["hooks"])
    print(f"kernel {figures['kernel']}, mode {chosen.mode}, {hooks} hooks attached")
    for policy in ("default", "everything"):
        print_table(columns, policy)
    apart = max(
        max(runs) / min(runs) - 1 for column in columns.values() for runs in column.values()
    )
    print("default filters directories and character devices; new edge: edge compression off")
    print(f"two runs differ by at most {apart:.2%}; captured {figures['captured']:,} records,")
    print(f"lost {figures['lost']:,}")
    if chosen.json:
        chosen.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
