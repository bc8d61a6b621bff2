# SPDX-License-Identifier: Apache-2.0
"""What the name of a cgroup says: which pod's it is, which container's.

Why: kubelet and runtime each have two ways of naming (cgroupfs and systemd drivers), and a pod's
own cgroup is all that exists seconds before its containers. Names count only in their place: a
cgroup that a workload makes inside its own, whatever its name, belongs to that workload (G5).
Called by :mod:`.cgroup_watch`, which walks; this only reads names. Pure.

| | cgroupfs | systemd |
|---|---|---|
| kubelet's root | `kubepods` | `kubepods.slice`, nested: `kubelet-kubepods.slice` |
| class | `burstable`, `besteffort` | `kubepods-burstable.slice` |
| pod | `pod<uid>` | `kubepods-burstable-pod<uid with _>.slice` |
| container, containerd | `<64 hex>` | `cri-containerd-<64 hex>.scope` |
| container, CRI-O | `crio-<64 hex>` | `crio-<64 hex>.scope` |

A guaranteed pod's cgroup is directly in kubelet's root. The uid of a pod from a static manifest is
a hash, 32 hexadecimal digits without dashes; the API server knows such a pod by another uid.
"""

import re
from enum import Enum
from typing import Final

_ROOT: Final = re.compile(r"kubepods|(?:[a-z0-9_]+-)*kubepods\.slice", re.ASCII)
_CLASS: Final = re.compile(
    r"burstable|besteffort|(?:[a-z0-9_]+-)*kubepods-(?:burstable|besteffort)\.slice", re.ASCII
)
_POD: Final = re.compile(
    r"pod(?P<plain>[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|[0-9a-f]{32})"
    r"|(?:[a-z0-9_]+-)*kubepods(?:-(?:burstable|besteffort))?"
    r"-pod(?P<slice>[0-9a-f]{8}(?:_[0-9a-f]{4}){3}_[0-9a-f]{12}|[0-9a-f]{32})\.slice",
    re.ASCII,
)
_CONTAINER: Final = re.compile(
    r"(?:(?P<runtime>cri-containerd|crio|docker)-)?(?P<id>[0-9a-f]{64})(?:\.scope)?", re.ASCII
)
_HASH_DIGITS: Final = 32
"""Of a static pod's uid; any other's has 36 characters."""

_WAY: Final = re.compile(r"kubelet(?:\.slice)?", re.ASCII)


class Level(Enum):
    """Where in kubelet's part of the hierarchy a directory is."""

    OUTSIDE = "outside"
    """Above kubelet's root: of all directories here only those on the way to it matter."""

    ROOT = "root"
    """Kubelet's root: pods of the guaranteed class, and the two other classes."""

    CLASS = "class"
    """One class: its pods."""

    POD = "pod"
    """A pod's own: its containers."""

    CONTAINER = "container"
    """A container's own."""

    INSIDE = "inside"
    """Made by a workload inside its container, or by the runtime beside one (conmon)."""


def level_below(level: Level, name: str) -> Level | None:
    """What the directory `name` in one of `level` is; None if nothing in it can be a pod's."""
    match level:
        case Level.OUTSIDE:
            if _ROOT.fullmatch(name):
                return Level.ROOT
            return Level.OUTSIDE if _WAY.fullmatch(name) else None
        case Level.ROOT if _CLASS.fullmatch(name):
            return Level.CLASS
        case Level.ROOT | Level.CLASS:
            return Level.POD if pod_uid(name) else None
        case Level.POD:
            return Level.CONTAINER if container_id_of(name) else Level.INSIDE
        case Level.CONTAINER | Level.INSIDE:
            return Level.INSIDE


def pod_uid(name: str) -> str:
    """The pod's uid in the name of its own cgroup; empty if it is not one."""
    found = _POD.fullmatch(name)
    if found is None:
        return ""
    return found["plain"] or found["slice"].replace("_", "-")


def is_static(uid: str) -> bool:
    """Whether a uid in a cgroup's name is that of a pod from a static manifest."""
    return len(uid) == _HASH_DIGITS


def container_id_of(name: str) -> str:
    """The container's id in the name of its cgroup; empty if it is not one."""
    found = _CONTAINER.fullmatch(name)
    return found["id"] if found is not None else ""
