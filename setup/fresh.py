#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Run the README's two commands in a fresh Debian 12 and 13, and write down the result.

usage: setup/fresh.py [--target TARGET ...] [--keep] [SUITE ...]

Why: a machine on which the project is developed has everything; only a fresh one shows a missing
install step. Each root is made by mmdebstrap from this machine's own archive with nothing but
apt, make and certificates (as a tarball, kept in the cache), then the committed state of the
checkout is cloned into it, and the commands run there with empty caches. What belongs to the
machine and not to Debian (name servers, certificates, proxies, pip's configuration) is carried
over. Run by `make test-fresh` as root. Result: a table in docs/development.md.
"""

import argparse
import datetime
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from common import ROOT, cache_directory, fail
from kernels import archive_address

DOCUMENT = ROOT / "docs" / "development.md"
BEGIN, END = "<!-- test-fresh: begin -->", "<!-- test-fresh: end -->"
NAMES = {"bookworm": "Debian 12", "trixie": "Debian 13"}
TARGETS = ("demo", "test")
CHECKOUT = "/root/headwater"

_CARRIED = re.compile(
    r"(?i)^(pip_.*|.*_proxy|ssl_cert_file|ssl_cert_dir|requests_ca_bundle"
    r"|go(proxy|noproxy|private|sumdb|nosumdb|insecure))$"
)
_ACQUIRE = re.compile(r"^Acquire::(https?|Check|Retries)\S* \"[^\"]+\";$", flags=re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one command ended on one fresh root."""

    suite: str
    target: str
    status: int
    took_s: float
    versions: str
    log: Path


def run(*command: str | Path, **options: object) -> str:
    """Run a command that must succeed and return its output."""
    words = [str(word) for word in command]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise fail(f'"{" ".join(words)}" failed:\n{done.stderr[-2000:]}', "see the message above")
    return done.stdout


def tarball(suite: str, directory: Path) -> Path:
    """Return a tarball of the suite's fresh root, made once."""
    path = directory / f"{suite}.tar"
    if not path.exists():
        print(f"test-fresh: making a fresh {NAMES[suite]}", flush=True)
        settings = directory / "acquire.conf"
        lines = _ACQUIRE.finditer(run("apt-config", "dump"))
        settings.write_text("".join(line[0] + "\n" for line in lines))
        partial = directory / f".{suite}.partial.tar"
        run(
            "mmdebstrap",
            "--variant=minbase",
            "--include=ca-certificates,make",
            f"--aptopt={settings}",
            suite,
            partial,
            f"deb {archive_address()} {suite} main",
        )
        partial.rename(path)
    return path


def carry_over(root: Path) -> None:
    """Give the root what belongs to this machine: names, certificates, pip's configuration."""
    for name in ("/etc/resolv.conf", "/etc/hosts", "/etc/pip.conf"):
        if Path(name).exists():
            shutil.copy(Path(name).resolve(), root / name.lstrip("/"))
    own = Path("/usr/local/share/ca-certificates")
    for certificate in own.glob("*.crt") if own.is_dir() else ():
        shutil.copy(certificate, root / "usr/local/share/ca-certificates")
    run("chroot", root, "update-ca-certificates")


def environment() -> Mapping[str, str]:
    """Return a login's environment and this machine's way to the network."""
    carried = {name: value for name, value in os.environ.items() if _CARRIED.match(name)}
    carried.pop("PIP_CACHE_DIR", None)
    return {
        **carried,
        "HOME": "/root",
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "LANG": "C.UTF-8",
        "CI": "true",
    }


# Mounts and processes of a run end with it: both name spaces are its own. The root becomes a mount
# and the name space's root, as on a machine: in a mere chroot the kernel refuses user name spaces
# and changes to how "/" propagates, and both belong to what is tested.
_INSIDE = """
set -e
root=$1; shift
mount --make-rprivate /
mount --bind "$root" "$root"
for directory in dev sys; do mount --rbind /$directory "$root/$directory"; done
mount -t proc proc "$root/proc"
mount -t tmpfs -o mode=755 run "$root/run"
cd "$root"
pivot_root . mnt
exec chroot . /bin/sh -c 'umount -l /mnt && cd "$1" && shift && exec "$@"' sh "$@"
"""


def attempt(suite: str, target: str, root: Path, directory: Path) -> Outcome:
    """Run one command of the README in the root."""
    log = directory / f"{suite}-{target}.log"
    print(f"test-fresh: {NAMES[suite]}: make {target} (log: {log})", flush=True)
    command = ["unshare", "--mount", "--pid", "--fork", "--kill-child"]
    command += ["sh", "-c", _INSIDE, "sh", str(root), CHECKOUT, "make", target]
    started_s = time.monotonic()
    with log.open("wb") as file:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            env=environment(),
            check=False,
        )
    took_s = time.monotonic() - started_s
    verdict = "passed" if done.returncode == 0 else f"FAILED with status {done.returncode}"
    print(f"test-fresh: {NAMES[suite]}: make {target} {verdict} in {took_s:.0f} s", flush=True)
    if done.returncode != 0:
        print("\n".join(log.read_text(errors="replace").splitlines()[-25:]), file=sys.stderr)
    return Outcome(suite, target, done.returncode, took_s, versions(root), log)


