#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Download stock Debian kernels for the node VM into the cache; nothing of the machine is changed.

usage: setup/kernels.py [--if-needed] [SUITE ...]      (bookworm, trixie, sid; default: own suite)

Why: a host that refuses to attach needs one kernel, the tests need three. They come from the Debian
archive that this machine's own apt is configured for, checked by apt against its own keyring, and
are unpacked (not installed) below <cache>/kernels/<release>/, where headwater_cli.node_vm finds
them. Run by the Makefile with the system's Python: standard library only. Everything is made under
a temporary name and renamed, so an interrupted run is simply run again.
"""

import argparse
import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from common import cache_directory, fail

SUITES = ("bookworm", "trixie", "sid")
KEYRINGS = (
    "/usr/share/keyrings/debian-archive-keyring.pgp",
    "/usr/share/keyrings/debian-archive-keyring.gpg",
)
META = "linux-image-amd64"
"""Depends on the newest kernel of its suite; the cloud flavour would lack 9p."""

_PART = re.compile(r"linux-(image|modules|binary)-(\d\S*)$")
"""The packages with files in them: one image up to trixie, modules and binary apart in sid."""


def own_suite() -> str:
    """Return this machine's Debian suite, or the newest stable one known here."""
    codename = platform.freedesktop_os_release().get("VERSION_CODENAME", "")
    return codename if codename in SUITES else "trixie"


