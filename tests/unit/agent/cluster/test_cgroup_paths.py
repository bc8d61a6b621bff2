# SPDX-License-Identifier: Apache-2.0
"""What names say about cgroups, and that they say it in their place only (G5)."""

from __future__ import annotations

from pathlib import PurePosixPath

import pytest
from headwater_agent.cluster.cgroup_paths import (
    Level,
    container_id_of,
    is_static,
    level_below,
    pod_uid,
)

from tests.unit.agent.cluster.layouts import ID, LAYOUTS, UID, Layout


def levels(path: str) -> list[Level | None]:
    found: list[Level | None] = []
    level: Level | None = Level.OUTSIDE
    for name in PurePosixPath(path).parts:
        level = level_below(level, name) if level is not None else None
        found.append(level)
    return found


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.name)
def test_every_layout_is_read(layout: Layout) -> None:
    pod = layout.pod.format(uid=UID, uid_=UID.replace("-", "_"))
    assert levels(pod)[-1] is Level.POD
    assert pod_uid(PurePosixPath(pod).name) == UID
    container = layout.container.format(id=ID)
    assert levels(f"{pod}/{container}/init.scope")[-2:] == [Level.CONTAINER, Level.INSIDE]
    assert container_id_of(container) == ID


@pytest.mark.parametrize(
    "name", [f"crio-conmon-{ID}.scope", "init.scope", ID[:63], f"{ID}0", ID.upper()]
)
def test_what_is_beside_containers_is_none(name: str) -> None:
    assert levels(f"kubepods/pod{UID}/{name}")[-1] is Level.INSIDE


@pytest.mark.parametrize(
    "path",
    [
        f"kubepods/pod{UID}/{ID}/kubepods/pod{UID}",
        f"kubepods/pod{UID}/{ID}/pod{UID}",
        f"kubepods/pod{UID}/pod{UID}",
    ],
)
def test_g5_pod_names_inside_a_pod_make_no_pod(path: str) -> None:
    assert Level.POD not in levels(path)[2:]


@pytest.mark.parametrize(
    "path",
    [
        f"system.slice/kubepods/pod{UID}",
        f"user.slice/kubepods.slice/kubepods-pod{UID.replace('-', '_')}.slice",
        f"pod{UID}",
        f"kubepods/other/pod{UID}",
        f"kubepods/burstable/burstable/pod{UID}",
        f"docker/{ID}/kubelet/kubepods/pod{UID}",
        f"kubepods/pod{UID[:-1]}",
        f"kubepods/pod{UID}\n",
        "kubepods/pod" + "a" * 31,
    ],
)
def test_pods_are_only_where_kubelet_makes_them(path: str) -> None:
    assert Level.POD not in levels(path)


@pytest.mark.parametrize(
    "path",
    [
        "kubepods/burstable/pod{}",
        "kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{}.slice",
    ],
)
def test_pod_of_a_static_manifest_is_one_though_its_uid_is_a_hash(path: str) -> None:
    name = path.format("ab" * 16)
    assert levels(name)[-1] is Level.POD
    assert pod_uid(name.rpartition("/")[2]) == "ab" * 16
    assert is_static("ab" * 16)
    assert not is_static(UID)
    assert not is_static("")
