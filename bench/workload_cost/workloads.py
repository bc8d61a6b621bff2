# SPDX-License-Identifier: Apache-2.0
"""What is run: real programs, each with what has to be there before it is measured.

Called by the host's part for the names and by the guest's to run them.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FILE_CHURN = ROOT / "build" / "file_churn"
"""What the host compiled."""
_PROGRAMS = ROOT / "tests" / "kernel" / "workloads"
_PYTHON = "/usr/bin/python3"
_ARCHIVE_FILES = 400


def _python(name: str, *words: str) -> list[str]:
    return [_PYTHON, "-I", str(_PROGRAMS / f"{name}.py"), *words]


def _nothing(directory: Path) -> None:
    pass


def _make_archive(directory: Path) -> None:
    tree = directory / "tree"
    for number in range(_ARCHIVE_FILES):
        path = tree / f"part-{number % 20}" / f"file-{number}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"line {number}\n" * 150)
    subprocess.run(["tar", "-czf", "tree.tar.gz", "tree"], cwd=directory, check=True)
    shutil.rmtree(tree)


def _make_database(directory: Path) -> None:
    subprocess.run(_python("postgresql", "prepare"), cwd=directory, check=True)


@dataclass(frozen=True, slots=True)
class Workload:
    """A program and what it needs."""

    command: list[str]
    prepare: Callable[[Path], None] = _nothing
    """Called with the working directory before every run, outside of what is measured."""

    def missing(self) -> str:
        """What is not installed, or an empty text."""
        if self.prepare is _make_database:
            try:
                pwd.getpwnam("postgres")
            except KeyError:
                return "the package postgresql"
        return "" if shutil.which(self.command[0]) else self.command[0]


WORKLOADS = {
    "file churn": Workload([str(FILE_CHURN)]),
    "unpacking": Workload(["/usr/bin/tar", "-xzf", "tree.tar.gz"], _make_archive),
    "build": Workload(_python("building", "12")),
    "web server": Workload(_python("web_server")),
    "pgbench": Workload(_python("postgresql", "load"), _make_database),
}


LOGIN_USER = 4242
"""The audit login user of every workload: what audit's rules tell it from the rest by."""
_ENTER = 'echo $$ > "$0/cgroup.procs" && echo "$1" > /proc/self/loginuid && shift && exec "$@"'


def run_in(cgroup: Path, workload: Workload, directory: Path) -> None:
    """Run a workload from its exec on in a cgroup.

    Raises:
        RuntimeError: it failed; the text is the end of what it printed.
    """
    command = ["sh", "-c", _ENTER, str(cgroup), str(LOGIN_USER)]
    done = subprocess.run(
        [*command, *workload.command],
        cwd=directory,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
    )
    if done.returncode:
        text = done.stdout.decode(errors="replace")[-2000:]
        raise RuntimeError(f"{workload.command}: status {done.returncode}\n{text}")
