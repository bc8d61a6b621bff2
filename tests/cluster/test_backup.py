# SPDX-License-Identifier: Apache-2.0
"""Backup and restore, as the page says to type them: the commands are the page's own.

It has control planes of its own, one to lose and one to restore into.
"""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.control_plane import ROOT, ControlPlane
from tests.cluster.operator_process import install

PAGE = (ROOT / "docs" / "operations" / "backup.md").read_text("utf-8")
BLOCKS = re.findall(r"^```sh\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)

GROUP = "/apis/headwater.dev/v1alpha1"
SYSTEM = "/api/v1/namespaces/headwater-system"
SEED = "c2VlZA=="

pytestmark = pytest.mark.timeout(180)


def typed(control_plane: ControlPlane, commands: str, directory: Path) -> str:
    environment = control_plane.kubectl_environment()
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    done = subprocess.run(
        ["bash", "-euc", commands],
        cwd=directory,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def object_of(kind: str, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": "headwater.dev/v1alpha1",
        "kind": kind,
        "metadata": {"name": name},
        "spec": spec,
    }


def namespace(name: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}


@pytest.fixture
def saved(tmp_path: Path) -> Iterator[Path]:
    """The directory with a backup of a cluster that is no more."""
    with ControlPlane() as lost:
        install(lost)
        api = lost.api
        api.create("/api/v1/namespaces", namespace("shop"))
        for name, labels in (
            ("headwater-nats", {}),
            ("headwater-tenant-acme", {"headwater.dev/keys": "tenant"}),
        ):
            secret = {
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {"name": name, "labels": labels},
                "data": {"seed": SEED},
            }
            api.create(f"{SYSTEM}/secrets", secret)
        tenant = object_of("ProvenanceTenant", "acme", {"namespaces": ["shop"]})
        api.create(f"{GROUP}/provenancetenants", tenant)
        policy = object_of("ProvenancePolicy", "web", {"podSelector": {}})
        api.create(f"{GROUP}/namespaces/shop/provenancepolicies", policy)
        auditor = object_of("ProvenanceAuditor", "watcher", {"secretName": "watcher"})
        api.create(f"{GROUP}/namespaces/shop/provenanceauditors", auditor)
        typed(lost, BLOCKS[0], tmp_path)
    yield tmp_path


def test_another_cluster_has_it_all_again(saved: Path) -> None:
    with ControlPlane() as control_plane:
        api = control_plane.api
        typed(control_plane, BLOCKS[1], saved)
        for name in ("headwater-nats", "headwater-tenant-acme"):
            assert api.get(f"{SYSTEM}/secrets/{name}")["data"] == {"seed": SEED}
        labels = api.get(f"{SYSTEM}/secrets/headwater-tenant-acme")["metadata"]["labels"]
        assert labels == {"headwater.dev/keys": "tenant"}
        install(control_plane)
        api.create("/api/v1/namespaces", namespace("shop"))
        assert "acme" in typed(control_plane, BLOCKS[2], saved)
        shop = f"{GROUP}/namespaces/shop"
        assert api.get(f"{shop}/provenancepolicies/web")["spec"]["podSelector"] == {}
        assert api.get(f"{shop}/provenanceauditors/watcher")["spec"]["secretName"] == "watcher"
