# SPDX-License-Identifier: Apache-2.0
"""The cluster that is measured: nodes, namespaces, tenants, policies.

Why: one place says how large it is and what a policy looks like. Nodes are as heavy as a kubelet
makes them, because the operator's watch has to read them whole. Called by `measure`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from headwater_prov.policy.schema import API_VERSION

from bench.operator_scale.client import Client
from tests.cluster.operator_process import HEADWATER, POLICIES, TENANTS

NODES_PATH = "/api/v1/nodes"
IMAGES = 40
"""Images that a Node lists: the kubelet's bound is 50."""


@dataclass(frozen=True, slots=True)
class Size:
    """How much there is of everything."""

    nodes: int
    tenants: int = 1_000
    policies: int = 2_000

    @property
    def namespaces(self) -> int:
        """Every other tenant has two."""
        return self.tenants + self.tenants // 2

    def policy(self, number: int) -> tuple[str, str]:
        """Namespace and name of a policy; some namespaces have two."""
        return namespace_name(number % self.namespaces), f"policy-{number // self.namespaces}"


def node_name(number: int) -> str:
    return f"ip-10-{number // 62_500}-{number // 250 % 250}-{number % 250}.cluster.example"


def namespace_name(number: int) -> str:
    return f"namespace-{number:04}"


def policy_path(namespace: str, name: str) -> str:
    return f"{HEADWATER}/namespaces/{namespace}/{POLICIES}/{name}"


def policy_spec(number: int, version: int = 0) -> dict[str, Any]:
    """What a tenant may well write; no two are equal."""
    return {
        "podSelector": {"matchLabels": {"app": f"app-{number}", "version": str(version)}},
        "filters": {"nodes": ["directory", "inode_unknown", "char", "envp", "argv"]},
        "arguments": False,
    }


def nodes(size: Size) -> Iterator[dict[str, Any]]:
    """Nodes with a status of the size that a kubelet's has."""
    for number in range(size.nodes):
        name = node_name(number)
        yield {
            "metadata": {
                "name": name,
                "labels": {
                    "kubernetes.io/hostname": name,
                    "kubernetes.io/os": "linux",
                    "kubernetes.io/arch": "amd64",
                    "node.kubernetes.io/instance-type": "standard-8",
                    "topology.kubernetes.io/region": "region-1",
                    "topology.kubernetes.io/zone": f"region-1{'abc'[number % 3]}",
                },
            },
            "status": {
                "capacity": {"cpu": "8", "memory": "32Gi", "pods": "110"},
                "allocatable": {"cpu": "8", "memory": "30Gi", "pods": "110"},
                "addresses": [{"type": "Hostname", "address": name}],
                "conditions": [
                    {"type": one, "status": str(one == "Ready"), "reason": "Kubelet"}
                    for one in ("MemoryPressure", "DiskPressure", "PIDPressure", "Ready")
                ],
                "images": [_image(each) for each in range(IMAGES)],
            },
        }


def _image(number: int) -> dict[str, Any]:
    repository = f"images.example/platform/service-{number:02}"
    digest = hashlib.sha256(repository.encode()).hexdigest()
    return {
        "names": [f"{repository}@sha256:{digest}", f"{repository}:v1.{number}.0"],
        "sizeBytes": 100_000_000 + number,
    }


def tenants(size: Size) -> Iterator[dict[str, Any]]:
    """Tenants that own one namespace or two."""
    for number in range(size.tenants):
        owned = [namespace_name(number)]
        if number < size.namespaces - size.tenants:
            owned.append(namespace_name(size.tenants + number))
        yield _document("ProvenanceTenant", f"tenant-{number:04}", {"namespaces": owned})


def policies(size: Size) -> Iterator[dict[str, Any]]:
    for number in range(size.policies):
        namespace, name = size.policy(number)
        yield _document("ProvenancePolicy", name, policy_spec(number), namespace)


def _document(kind: str, name: str, spec: dict[str, Any], namespace: str = "") -> dict[str, Any]:
    metadata = {"name": name} | ({"namespace": namespace} if namespace else {})
    return {"apiVersion": API_VERSION, "kind": kind, "metadata": metadata, "spec": spec}


async def populate(client: Client, size: Size) -> None:
    """Make all of it; nobody watches yet."""
    namespaces = ({"metadata": {"name": namespace_name(one)}} for one in range(size.namespaces))
    await client.create_all("/api/v1/namespaces", namespaces)
    await client.create_all(NODES_PATH, nodes(size))
    await client.create_all(TENANTS, tenants(size))
    await client.create_all(f"{HEADWATER}/namespaces/{{namespace}}/{POLICIES}", policies(size))
