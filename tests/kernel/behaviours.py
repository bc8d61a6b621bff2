# SPDX-License-Identifier: Apache-2.0
"""The C program whose behaviours the kernel tests capture, compiled when its source is newer.

Why static: a dynamic loader's own system calls would be in every graph. The runner compiles it on
the host, where that takes a second; a session without the runner compiles it in the guest.
"""

import os
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SOURCE = Path(__file__).with_name("programs") / "behaviours.c"
BINARY = ROOT / "build" / "kernel-suite" / "behaviours"
OPTIONS = ("-O1", "-Wall", "-Wextra", "-Wno-unused-result", "-Wno-unused-but-set-variable")


def build() -> Path:
    """Return the compiled program."""
    if BINARY.exists() and BINARY.stat().st_mtime >= SOURCE.stat().st_mtime:
        return BINARY
    BINARY.parent.mkdir(parents=True, exist_ok=True)
    fresh = BINARY.with_name(f"behaviours.{os.getpid()}")
    subprocess.run(["gcc", *OPTIONS, "-static", "-pthread", "-o", fresh, SOURCE], check=True)
    fresh.rename(BINARY)
    return BINARY
