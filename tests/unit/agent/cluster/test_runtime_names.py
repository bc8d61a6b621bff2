# SPDX-License-Identifier: Apache-2.0
"""Containers' names from the runtime's bundles: containerd's, CRI-O's, and nobody else's."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from headwater_agent.cluster.pods import Container
from headwater_agent.cluster.runtime_names import RuntimeNames

DIGEST = "sha256:" + "1" * 64
ID, UID = "c" * 64, "uid-1"

CONTAINERD = {
    "io.kubernetes.cri.container-type": "container",
    "io.kubernetes.cri.container-name": "main",
    "io.kubernetes.cri.image-name": f"docker.io/library/x@{DIGEST}",
    "io.kubernetes.cri.sandbox-uid": UID,
}
CRIO = {
    "io.kubernetes.container.name": "main",
    "io.kubernetes.cri-o.ImageRef": DIGEST,
    "io.kubernetes.pod.uid": UID,
}
SANDBOX = {
    "io.kubernetes.cri.container-type": "sandbox",
    "io.kubernetes.cri.sandbox-uid": UID,
}


def write(directory: Path, text: str, place: str = "config.json") -> None:
    path = directory / ID / place
    path.parent.mkdir(parents=True)
    path.write_text(text)


@pytest.mark.parametrize(
    ("annotations", "place"),
    [(CONTAINERD, "config.json"), (CRIO, "userdata/config.json")],
)
def test_name_and_image_are_read_once(
    tmp_path: Path, annotations: dict[str, str], place: str
) -> None:
    names = RuntimeNames(tmp_path)
    assert names.of(ID, UID) is None
    write(tmp_path, json.dumps({"annotations": annotations}), place)
    assert names.of(ID, UID) == Container("main", DIGEST)
    (tmp_path / ID / place).unlink()
    assert names.of(ID, UID) == Container("main", DIGEST)
    names.forget(set())
    assert names.of(ID, UID) is None


@pytest.mark.parametrize(
    "text",
    [
        json.dumps({"annotations": SANDBOX}),
        json.dumps({"annotations": CONTAINERD | {"io.kubernetes.cri.sandbox-uid": "other"}}),
        json.dumps({"annotations": CONTAINERD | {"io.kubernetes.cri.container-name": 7}}),
        json.dumps({"annotations": []}),
        "[]",
        "{",
    ],
)
def test_what_is_no_container_of_the_pod_has_no_name(tmp_path: Path, text: str) -> None:
    write(tmp_path, text)
    assert RuntimeNames(tmp_path).of(ID, UID) is None


def test_without_a_directory_nothing_is_known() -> None:
    assert RuntimeNames(None).of(ID, UID) is None
    assert RuntimeNames(Path("/proc/self/mem")).of(ID, UID) is None
