# SPDX-License-Identifier: Apache-2.0
"""`kubectl headwater`, run by kubectl itself, against a real API server."""

import base64
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster.api import Api
from tests.cluster.control_plane import ControlPlane

GROUP = "/apis/headwater.dev/v1alpha1"
HASH = "a" * 64

pytestmark = pytest.mark.usefixtures("definitions")

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(control_plane: ControlPlane) -> Run:
    """Runs `kubectl headwater` as the administrator, or as whom a kubeconfig names."""

    def run(*words: str, kubeconfig: Path | None = None) -> subprocess.CompletedProcess[str]:
        environment = control_plane.kubectl_environment(kubeconfig)
        environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
        return subprocess.run(
            ["kubectl", "headwater", *words],
            env=environment,
            capture_output=True,
            text=True,
            timeout=50,
        )

    return run


def conditions(**reasons: str) -> list[dict[str, Any]]:
    return [
        {
            "type": kind,
            "status": str(reason in ("Accepted", "Programmed", "Ready")),
            "observedGeneration": 1,
            "lastTransitionTime": "2026-11-26T12:00:00Z",
            "reason": reason,
            "message": f"because of {reason}",
        }
        for kind, reason in reasons.items()
    ]


def document(kind: str, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    metadata = {"name": name}
    return {
        "apiVersion": "headwater.dev/v1alpha1",
        "kind": kind,
        "metadata": metadata,
        "spec": spec,
    }


def make_policy(api: Api, namespace: str, name: str, status: dict[str, Any]) -> None:
    path = f"{GROUP}/namespaces/{namespace}/provenancepolicies"
    api.create(path, document("ProvenancePolicy", name, {"podSelector": {}}))
    api.patch(f"{path}/{name}/status", {"status": {"observedGeneration": 1, **status}})


@pytest.fixture
def policies(api: Api, namespace: str) -> str:
    """Two policies, of which one is in force; returns their namespace."""
    make_policy(
        api,
        namespace,
        "good",
        {
            "hash": HASH,
            "tenant": "acme",
            "stream": "PROV",
            "nodes": {"desired": 3, "programmed": 3},
            "lost": 7,
            "conditions": conditions(Accepted="Accepted", Programmed="Programmed"),
        },
    )
    make_policy(
        api,
        namespace,
        "waiting",
        {
            "nodes": {"desired": 2, "programmed": 1, "unsupported": 1},
            "failingNodes": [{"node": "n7", "reason": "Unsupported", "message": "no BTF"}],
            "conditions": conditions(Accepted="Accepted", Programmed="Waiting"),
        },
    )
    return namespace


def test_status_is_a_table_with_what_is_in_force(run: Run, policies: str) -> None:
    said = run("status", "-n", policies)
    assert said.returncode == 1, "one of the policies is not in force"
    rows = [line.split() for line in said.stdout.splitlines()]
    assert rows[1:] == [
        [policies, "good", "acme", "3/3", "0", "7", "yes", "-"],
        [policies, "waiting", "-", "1/2", "1", "0", "no", "Waiting"],
    ]


def test_other_forms_are_those_of_kubectl(run: Run, policies: str) -> None:
    names = run("status", "-n", policies, "-o", "name").stdout.split()
    assert names == [
        "provenancepolicy.headwater.dev/good",
        "provenancepolicy.headwater.dev/waiting",
    ]
    as_json = json.loads(run("status", "-n", policies, "-o", "json").stdout)
    assert as_json["kind"] == "List"
    assert [each["metadata"]["name"] for each in as_json["items"]] == ["good", "waiting"]
    assert yaml.safe_load(run("status", "-n", policies, "-o", "yaml").stdout) == as_json
    assert HASH in run("status", "-n", policies, "-o", "wide").stdout


def test_no_policies_is_no_failure(run: Run, namespace: str) -> None:
    said = run("status", "-n", namespace)
    assert (said.returncode, said.stdout) == (0, "")
    assert "there are no policies" in said.stderr


def test_doctor_says_what_stands_in_a_policys_way(run: Run, policies: str) -> None:
    said = run("doctor", "waiting", "-n", policies)
    assert said.returncode == 1
    assert "Programmed is False (Waiting): because of Waiting" in said.stdout
    assert "node n7: Unsupported: no BTF" in said.stdout
    good = run("doctor", "provenancepolicy/good", "-n", policies)
    assert (good.returncode, good.stdout) == (0, "good: nothing stands in the way\n")
    absent = run("doctor", "absent", "-n", policies)
    assert absent.returncode == 1 and f'"absent" in namespace {policies}' in absent.stderr


def test_doctor_says_why_not_on_a_node(
    run: Run, api: Api, policies: str, new_node: Callable[..., dict[str, Any]]
) -> None:
    name = str(new_node()["metadata"]["name"])
    said = run("doctor", "good", "-n", policies, "--node", name, "-o", "json")
    (obstacle,) = json.loads(said.stdout)["obstacles"]
    assert said.returncode == 1 and "no ProvenanceNode" in obstacle["what"]
    nodes = f"{GROUP}/provenancenodes"
    api.create(nodes, document("ProvenanceNode", name, {"policySets": [HASH]}))
    status = {"captureMode": "lsm", "lastReported": "2026-11-26T12:00:00Z", "policySets": [HASH]}
    api.patch(f"{nodes}/{name}/status", {"status": status})
    assert run("doctor", "good", "-n", policies, "--node", name).returncode == 0
    api.delete(f"{nodes}/{name}")
    assert 'no node "nowhere"' in run("doctor", "good", "-n", policies, "--node", "nowhere").stdout


def test_tenants_with_what_they_own(run: Run, api: Api, namespace: str) -> None:
    path = f"{GROUP}/provenancetenants"
    spec = {"namespaces": [namespace]}
    api.create(path, document("ProvenanceTenant", namespace, spec))
    status = {
        "namespaceCount": 1,
        "namespaces": [namespace],
        "reservedBytes": 3 << 30,
        "auditors": 2,
        "conditions": conditions(Accepted="Accepted", AccountReady="NatsUnreachable"),
    }
    api.patch(f"{path}/{namespace}/status", {"status": status})
    try:
        lines = run("tenants").stdout.splitlines()
    finally:
        api.delete(f"{path}/{namespace}")
    (row,) = (line.split() for line in lines if line.startswith(f"{namespace} "))
    assert row == [namespace, "1", "3GiB", "2", "NatsUnreachable"]


def test_credentials_go_into_a_file_that_only_its_owner_reads(
    run: Run, api: Api, namespace: str, tmp_path: Path
) -> None:
    path = f"{GROUP}/namespaces/{namespace}/provenanceauditors"
    api.create(path, document("ProvenanceAuditor", "watcher", {"secretName": "watcher-creds"}))
    words = ("auditors", "credentials", "watcher", "-n", namespace, "--file")
    target = tmp_path / "watcher.creds"
    early = run(*words, str(target))
    assert early.returncode == 1 and "has no credentials" in early.stderr
    assert not target.exists()
    content = "-----BEGIN NATS USER JWT-----\nx\n"
    secret = {
        "metadata": {"name": "watcher-creds"},
        "data": {"auditor.creds": base64.b64encode(content.encode()).decode()},
    }
    api.create(f"/api/v1/namespaces/{namespace}/secrets", secret)
    said = run(*words, str(target))
    assert said.returncode == 0, said.stderr
    assert target.read_text() == content
    assert target.stat().st_mode & 0o777 == 0o600
    assert content.strip() not in said.stdout + said.stderr
    (row,) = run("auditors", "list", "-n", namespace).stdout.splitlines()[1:]
    assert row.split() == [namespace, "watcher", "watcher-creds", "no", "NotSeenYet"]


def test_who_may_not_see_is_told_whom_to_ask(
    run: Run, control_plane: ControlPlane, namespace: str
) -> None:
    nobody = control_plane.kubeconfig_for_user("nobody-in-particular")
    said = run("status", "-n", namespace, kubeconfig=nobody)
    assert said.returncode == 125
    assert "Forbidden" in said.stderr and "headwater-view" in said.stderr
    assert "Traceback" not in said.stderr


def test_a_cluster_that_is_not_there(run: Run, tmp_path: Path) -> None:
    nowhere = tmp_path / "kubeconfig"
    nowhere.write_text("apiVersion: v1\nkind: Config\n")
    said = run("status", "--context", "nowhere", "--kubeconfig", str(nowhere))
    assert said.returncode == 125 and "nowhere" in said.stderr