def versions(root: Path) -> str:
    """Return the versions of what differs most between distributions."""
    form = "${Version}"
    found = []
    for label, package in (
        ("Python", "python3"),
        ("bcc", "python3-bpfcc"),
        ("QEMU", "qemu-system-x86"),
    ):
        done = subprocess.run(
            ["dpkg-query", f"--root={root}", "-W", "-f", form, package],
            capture_output=True,
            text=True,
            check=False,
        )
        version = re.sub(r"^\d+:|[-+].*$", "", done.stdout)
        found.append(f"{label} {version or 'absent'}")
    return ", ".join(found)


def prepare(suite: str, directory: Path) -> Path:
    """Return a fresh root with the committed checkout in it."""
    archive = tarball(suite, directory)
    root = directory / suite
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir()
    run("tar", "--extract", "--file", archive, "--directory", root, "--exclude=./dev/*")
    carry_over(root)
    run("git", "clone", "--quiet", "--no-hardlinks", ROOT, root / CHECKOUT.lstrip("/"))
    return root


def write_down(outcomes: list[Outcome]) -> None:
    """Replace the table between the markers in docs/development.md."""
    commit = run("git", "-C", ROOT, "rev-parse", "--short", "HEAD").strip()
    today = datetime.datetime.now(tz=datetime.UTC).date().isoformat()
    rows = [f"Commit {commit}, {today}, without KVM unless the machine has it:", ""]
    rows += ["| fresh root | command | result | minutes | versions |", "|---|---|---|---|---|"]
    for one in outcomes:
        result = "passed" if one.status == 0 else f"failed with status {one.status}"
        cells = (NAMES[one.suite], f"`make {one.target}`", result, f"{one.took_s / 60:.1f}")
        rows.append(f"| {' | '.join(cells)} | {one.versions} |")
    text = DOCUMENT.read_text(encoding="utf-8")
    head, _, rest = text.partition(BEGIN)
    _, _, tail = rest.partition(END)
    DOCUMENT.write_text(f"{head}{BEGIN}\n" + "\n".join(rows) + f"\n{END}{tail}", encoding="utf-8")


def main() -> int:
    """Run all that was asked for; 1 when anything failed."""
    parser = argparse.ArgumentParser(description="The README's commands on fresh Debian roots.")
    parser.add_argument(
        "--target", action="append", help="only this, or another, target of the Makefile"
    )
    parser.add_argument("--keep", action="store_true", help="leave the roots for a look")
    parser.add_argument("suite", nargs="*", default=list(NAMES))
    chosen = parser.parse_args()
    if os.geteuid() != 0:
        raise fail("a fresh root needs root (mounts, chroot)", "run it with sudo")
    directory = cache_directory() / "fresh"
    directory.mkdir(parents=True, exist_ok=True)
    targets = chosen.target or list(TARGETS)
    outcomes = []
    for suite in chosen.suite:
        root = prepare(suite, directory)
        outcomes += [attempt(suite, target, root, directory) for target in targets]
        if not chosen.keep:
            shutil.rmtree(root)
    if set(chosen.suite) == set(NAMES) and set(targets) == set(TARGETS):
        write_down(outcomes)
    return 1 if any(outcome.status for outcome in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main())
