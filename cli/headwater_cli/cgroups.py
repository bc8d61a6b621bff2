# SPDX-License-Identifier: Apache-2.0
"""Cgroups of one's own: the unit of capture where there is no Kubernetes.

Why: a pod is a cgroup that a kubelet made; `headwater trace` and `headwater run` make one
themselves, so the kernel side sees no difference. Called by those two verbs; the id goes to
`headwater_agent.scope`. Promise: G1, the cgroup exists and is in scope before anything runs in it.
"""

import errno
import os
import secrets
import time
from dataclasses import dataclass
from pathlib import Path

from headwater_cli.errors import Failure, no_cgroup2, not_root

PARENT = "headwater"
"""Directory below the hierarchy's root that holds every cgroup made here."""


def find_hierarchy(mountinfo: Path = Path("/proc/self/mountinfo")) -> Path:
    """Return where cgroup v2 is mounted, alone or beside v1.

    Raises:
        Failure: no cgroup v2 hierarchy is mounted.
    """
    for line in mountinfo.read_text().splitlines():
        left, _, right = line.partition(" - ")
        if right.split(" ", 1)[0] == "cgroup2":
            mountpoint = left.split(" ")[4]
            return Path(mountpoint.encode().decode("unicode_escape"))
    raise no_cgroup2()


@dataclass(frozen=True, slots=True)
class Cgroup:
    """One cgroup v2 directory that this program made.

    Args:
        path: the directory.
        identifier: its 64-bit id, the kernel's key for scope.
    """

    path: Path
    identifier: int

    def processes(self) -> list[int]:
        """Return the ids of the processes in it and in cgroups below it."""
        found: list[int] = []
        for directory, _, _ in os.walk(self.path):
            try:
                text = (Path(directory) / "cgroup.procs").read_text()
            except OSError:  # removed while we looked: nothing was in it
                continue
            found.extend(int(word) for word in text.split())
        return found

    def admit(self, pid: int) -> None:
        """Move process `pid` into it.

        Raises:
            Failure: the kernel refuses.
        """
        try:
            (self.path / "cgroup.procs").write_text(str(pid))
        except OSError as error:
            raise Failure(
                f"cannot move process {pid} into {self.path}: {error.strerror}",
                "check that the cgroup v2 hierarchy is writable for root",
            ) from error

    def remove(self) -> list[int]:
        """Remove it; processes still in it are moved to the root first and returned."""
        left = self.processes()
        root = self.path
        while (root.parent / "cgroup.procs").exists():
            root = root.parent
        for pid in left:
            try:
                (root / "cgroup.procs").write_text(str(pid))
            except OSError:  # it ended meanwhile
                continue
        for directory, _, _ in os.walk(self.path, topdown=False):
            _remove_directory(Path(directory))
        return left


def _remove_directory(directory: Path) -> None:
    """Remove one cgroup; a process that is on its way out keeps it busy for an instant."""
    for _ in range(50):
        try:
            directory.rmdir()
        except FileNotFoundError:
            return
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise
            time.sleep(0.02)
        else:
            return


def create(*names: str) -> Cgroup:
    """Make the cgroup `headwater/<names…>-<random>` below the hierarchy's root.

    The random part keeps two of the same name apart. Nothing is delegated to controllers, so the
    rule against processes in inner cgroups does not apply.

    Raises:
        Failure: no hierarchy, or it cannot be written.
    """
    hierarchy = find_hierarchy()
    leaf = f"{names[-1]}-{secrets.token_hex(4)}"
    path = hierarchy.joinpath(PARENT, *names[:-1], leaf)
    try:
        path.mkdir(parents=True)
    except PermissionError as error:
        raise not_root() from error
    except OSError as error:
        raise Failure(
            f"cannot make the cgroup {path}: {error.strerror}",
            "remount the cgroup v2 hierarchy read-write",
        ) from error
    return Cgroup(path, path.stat().st_ino)
