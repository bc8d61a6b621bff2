# SPDX-License-Identifier: Apache-2.0
"""Pods' cgroups as kubelet and the runtimes make them, by driver, class and runtime."""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass
from pathlib import Path

from headwater_cli.cgroups import find_hierarchy
from headwater_cli.errors import Failure

UID = "0123abcd-1111-2222-3333-444455556666"
ID = "ab" * 32


@dataclass(frozen=True)
class Layout:
    """One way of naming."""

    name: str
    pod: str
    """Below the root of the hierarchy; {uid} and {uid_} stand for a pod's."""
    container: str
    """Below the pod's own; {id} stands for the container's."""

    def pod_path(self, root: Path, uid: str = UID) -> Path:
        return root / self.pod.format(uid=uid, uid_=uid.replace("-", "_"))

    def container_path(self, root: Path, identifier: str = ID, uid: str = UID) -> Path:
        return self.pod_path(root, uid) / self.container.format(id=identifier)


def _systemd(qos: str, prefix: str = "") -> str:
    base = f"{prefix}kubepods"
    if qos == "guaranteed":
        return f"{base}.slice/{base}-pod{{uid_}}.slice"
    return f"{base}.slice/{base}-{qos}.slice/{base}-{qos}-pod{{uid_}}.slice"


def _cgroupfs(qos: str) -> str:
    return "kubepods/pod{uid}" if qos == "guaranteed" else f"kubepods/{qos}/pod{{uid}}"


LAYOUTS = [
    *(
        Layout(f"{runtime}-{driver}-{qos}", make(qos), container)
        for qos in ("guaranteed", "burstable", "besteffort")
        for driver, make, runtime, container in (
            ("cgroupfs", _cgroupfs, "containerd", "{id}"),
            ("systemd", _systemd, "containerd", "cri-containerd-{id}.scope"),
            ("cgroupfs", _cgroupfs, "crio", "crio-{id}"),
            ("systemd", _systemd, "crio", "crio-{id}.scope"),
            ("systemd", _systemd, "docker", "docker-{id}.scope"),
        )
    ),
    Layout("kind-cgroupfs", "kubelet/" + _cgroupfs("burstable"), "{id}"),
    Layout(
        "kind-systemd",
        "kubelet.slice/" + _systemd("besteffort", "kubelet-"),
        "cri-containerd-{id}.scope",
    ),
    Layout("kind-mixed", "kubelet.slice/kubelet/" + _cgroupfs("guaranteed"), "{id}"),
]


def make_hierarchy() -> Path | None:
    """A cgroup of a test's own on the real hierarchy; None where there is none to write to."""
    try:
        root = find_hierarchy() / f"headwater-test-{secrets.token_hex(4)}"
        root.mkdir()
    except (Failure, OSError):
        return None
    return root


def remove(path: Path) -> None:
    """Remove a cgroup and those below it; its files cannot be removed, and go with it."""
    for directory, _, _ in os.walk(path, topdown=False):
        os.rmdir(directory)
