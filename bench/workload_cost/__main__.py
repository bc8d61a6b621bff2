# SPDX-License-Identifier: Apache-2.0
"""`python -m bench.workload_cost [WORKLOAD...]`: what capture costs whole programs.

Each program runs in the node VM alone, with Headwater attached but out of scope, in scope under the
default policy and under one that records everything, and under Linux audit with comparable rules.
Guest time under QEMU's icount is a count of instructions, so what is compared is how many the
program's own tasks executed; the reader of the records (our agent, auditd) is not in it. Prints a
table of ratios; never a gate.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from headwater_agent.attach_points import PROGRAM_TEXTS, CaptureMode
from headwater_cli.node_vm import compile_for, find_kernel

from bench.workload_cost.workloads import FILE_CHURN, ROOT, WORKLOADS

TIMEOUT_S = 7200
PACKAGES = "setup/packages.sh pressure"


def build() -> None:
    """Compile the workload that is our own."""
    FILE_CHURN.parent.mkdir(exist_ok=True)
    source = Path(__file__).with_name("file_churn.c")
    subprocess.run(["gcc", "-O2", "-static", "-o", FILE_CHURN, source], check=True)


def measure(kernel_name: str, mode: CaptureMode, names: list[str]) -> dict[str, Any]:
    """Boot the node VM and return the guest's figures."""
    kernel = find_kernel(kernel_name)
    compile_for(kernel, mode)
    words = ["-m", "headwater_cli.node_vm", "--kernel", kernel.release, "--cpus", "1", "--icount"]
    # audit=1: so that tasks from the boot on have what audit needs of them.
    words += ["--memory", "4G", "--append", "audit=1", "--timeout", str(TIMEOUT_S), "--"]
    words += ["env", "PYTHONDONTWRITEBYTECODE=1", "TMPDIR=/dev/shm"]
    words += [sys.executable, "-m", "bench.workload_cost.guest", mode, *names]
    done = subprocess.run(
        [sys.executable, *words],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        check=True,
    )
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return figures


def print_table(figures: dict[str, Any]) -> None:
    """Instructions alone, then the ratio to it and the records of each column."""
    columns = figures["us"]
    names = [column for column in columns if column != "alone"]
    print(f"{'workload':<14}{'alone ms':>10}" + "".join(f"{name:>24}" for name in names))
    for workload, runs in columns["alone"].items():
        alone = min(runs)
        line = f"{workload:<14}{alone / 1000:>10,.0f}"
        for name in names:
            ratio = min(columns[name][workload]) / alone
            records = figures["records"].get(name, {}).get(workload)
            line += f"{f'{ratio:.2f}x':>11}" + (
                f"{records:>13,}" if records is not None else " " * 13
            )
        print(line)
    lost = ", ".join(f"{name} {count:,}" for name, count in figures["lost"].items())
    print(
        f"(ratio of instructions to alone; records, for audit system calls, of a run)\nlost: {lost}"
    )
    apart = max(
        max(runs) / min(runs) - 1 for column in columns.values() for runs in column.values()
    )
    print(f"two runs of a cell differ by at most {apart:.1%}; the smaller one counts")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.workload_cost", description=__doc__)
    parser.add_argument(
        "workload", nargs="*", metavar="WORKLOAD", help=f"of {', '.join(WORKLOADS)}; none: all"
    )
    parser.add_argument("--kernel", default="6.12", help="release or its beginning")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures there")
    parser.add_argument("--mode", default="lsm", choices=[mode.value for mode in PROGRAM_TEXTS])
    chosen = parser.parse_args()
    names = chosen.workload or list(WORKLOADS)
    build()
    for name in names:
        if name not in WORKLOADS:
            parser.error(f'"{name}" is no workload; there are {", ".join(WORKLOADS)}')
        if missing := WORKLOADS[name].missing():
            parser.error(f'"{name}" needs {missing}; {PACKAGES} (root) installs it')
    if shutil.which("/usr/sbin/auditd") is None:
        parser.error(f"auditd is missing, to compare with; {PACKAGES} (root) installs it")
    figures = measure(chosen.kernel, CaptureMode(chosen.mode), names)
    print(f"kernel {figures['kernel']}, mode {figures['mode']}")
    print_table(figures)
    if chosen.json:
        chosen.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
