# SPDX-License-Identifier: Apache-2.0
"""`python -m tests.kernel SUITE...`: the kernel suite, one boot and one pytest session per kernel.

Why: a boot per test would make the suite slow. Called by the Makefile. What a guest runs is built
on the host before. Each session runs inside its node VM over this checkout; the first one's output
is shown as it comes, the others' when they end.
Exit status: that of the first session that failed, else 0.
"""

import argparse
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

from headwater_agent.attach_points import CaptureMode
from headwater_cli.node_vm import Kernel, compile_for, find_kernel

from tests.kernel.behaviours import PROGRAMS, build

ROOT = Path(__file__).resolve().parents[2]
LOGS = ROOT / "build" / "kernel-suite"
SEED = "HEADWATER_SCRIPT_SEED"
"""Of test_scripts.py, for one script alone; a guest does not inherit it by itself."""

BOOT = {CaptureMode.FENTRY: "lsm=lockdown,capability,landlock,yama,apparmor"}
"""Kernel parameters under which a mode is the best that there is."""


class Session:
    """The suite, or its part, on one kernel."""

    def __init__(
        self, kernel: Kernel, mode: CaptureMode, arguments: list[str], *, shown: bool, cpus: int
    ) -> None:
        self.name = f"{kernel.release}, mode {mode}"
        self.shown = shown
        stem = LOGS / f"{kernel.release}.{mode}"
        self.log = stem.with_name(f"{stem.name}.log")
        self.started_s = time.monotonic()
        vm = [sys.executable, "-m", "headwater_cli.node_vm", "--kernel", kernel.release]
        vm += ["--cpus", str(cpus), "--memory", "3G"]
        vm += ["--append", BOOT[mode], "--"] if mode in BOOT else ["--"]
        # Files of the tests live in memory: 9p is the host's business, not what is tested.
        passed = [f"{SEED}={os.environ[SEED]}"] if SEED in os.environ else []
        inside = [
            "env",
            *passed,
            "HEADWATER_NODE_VM=1",
            "TMPDIR=/dev/shm",
            "PYTHONDONTWRITEBYTECODE=1",
        ]
        pytest = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--color=no"]
        pytest += ["-o", "timeout=600", f"--junitxml={stem}.xml"]
        output = None if shown else self.log.open("wb")
        self._process = subprocess.Popen(
            [*vm, *inside, *pytest, *arguments],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT if output else None,
        )
        if output:
            output.close()
        self._status = 0
        self._took_s = 0.0
        # A session that ends while another one is waited for has its own end.
        self._end = threading.Thread(target=self._await_end, daemon=True)
        self._end.start()

    def _await_end(self) -> None:
        self._status = self._process.wait()
        self._took_s = time.monotonic() - self.started_s

    @property
    def has_ended(self) -> bool:
        """Whether there is nothing to wait for."""
        return not self._end.is_alive()

    def report(self) -> int:
        """Wait; show what was not shown yet; return the session's exit status."""
        self._end.join()
        status = self._status
        if not self.shown:
            sys.stdout.write(f"== kernel {self.name}\n")
            sys.stdout.write(self.log.read_text(encoding="utf-8", errors="replace"))
        verdict = "passed" if status == 0 else f"FAILED with status {status}"
        print(f"== kernel {self.name}: {verdict} in {self._took_s:.0f} s", flush=True)
        return status


def main() -> int:
    """Run the sessions, two at a time where there are the CPUs for it."""
    parser = argparse.ArgumentParser(prog="python -m tests.kernel")
    parser.add_argument(
        "kernel",
        nargs="+",
        help="a suite (trixie) or a release (6.12); with a mode if not the best (trixie:fentry)",
    )
    parser.add_argument(
        "--part",
        action="store_true",
        help="on the first kernel all but pressure's tests, elsewhere every_kernel's",
    )
    parser.add_argument("--cpus", type=int, default=2, help="virtual CPUs of each guest")
    parser.add_argument("-k", dest="select", default="", help="pytest's own -k")
    parser.add_argument("-m", dest="marker", default="", help="pytest's own -m")
    parser.add_argument("--test", action="append", default=[], help="a file or test, not all")
    chosen = parser.parse_args()
    LOGS.mkdir(parents=True, exist_ok=True)
    at_once = max(1, min(2, os.cpu_count() or 1))
    sessions: list[Session] = []
    kernels = [
        (find_kernel(name), CaptureMode(mode or "lsm"))
        for name, _, mode in (each.partition(":") for each in chosen.kernel)
    ]
    for program in PROGRAMS:
        build(program)
    for kernel, mode in kernels:
        compile_for(kernel, mode)
    for number, (kernel, mode) in enumerate(kernels):
        arguments = list(chosen.test) or ["tests/kernel"]
        part = "not pressure" if number == 0 else "every_kernel"
        marker = part if chosen.part else chosen.marker
        arguments += ["-m", marker] if marker else []
        arguments += ["-k", chosen.select] if chosen.select else []
        while sum(not session.has_ended for session in sessions) >= at_once:
            time.sleep(0.5)
        if number == 0:
            print(f"== kernel {kernel.release}, mode {mode}", flush=True)
        sessions.append(Session(kernel, mode, arguments, shown=number == 0, cpus=chosen.cpus))
    statuses = [session.report() for session in sessions]
    return next((status for status in statuses if status), 0)


if __name__ == "__main__":
    sys.exit(main())
