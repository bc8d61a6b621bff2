#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Build Helm from its Go module, into the cache; nothing is installed.

Why: the chart is tested with the program that platform teams install it by, and that is published
as source. Versions and digests of all modules are the ones of setup/helm/go.mod and go.sum: a
module of its own, because Helm's requirements and the control plane's need not agree, and neither
is to be built anew when the other changes. Run by the Makefile with the system's Python: standard
library only. What finds a Go, and how it is called, is control_plane's.

Result: <cache>/helm/<version>/bin/helm, where tests.cluster.helm finds it.
"""

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from common import cache_directory, fail
from control_plane import find_go, go_environment

MODULE = Path(__file__).with_suffix("")
"""Directory of the go.mod that pins everything."""

PACKAGE = "helm.sh/helm/v4/cmd/helm"

FREE_BYTES_MIN = 2 * 1024**3

_STAMP = "built-from"


def version() -> str:
    """Return the version that go.mod pins."""
    text = (MODULE / "go.mod").read_text(encoding="utf-8")
    found = re.search(r"^\s*(?:require )?helm\.sh/helm/v4 (v\S+)", text, re.MULTILINE)
    if found is None:
        raise fail(f"{MODULE / 'go.mod'} does not name helm.sh/helm/v4", "restore the file")
    return found[1]


def wanted_stamp() -> str:
    """Return a digest of all that the program is made from, but for the compiler."""
    digest = hashlib.sha256()
    for path in (MODULE / "go.mod", MODULE / "go.sum", Path(__file__)):
        digest.update(path.read_bytes())
    return digest.hexdigest() + "\n"


def is_complete(target: Path) -> bool:
    """Tell whether `target` holds what would be built."""
    stamp = target / _STAMP
    is_there = stamp.is_file() and (target / "bin" / "helm").is_file()
    return is_there and stamp.read_text() == wanted_stamp()


def build(target: Path, work: Path) -> None:
    """Build into `work`, and move the result to `target`."""
    free = shutil.disk_usage(work).free
    if free < FREE_BYTES_MIN:
        raise fail(
            f"{work} has {free / 1e9:.1f} GB free, and the build needs 2 GB for its time",
            "free some, or set HEADWATER_CACHE to a directory with more",
        )
    environment = go_environment(work)
    go = find_go(work, environment)
    built = work / "result" / "bin"
    built.mkdir(parents=True, exist_ok=True)
    began_s = time.monotonic()
    print(f"setup: helm: building {version()}", flush=True)
    names = f"-X helm.sh/helm/v4/internal/version.version={version()}"
    command = [go, "build", "-mod=readonly", "-modcacherw", "-trimpath", "-buildvcs=false"]
    command += ["-p", str(max(2, (os.cpu_count() or 1) // 2)), "-ldflags", f"-s -w {names}"]
    done = subprocess.run(
        [*command, "-o", built / "helm", PACKAGE],
        cwd=MODULE,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        sys.stderr.write(done.stdout[-4000:])
        raise fail(
            "helm could not be built; Go's message is above",
            "check the network and the Go module proxy (go env GOPROXY), then run again: what was "
            "downloaded and compiled is kept",
        )
    print(f"setup: helm: took {time.monotonic() - began_s:.0f} s", flush=True)
    (built.parent / _STAMP).write_text(wanted_stamp())
    shutil.rmtree(target, ignore_errors=True)
    built.parent.rename(target)
    shutil.rmtree(work)


def main() -> None:
    """Have the program in the cache; at once when it is there."""
    if sys.argv[1:]:
        raise fail("takes no arguments", "run setup/helm.py")
    target = cache_directory() / "helm" / version()
    if is_complete(target):
        return
    work = target.with_name(f".{version()}.partial")
    target.parent.mkdir(parents=True, exist_ok=True)
    # A minute on all processors: whatever else the machine does goes first.
    os.nice(10)
    with target.with_name(f".{version()}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not is_complete(target):  # another checkout may have built it meanwhile
            work.mkdir(exist_ok=True)
            build(target, work)


if __name__ == "__main__":
    main()
