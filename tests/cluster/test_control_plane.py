# SPDX-License-Identifier: Apache-2.0
"""The control plane is what the other tests take it for: a real one, and our own."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cluster import control_plane as module
from tests.cluster.control_plane import (
    ROOT,
    Api,
    ApiError,
    ControlPlane,
    ControlPlaneError,
    KubectlError,
    wait_until,
)
from tests.cluster.objects import create_pod, delete_pod, start_pod

NewNode = Callable[..., dict[str, Any]]


def listening(pids: set[int]) -> set[str]:
    """Addresses on which these processes listen, from the kernel's own list."""
    inodes = set()
    for pid in pids:
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            target = os.readlink(descriptor)
            if target.startswith("socket:["):
                inodes.add(target[8:-1])
    found = set()
    for name in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]:
            words = line.split()
            if words[3] == "0A" and words[9] in inodes:
                found.add(words[1].partition(":")[0])
    return found


def test_only_loopback_is_listened_on(control_plane: ControlPlane) -> None:
    servers = (control_plane._etcd, control_plane._apiserver, control_plane._manager)
    pids = {server.pid for server in servers}
    assert 0 not in pids
    assert listening(pids) == {socket.inet_aton("127.0.0.1")[::-1].hex().upper()}


def test_kubectl_and_its_failure(control_plane: ControlPlane, namespace: str) -> None:
    text = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {k: v}\n"
    said = control_plane.kubectl("-n", namespace, "apply", "-f", "-", stdin=text)
    assert said == "configmap/a created\n"
    with pytest.raises(KubectlError, match='configmaps "b" not found'):
        control_plane.kubectl("-n", namespace, "get", "configmap", "b")


def test_token_is_of_its_service_account_and_may_nothing(
    control_plane: ControlPlane, namespace: str
) -> None:
    token = control_plane.token(namespace, "default")
    with pytest.raises(ApiError, match="cannot list resource") as refused:
        control_plane.api_for_token(token).get(f"/api/v1/namespaces/{namespace}/pods")
    assert (refused.value.status, refused.value.reason) == (403, "Forbidden")
    kubeconfig = control_plane.kubeconfig_for_token(token)
    whoami = control_plane.kubectl("auth", "whoami", kubeconfig=kubeconfig)
    assert f"system:serviceaccount:{namespace}:default" in whoami


def test_token_of_another_audience_is_not_for_the_api_server(
    control_plane: ControlPlane, api: Api, namespace: str
) -> None:
    token = control_plane.token(namespace, "default", audience="headwater")
    with pytest.raises(ApiError) as refused:
        control_plane.api_for_token(token).get("/api/v1/namespaces")
    assert refused.value.status == 401
    for audience, accepted in (("headwater", True), ("other", False)):
        review = {"spec": {"token": token, "audiences": [audience]}}
        status = api.create("/apis/authentication.k8s.io/v1/tokenreviews", review)["status"]
        assert status.get("authenticated", False) is accepted


def test_token_carries_its_node(
    control_plane: ControlPlane, api: Api, namespace: str, new_node: NewNode
) -> None:
    node = new_node()["metadata"]["name"]
    pod = create_pod(api, namespace, "agent", node=node)
    by_node = control_plane.token(namespace, "default", node=node)
    by_pod, unused = (control_plane.token(namespace, "default", pod="agent") for _ in range(2))

    def review(token: str) -> dict[str, Any]:
        body = {"spec": {"token": token}}
        path = "/apis/authentication.k8s.io/v1/tokenreviews"
        status: dict[str, Any] = api.create(path, body)["status"]
        return status

    for token in (by_node, by_pod):
        extra = review(token)["user"]["extra"]
        assert extra["authentication.kubernetes.io/node-name"] == [node]
    delete_pod(api, pod)
    # A verdict once given holds for ten seconds.
    wait_until(lambda: not review(unused).get("authenticated", False), what="it is void")


def test_node_is_held_to_its_own(control_plane: ControlPlane, new_node: NewNode) -> None:
    """Node authorizer and NodeRestriction are on."""
    own, other = (new_node()["metadata"]["name"] for _ in range(2))
    kubelet = control_plane.api_for_user(f"system:node:{own}", "system:nodes")
    label = {"metadata": {"labels": {"node-restriction.kubernetes.io/x": "y"}}}
    with pytest.raises(ApiError, match="is not allowed to modify labels"):
        kubelet.patch(f"/api/v1/nodes/{own}", label)
    with pytest.raises(ApiError, match="is not allowed to modify node"):
        kubelet.patch(f"/api/v1/nodes/{other}/status", {"status": {"conditions": []}})


def test_admission_policy_is_enforced(api: Api, namespace: str) -> None:
    group = "/apis/admissionregistration.k8s.io/v1"
    policy = {
        "metadata": {"name": namespace},
        "spec": {
            "matchConstraints": {
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
                "resourceRules": [
                    {
                        "apiGroups": [""],
                        "apiVersions": ["v1"],
                        "operations": ["CREATE"],
                        "resources": ["configmaps"],
                    }
                ],
            },
            "validations": [{"expression": "has(object.data)", "message": "no data; write some"}],
        },
    }
    binding = {
        "metadata": {"name": namespace},
        "spec": {"policyName": namespace, "validationActions": ["Deny"]},
    }
    api.create(f"{group}/validatingadmissionpolicies", policy)
    api.create(f"{group}/validatingadmissionpolicybindings", binding)
    try:
        path, body = f"/api/v1/namespaces/{namespace}/configmaps", {"metadata": {"name": "a"}}
        # It takes effect when the plugin has seen it.
        wait_until(
            lambda: api.exchange("POST", path, body, query={"dryRun": "All"}).is_refusal,
            what="the policy refuses",
        )
        with pytest.raises(ApiError, match="no data; write some"):
            api.create(path, body)
    finally:
        api.delete(f"{group}/validatingadmissionpolicybindings/{namespace}")
        api.delete(f"{group}/validatingadmissionpolicies/{namespace}")