def archive_address() -> str:
    """Return the main Debian archive in this machine's apt configuration, either format of it.

    apt itself says what it would read, also on a machine whose lists were never downloaded. Other
    archives may use Debian's suite names: one that ends in "debian" and has our suite goes first.

    Raises:
        SystemExit: there is none.
    """
    command = ["apt-get", "update", "--print-uris"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    candidates = [
        (not address.endswith("debian"), suite != own_suite(), address)
        for address, suite in re.findall(
            r"^'(\S+?)/+dists/([a-z]+)/main/binary-", done.stdout, re.MULTILINE
        )
        if suite in {*SUITES, "stable", "oldstable", "testing", "unstable"}
    ]
    if candidates:
        return str(min(candidates)[2])
    raise fail(
        "apt has no Debian archive (component main) to take kernels from",
        'add one to /etc/apt/sources.list.d, or unpack a kernel package with "dpkg-deb -x" into '
        f"{cache_directory()}/kernels/<release>/ and run depmod there",
    )


class Apt:
    """apt for one suite with its own source, lists and cache: the machine's are not touched."""

    def __init__(self, suite: str, directory: Path) -> None:
        keyring = next((path for path in KEYRINGS if Path(path).exists()), None)
        if keyring is None:
            raise fail("no Debian archive keyring", "apt-get install debian-archive-keyring")
        for name in ("lists/partial", "cache/archives/partial", "parts"):
            (directory / name).mkdir(parents=True, exist_ok=True)
        source = directory / "sources.list"
        source.write_text(f"deb [signed-by={keyring}] {archive_address()} {suite} main\n")
        (directory / "status").touch()
        self._options = [
            option
            for setting in (
                f"Dir::Etc::sourcelist={source}",
                f"Dir::Etc::sourceparts={directory / 'parts'}",
                f"Dir::State::lists={directory / 'lists'}",
                f"Dir::State::status={directory / 'status'}",
                f"Dir::Cache={directory / 'cache'}",
                "Acquire::Languages=none",
                "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false",
                "Acquire::IndexTargets::deb::Contents-deb::DefaultEnabled=false",
                "Acquire::Retries=3",
                # The unprivileged user of apt cannot enter a private cache directory.
                f"APT::Sandbox::User={'root' if os.geteuid() == 0 else ''}",
            )
            for option in ("-o", setting)
        ]

    def run(self, *command: str, cwd: Path | None = None) -> str:
        """Run one apt program and return its output.

        Raises:
            SystemExit: it failed; its own words are shown.
        """
        words = [command[0], *self._options, *command[1:]]
        done = subprocess.run(words, capture_output=True, text=True, cwd=cwd, check=False)
        if done.returncode != 0:
            sys.stderr.write(done.stderr[-2000:])
            raise fail(
                f'"{" ".join(command)}" failed', "check the network and apt's sources, run again"
            )
        return done.stdout

    def fields(self, package: str) -> dict[str, str]:
        """Return the control fields of the newest version of `package`."""
        text = self.run("apt-cache", "show", "--no-all-versions", package)
        pairs = (line.partition(": ") for line in text.splitlines() if line[:1].isalpha())
        return {name: value for name, _, value in pairs}

    def parts(self) -> tuple[str, list[str]]:
        """Return the release of the suite's kernel and the packages that hold its files."""
        found: dict[str, str] = {}
        queue = [META]
        while queue:
            fields = self.fields(queue.pop())
            for wish in re.split(r"[,|]", fields.get("Depends", "")):
                match = _PART.fullmatch(wish.split()[0]) if wish.strip() else None
                if match and match[0] not in found:
                    found[match[0]] = match[2]
                    queue.append(match[0])
        if not found:
            raise fail(f"{META} depends on no kernel image that is known here", "report this")
        return next(iter(found.values())), list(found)


def unpack(debs: list[Path], release: str, target: Path) -> None:
    """Unpack the packages of one kernel below `target` and index its modules."""
    partial = target.with_name(f".{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    for deb in debs:
        subprocess.run(["dpkg-deb", "-x", deb, partial], check=True)
    # kmod looks below lib or below usr/lib, as its build wills; packages fill one of them.
    if not (partial / "lib").exists():
        (partial / "lib").symlink_to("usr/lib")
    elif not (partial / "usr/lib/modules").exists():
        (partial / "usr/lib").mkdir(parents=True, exist_ok=True)
        (partial / "usr/lib/modules").symlink_to("../../lib/modules")
    depmod = shutil.which("depmod", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if depmod is None:
        raise fail("depmod is missing", "apt-get install --no-install-recommends kmod")
    subprocess.run([depmod, "-b", partial, release], check=True, stderr=subprocess.DEVNULL)
    partial.rename(target)


def provide(suite: str, cache: Path) -> None:
    """Have the suite's kernel in the cache; at once when it is there."""
    record = cache / "kernel-suites" / suite
    if record.exists() and (cache / "kernels" / record.read_text().strip()).is_dir():
        return
    print(f"setup: kernel of Debian {suite}: reading the package list", flush=True)
    apt = Apt(suite, cache / "apt" / suite)
    apt.run("apt-get", "update")
    release, packages = apt.parts()
    target = cache / "kernels" / release
    if not target.is_dir():
        downloads = cache / "apt" / suite / "debs"
        downloads.mkdir(exist_ok=True)
        debs = []
        for package in packages:
            fields = apt.fields(package)
            name = f"{package}_{fields['Version'].replace(':', '%3a')}_{fields['Architecture']}.deb"
            size = int(fields["Size"]) / 1e6
            print(f"setup: kernel of Debian {suite}: {package}, {size:.0f} MB", flush=True)
            # apt checks the signature and the digest, and fetches nothing that is here and whole.
            apt.run("apt-get", "download", package, cwd=downloads)
            debs.append(downloads / name)
        print(f"setup: kernel of Debian {suite}: unpacking {release}", flush=True)
        unpack(debs, release, target)
        shutil.rmtree(downloads)
    record.parent.mkdir(parents=True, exist_ok=True)
    record.write_text(release + "\n")


def host_can_attach() -> bool:
    """Ask the program itself whether capture works here without a node VM."""
    program = Path(__file__).resolve().parent.parent / ".venv" / "bin" / "headwater"
    if not program.exists():
        return False
    return subprocess.run([program, "doctor"], capture_output=True, check=False).returncode == 0


def main() -> None:
    """Provide what the command line names."""
    parser = argparse.ArgumentParser(description="Download stock kernels for the node VM.")
    parser.add_argument("--if-needed", action="store_true", help="not when the host can attach")
    parser.add_argument("suite", nargs="*", help="bookworm, trixie, sid; default: this machine's")
    chosen = parser.parse_args()
    unknown = set(chosen.suite) - set(SUITES)
    if unknown:
        parser.error(f"unknown suite {min(unknown)}; known: {', '.join(SUITES)}")
    suites = chosen.suite or [own_suite()]
    cache = cache_directory()
    if chosen.if_needed and host_can_attach():
        return
    for suite in suites:
        provide(suite, cache)


if __name__ == "__main__":
    main()
