# SPDX-License-Identifier: Apache-2.0
"""Nodes and pods as kubelets would report them, made by a test: no kubelet, no container.

Why: what an agent or the operator does depends on what the API says of nodes and pods, and a test
must be able to say it in its own order: a pod that is bound but not started, started, ended. Called
by tests. Status is written to the status subresource, as a kubelet writes it.
"""

import datetime
import secrets
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from tests.cluster.api import Api

Qos = Literal["BestEffort", "Burstable", "Guaranteed"]

_REQUESTS = {"cpu": "10m", "memory": "16Mi"}
_RESOURCES: dict[Qos, dict[str, Any]] = {
    "BestEffort": {},
    "Burstable": {"requests": _REQUESTS},
    "Guaranteed": {"requests": _REQUESTS, "limits": _REQUESTS},
}
"""The API server derives a pod's class, it cannot be asked for one."""


def create_node(
    api: Api,
    name: str,
    *,
    labels: Mapping[str, str] | None = None,
    machine_id: str = "",
    boot_id: str = "",
) -> dict[str, Any]:
    """Make a node that says it is ready.

    Args:
        api: the administrator's.
        name: of the node.
        labels: beside the hostname's, which a kubelet sets.
        machine_id: what its /etc/machine-id says; made up unless given.
        boot_id: what the kernel says; made up unless given.
    """
    metadata = {
        "name": name,
        "labels": {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux", **(labels or {})},
    }
    api.create("/api/v1/nodes", {"metadata": metadata})
    status = {
        "capacity": {"cpu": "4", "memory": "8Gi", "pods": "110"},
        "allocatable": {"cpu": "4", "memory": "8Gi", "pods": "110"},
        "conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady"}],
        "nodeInfo": {
            "machineID": machine_id or secrets.token_hex(16),
            "systemUUID": secrets.token_hex(16),
            "bootID": boot_id or secrets.token_hex(16),
            "kernelVersion": "6.12.0",
            "osImage": "tests",
            "containerRuntimeVersion": "containerd://2.1.9",
            "kubeletVersion": "v1.36.3",
            "kubeProxyVersion": "",
            "operatingSystem": "linux",
            "architecture": "amd64",
        },
    }
    return api.patch(f"/api/v1/nodes/{name}/status", {"status": status})


def create_pod(
    api: Api,
    namespace: str,
    name: str,
    *,
    node: str | None,
    labels: Mapping[str, str] | None = None,
    containers: Sequence[str] = ("app",),
    init_containers: Sequence[str] = (),
    qos: Qos = "BestEffort",
    service_account: str = "default",
) -> dict[str, Any]:
    """Make a pod that is bound to a node and of which nothing runs; returns it with its uid.

    Args:
        api: the administrator's.
        namespace: of the pod; its service account must be there.
        name: of the pod.
        node: name of the node that it is bound to; None leaves it pending.
        labels: of the pod.
        containers: names of its containers.
        init_containers: names of those that run before.
        qos: class whose cgroup it would be in.
        service_account: whose token it gets.
    """

    def container(each: str) -> dict[str, Any]:
        return {"name": each, "image": f"tests/{each}:1", "resources": _RESOURCES[qos]}

    spec: dict[str, Any] = {
        "serviceAccountName": service_account,
        "containers": [container(each) for each in containers],
        "initContainers": [container(each) for each in init_containers],
        "terminationGracePeriodSeconds": 0,
    }
    if node is not None:
        spec["nodeName"] = node
    body = {"metadata": {"name": name, "labels": dict(labels or {})}, "spec": spec}
    return api.create(f"/api/v1/namespaces/{namespace}/pods", body)


def start_pod(api: Api, pod: Mapping[str, Any]) -> dict[str, Any]:
    """Report a pod's containers as running, each with an id of its own; returns the pod.

    Init containers have ended by then. Called again it reports new containers: a restart.
    """
    now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

    def status(container: Mapping[str, Any], state: dict[str, Any]) -> dict[str, Any]:
        name = container["name"]
        container_id = f"containerd://{secrets.token_hex(32)}"
        if "terminated" in state:
            state = {"terminated": {**state["terminated"], "containerID": container_id}}
        return {
            "name": name,
            "image": container["image"],
            "imageID": f"registry.example/tests/{name}@sha256:{secrets.token_hex(32)}",
            "containerID": container_id,
            "ready": True,
            "started": "running" in state,
            "restartCount": 0,
            "state": state,
        }

    ended = {"terminated": {"exitCode": 0, "startedAt": now, "finishedAt": now}}
    running = {"running": {"startedAt": now}}
    spec = pod["spec"]
    report = {
        "phase": "Running",
        "hostIP": "192.0.2.1",
        "podIP": "198.51.100.1",
        "startTime": now,
        "conditions": [{"type": "Ready", "status": "True"}],
        "containerStatuses": [status(each, running) for each in spec["containers"]],
        "initContainerStatuses": [status(each, ended) for each in spec.get("initContainers", ())],
    }
    return api.patch(f"{_path(pod)}/status", {"status": report})


def delete_pod(api: Api, pod: Mapping[str, Any]) -> None:
    """Delete a pod at once, as when its kubelet has reported its end."""
    api.delete(_path(pod), {"gracePeriodSeconds": 0})


def _path(pod: Mapping[str, Any]) -> str:
    metadata = pod["metadata"]
    return f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}"