@pytest.mark.parametrize("qos", ["BestEffort", "Burstable", "Guaranteed"])
def test_pod_has_the_life_that_the_test_gives_it(
    api: Api, namespace: str, new_node: NewNode, qos: Any
) -> None:
    node = new_node()["metadata"]["name"]
    pod = create_pod(
        api,
        namespace,
        "web",
        node=node,
        labels={"app": "web"},
        containers=["app", "log"],
        init_containers=["init"],
        qos=qos,
    )
    assert pod["metadata"]["uid"] and pod["spec"]["nodeName"] == node
    assert pod["status"]["qosClass"] == qos
    assert "containerStatuses" not in pod["status"]
    started = start_pod(api, pod)["status"]
    assert started["qosClass"] == qos
    ids = {each["name"]: each["containerID"] for each in started["containerStatuses"]}
    assert ids.keys() == {"app", "log"}
    assert all(each.startswith("containerd://") for each in ids.values())
    assert len(started["initContainerStatuses"]) == 1
    restarted = start_pod(api, pod)["status"]["containerStatuses"]
    assert not {each["containerID"] for each in restarted} & set(ids.values())
    path = f"/api/v1/namespaces/{namespace}/pods"
    assert len(api.get(path, fieldSelector=f"spec.nodeName={node}")["items"]) == 1
    delete_pod(api, pod)
    assert api.get(path)["items"] == []


def test_namespace_goes_with_what_is_in_it(api: Api) -> None:
    """The controller manager works: it is what collects compiled policies as well."""
    path = "/api/v1/namespaces/going"
    api.create("/api/v1/namespaces", {"metadata": {"name": "going"}})
    api.create(f"{path}/configmaps", {"metadata": {"name": "a"}})
    api.delete(path)
    wait_until(lambda: api.exchange("GET", path).status == 404, what="the namespace is gone")


def test_owned_object_goes_with_its_owner(api: Api, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    owner = api.create(path, {"metadata": {"name": "owner"}})
    reference = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "name": "owner",
        "uid": owner["metadata"]["uid"],
    }
    api.create(path, {"metadata": {"name": "owned", "ownerReferences": [reference]}})
    api.delete(f"{path}/owner")
    wait_until(lambda: api.exchange("GET", f"{path}/owned").status == 404, what="it is collected")


def test_compacted_list_cannot_be_continued(
    control_plane: ControlPlane, api: Api, namespace: str
) -> None:
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    for number in range(3):
        api.create(path, {"metadata": {"name": f"c-{number}"}})
    first = api.get(path, limit="1")
    following = {"limit": "1", "continue": first["metadata"]["continue"]}
    api.create(path, {"metadata": {"name": "c-3"}})
    control_plane.restart_apiserver()
    assert len(api.get(path, **following)["items"]) == 1
    control_plane.compact_etcd()
    with pytest.raises(ApiError) as refused:
        api.get(path, **following)
    assert (refused.value.status, refused.value.reason) == (410, "Expired")


def test_apiserver_comes_back_on_its_port_with_its_objects(
    control_plane: ControlPlane, api: Api, namespace: str
) -> None:
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    version = api.create(path, {"metadata": {"name": "kept"}})["metadata"]["resourceVersion"]
    with control_plane.apiserver_away(), pytest.raises(OSError):
        api.get(f"{path}/kept")
    assert api.get(f"{path}/kept")["metadata"]["resourceVersion"] == version
    # A watch from before is told so: there is nothing in the new server's memory.
    watch = {"watch": "true", "resourceVersion": "1", "timeoutSeconds": "5"}
    answer = api.exchange("GET", path, query=watch)
    assert 410 in (answer.status, answer.body.get("object", {}).get("code"))


def test_two_at_a_time(control_plane: ControlPlane) -> None:
    with ControlPlane(controllers=()) as other:
        assert other.port != control_plane.port
        own = control_plane.api.get("/api/v1/namespaces/default")["metadata"]["uid"]
        assert other.api.get("/api/v1/namespaces/default")["metadata"]["uid"] != own


def test_server_that_ends_is_quoted() -> None:
    control_plane = ControlPlane(apiserver_options=["--authorization-mode=Nobody"])
    with pytest.raises(ControlPlaneError, match=r"(?s)kube-apiserver: ended.*Nobody"):
        control_plane.start()
    assert not control_plane._etcd.is_running
    control_plane.stop()


def test_missing_programs_are_named_with_the_remedy(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(module, "cache_directory", lambda: tmp_path)
    with pytest.raises(ControlPlaneError, match="make setup-test"):
        ControlPlane().start()


def test_nothing_outlives_who_started_it() -> None:
    """Killed, it can clean up nothing; the kernel does."""
    script = (
        "import signal\n"
        "from tests.cluster.control_plane import ControlPlane\n"
        "control_plane = ControlPlane(controllers=())\n"
        "control_plane.start()\n"
        "print(control_plane._etcd.pid, control_plane._apiserver.pid, flush=True)\n"
        "signal.pause()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        pids = [int(word) for word in child.stdout.readline().split()]
        assert len(pids) == 2
        child.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 10
    while any(Path(f"/proc/{pid}/cmdline").exists() and _is_alive(pid) for pid in pids):
        assert time.monotonic() < deadline, "a server outlived its control plane"
        time.sleep(0.05)


def _is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"
