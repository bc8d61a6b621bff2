# SPDX-License-Identifier: Apache-2.0
"""The C programs whose doings the kernel tests capture, compiled when their source is newer.

Why static: a dynamic loader's own system calls would be in every graph. The runner compiles them on
the host, where that takes a second; a session without the runner compiles them in the guest.
"""

import os
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SOURCES = Path(__file__).with_name("programs")
BINARIES = ROOT / "build" / "kernel-suite"
OPTIONS = ("-O1", "-Wall", "-Wextra", "-Wno-unused-result", "-Wno-unused-but-set-variable")
PROGRAMS = ("behaviours", "runtime")


def build(name: str = "behaviours") -> Path:
    """Return a compiled program."""
    source, binary = SOURCES / f"{name}.c", BINARIES / name
    parts = [source, *SOURCES.glob("*.h")]
    if binary.exists() and binary.stat().st_mtime >= max(p.stat().st_mtime for p in parts):
        return binary
    binary.parent.mkdir(parents=True, exist_ok=True)
    fresh = binary.with_name(f"{name}.{os.getpid()}")
    subprocess.run(["gcc", *OPTIONS, "-static", "-pthread", "-o", fresh, source], check=True)
    fresh.rename(binary)
    return binary
