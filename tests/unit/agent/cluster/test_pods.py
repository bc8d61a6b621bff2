# SPDX-License-Identifier: Apache-2.0
"""What pod objects say: containers of every kind by their ids, and nothing that tenants forge."""

from __future__ import annotations

from typing import Any

import pytest
from headwater_agent.cluster.pods import Container, Pod, pod_of

DIGEST = "sha256:" + "1" * 64


def status(name: str, identifier: str, image: str = "", **extra: Any) -> dict[str, Any]:
    return {"name": name, "containerID": identifier, "imageID": image, **extra}


def test_containers_of_every_kind_have_names_and_images() -> None:
    pod = pod_of(
        {
            "metadata": {"uid": "u", "namespace": "n", "name": "p", "labels": {"app": "x"}},
            "status": {
                "initContainerStatuses": [
                    status("init", "containerd://" + "a" * 64, f"docker.io/library/i@{DIGEST}"),
                    status("sidecar", "containerd://" + "b" * 64, DIGEST),
                ],
                "containerStatuses": [
                    status(
                        "main",
                        "cri-o://" + "c" * 64,
                        f"quay.io/m@{DIGEST}",
                        lastState={"terminated": {"containerID": "cri-o://" + "d" * 64}},
                    ),
                    status("waiting", ""),
                ],
                "ephemeralContainerStatuses": [status("debug", "containerd://" + "e" * 64, "i:1")],
            },
        }
    )
    assert pod == Pod(
        "u",
        "n",
        "p",
        {"app": "x"},
        {
            "a" * 64: Container("init", DIGEST),
            "b" * 64: Container("sidecar", DIGEST),
            "c" * 64: Container("main", DIGEST),
            "d" * 64: Container("main"),
            "e" * 64: Container("debug"),
        },
    )
    assert Pod.from_json(pod.as_json()) == pod


def test_g5_annotations_identify_no_pod() -> None:
    pod = pod_of(
        {
            "metadata": {
                "uid": "u",
                "namespace": "n",
                "name": "p",
                "annotations": {"kubernetes.io/config.hash": "victim"},
            }
        }
    )
    assert pod == Pod("u", "n", "p")


@pytest.mark.parametrize(
    "content",
    [{}, {"metadata": None}, {"metadata": {"uid": "u", "name": "p"}}, {"metadata": {"uid": 1}}],
)
def test_object_without_identity_is_none(content: dict[str, Any]) -> None:
    assert pod_of(content) is None


@pytest.mark.parametrize(
    "content", [None, 7, {"containerStatuses": 7}, {"containerStatuses": [7, {"containerID": 7}]}]
)
def test_odd_status_names_no_container(content: Any) -> None:
    pod = pod_of({"metadata": {"uid": "u", "namespace": "n", "name": "p"}, "status": content})
    assert pod is not None
    assert not pod.containers
