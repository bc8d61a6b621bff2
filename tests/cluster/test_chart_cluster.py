# SPDX-License-Identifier: Apache-2.0
"""A real API server takes what the chart renders; installed, upgraded and uninstalled by Helm.

A control plane of its own, because definitions and roles are the whole cluster's, and this module
takes them away again.
"""

import base64
import json
import ssl
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster.control_plane import ROOT, Api, ControlPlane, KubectlError, wait_until
from tests.cluster.helm import (
    CHART,
    CONFIGURATION,
    RELEASE,
    SYSTEM,
    VALUES,
    Helm,
    HelmError,
    Object,
    arguments,
    find,
    parse,
    templates,
)

KINDS = ROOT / "tests" / "cluster" / "chart_kinds.yaml"
ENFORCE = "pod-security.kubernetes.io/enforce"


@pytest.fixture(scope="module")
def cluster() -> Iterator[ControlPlane]:
    """With the kinds of Prometheus' operator and cert-manager; no controllers, so what a test asks
    is what it gets."""
    with ControlPlane(controllers=()) as control_plane:
        control_plane.kubectl("apply", "--server-side", "-f", KINDS)
        control_plane.kubectl("wait", "--for=condition=Established", "--timeout=20s", "-f", KINDS)
        for name, level in ((SYSTEM, "privileged"), ("restricted", "restricted")):
            make_namespace(control_plane.api, name, level)
        yield control_plane


@pytest.fixture(scope="module")
def api(cluster: ControlPlane) -> Api:
    return cluster.api


@pytest.fixture(scope="module")
def helm(cluster: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Helm:
    return Helm(tmp_path_factory.mktemp("helm"), SYSTEM, cluster.kubectl_environment())


def make_namespace(api: Api, name: str, level: str) -> None:
    """A namespace that enforces a level, with the accounts that pods there have."""
    labels = {ENFORCE: level, f"{ENFORCE}-version": "latest"}
    api.create("/api/v1/namespaces", {"metadata": {"name": name, "labels": labels}})
    for account in ("default", "headwater-operator", "headwater-agent"):
        path = f"/api/v1/namespaces/{name}/serviceaccounts"
        api.create(path, {"metadata": {"name": account}})


def secret(api: Api, name: str) -> Object:
    return api.get(f"/api/v1/namespaces/{SYSTEM}/secrets/{name}")


@pytest.mark.parametrize("values", VALUES, ids=[one.stem for one in VALUES])
def test_api_server_takes_it(
    cluster: ControlPlane, helm: Helm, handover: Path, values: Path
) -> None:
    """Server-side dry run, unknown fields refused; what is admitted is what would be stored."""
    text = helm.text(*arguments(values, handover))
    said = cluster.kubectl(
        *("apply", "--server-side", "--dry-run=server", "--force-conflicts", "--validate=strict"),
        *("--filename", "-"),
        stdin=text,
    )
    assert said.count("serverside-applied (server dry run)") == len(parse(text))


def test_unknown_field_would_be_refused(cluster: ControlPlane, helm: Helm, handover: Path) -> None:
    """The dry run of the other test is not deaf."""
    text = helm.text("--set-file", f"{CONFIGURATION}={handover}")
    for wrong in ("enableServiceLink: false", "terminationGracePeriodSeconds: soon"):
        name = wrong.partition(":")[0]
        broken = text.replace(f"{name}s: false", wrong) if "Link" in name else text
        broken = broken.replace("terminationGracePeriodSeconds: 60", wrong)
        assert broken != text
        with pytest.raises(KubectlError):
            cluster.kubectl(
                *("apply", "--server-side", "--dry-run=server", "--force-conflicts"),
                *("--validate=strict", "--filename", "-"),
                stdin=broken,
            )


@pytest.mark.parametrize("values", VALUES, ids=[one.stem for one in VALUES])
def test_all_but_the_agent_is_admitted_as_restricted(
    api: Api, helm: Helm, handover: Path, values: Path
) -> None:
    """The API server's own admission says so; of the agent it says which mounts are in the way."""
    for kind, template in templates(helm.objects(*arguments(values, handover))):
        pod = {"metadata": {"name": "tried", "namespace": "restricted"}, "spec": template["spec"]}
        pod["spec"].pop("imagePullSecrets", None)
        # What a StatefulSet puts into its pods.
        if kind == "StatefulSet":
            claim = {"name": "data", "persistentVolumeClaim": {"claimName": "data"}}
            pod["spec"]["volumes"].append(claim)
        path = "/api/v1/namespaces/restricted/pods"
        answer = api.exchange("POST", path, pod, query={"dryRun": "All"})
        if kind != "DaemonSet":
            assert not answer.is_refusal, answer.body["message"]
            continue
        assert "violates PodSecurity" in answer.body["message"]
        reasons = answer.body["message"].partition('latest": ')[2]
        assert "hostPath" in reasons or "restricted volume types" in reasons
        for absent in ("privileged", "hostNetwork", "host namespaces", "allowPrivilegeEscalation"):
            assert absent not in reasons, reasons
        assert "seccompProfile" not in reasons
        privileged = f"/api/v1/namespaces/{SYSTEM}/pods"
        pod["metadata"]["namespace"] = SYSTEM
        admitted = api.exchange("POST", privileged, pod, query={"dryRun": "All"})
        assert not admitted.is_refusal, admitted.body["message"]


@pytest.mark.timeout(180)  # eight times all objects
def test_from_install_to_uninstall(
    cluster: ControlPlane, api: Api, helm: Helm, handover: Path
) -> None:
    given = ("--set-file", f"{CONFIGURATION}={handover}")
    for account in ("headwater-operator", "headwater-agent"):
        api.delete(f"/api/v1/namespaces/{SYSTEM}/serviceaccounts/{account}")
    said = helm.run("install", RELEASE, CHART, *given)
    assert "STILL TO DO: Secret headwater-nats is not there" in said
    assert "Pod Security" not in said
    assert "helm --namespace headwater-system test headwater --logs" in said

    # A release has to fit into a Secret of 1 MiB.
    release = secret(api, f"sh.helm.release.v1.{RELEASE}.v1")
    size = len(json.dumps(release["data"]))
    print(f"the release's Secret has {size} bytes")
    assert size < 400_000

    # An upgrade leaves certificates and the NATS servers alone, and changes what it should.
    before = {name: secret(api, name) for name in ("headwater-nats-tls", "headwater-operator-tls")}
    servers = f"/apis/apps/v1/namespaces/{SYSTEM}/statefulsets/headwater-nats"
    generation = api.get(servers)["metadata"]["generation"]
    helm.run("upgrade", RELEASE, CHART, "--reuse-values", "--set", "operator.replicas=3")
    for name, was in before.items():
        now = secret(api, name)
        assert now["data"] == was["data"]
        assert now["metadata"]["annotations"] == was["metadata"]["annotations"]
    assert api.get(servers)["metadata"]["generation"] == generation
    operator = f"/apis/apps/v1/namespaces/{SYSTEM}/deployments/headwater-operator"
    assert api.get(operator)["spec"]["replicas"] == 3

    # A definition that has gone back is brought forward again.
    tenants = (
        "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/provenancetenants.headwater.dev"
    )
    cluster.kubectl(
        "patch", "crd", "provenancetenants.headwater.dev", "--type=json",
        '--patch=[{"op": "remove", "path": "/spec/names/shortNames"}]',
    )  # fmt: skip
    assert "shortNames" not in api.get(tenants)["spec"]["names"]
    helm.run("upgrade", RELEASE, CHART, "--reuse-values", "--force-conflicts")
    assert api.get(tenants)["spec"]["names"]["shortNames"]

    # When they are due, new ones come, and those that trusted the old authority go on.
    for name in before:
        due = {"metadata": {"annotations": {"headwater.dev/renew-after": str(int(time.time()))}}}
        api.patch(f"/api/v1/namespaces/{SYSTEM}/secrets/{name}", due)
    helm.run("upgrade", RELEASE, CHART, "--reuse-values", "--force-conflicts")
    for name, was in before.items():
        now = secret(api, name)
        assert now["data"]["tls.crt"] != was["data"]["tls.crt"]
        trusted, old = (base64.b64decode(one["data"]["ca.crt"]).decode() for one in (now, was))
        assert old.strip() in trusted and trusted.count("BEGIN CERTIFICATE") == 2
        ssl.create_default_context(cadata=trusted)
    template = api.get(servers)["spec"]["template"]["metadata"]["annotations"]
    assert template["headwater.dev/certificates-of-revision"] == "4"

    # What is asked to stay stays, and nothing else of it.
    helm.run("uninstall", RELEASE)
    left = everything_of_the_release(cluster)
    assert {one["kind"] for one in left} == {"CustomResourceDefinition"} and len(left) == 6

    # It can be installed again over what has stayed, and taken away with all.
    helm.run("install", RELEASE, CHART, *given, "--set", "definitions.keep=false")
    await_kinds_served(api)
    helm.run("uninstall", RELEASE)
    assert not everything_of_the_release(cluster)
    await_no_definitions(api)


def await_kinds_served(api: Api) -> None:
    """An API server that ends a definition whose storage it is still making may never end it.

    It says `InstanceDeletionFailed: storage is (re)initializing` and tries again ever more rarely
    (seen on 1.36 for over 90 s).
    """
    group = "/apis/headwater.dev/v1alpha1"
    names = [path.stem.partition(".")[0] for path in (ROOT / "crds").glob("*.yaml")]

    def are_served() -> bool:
        return not any(api.exchange("GET", f"{group}/{name}").is_refusal for name in names)

    wait_until(are_served, what="the kinds are served", timeout_s=60)


def await_no_definitions(api: Api) -> None:
    """Helm does not wait until definitions have ended; the next release could not own them."""
    path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"

    def left() -> list[Object]:
        found = api.get(path)["items"]
        return [one for one in found if one["metadata"]["name"].endswith(".headwater.dev")]

    try:
        wait_until(lambda: not left(), what="the definitions are gone", timeout_s=60)
    except TimeoutError as too_late:
        why = {one["metadata"]["name"]: one["status"].get("conditions") for one in left()}
        raise AssertionError(f"definitions that did not end: {why}") from too_late


def everything_of_the_release(cluster: ControlPlane) -> list[Object]:
    """Objects of every kind that the chart can make in a namespace or the cluster."""
    kinds = (
        "clusterroles,clusterrolebindings,roles,rolebindings,serviceaccounts,secrets,configmaps,"
        "services,deployments,daemonsets,statefulsets,pods,poddisruptionbudgets,networkpolicies,"
        "validatingadmissionpolicies,validatingadmissionpolicybindings,customresourcedefinitions,"
        "servicemonitors,podmonitors,prometheusrules,certificates.cert-manager.io"
    )
    said = cluster.kubectl(
        "get",
        kinds,
        "--all-namespaces",
        "-l",
        f"app.kubernetes.io/instance={RELEASE}",
        "-o",
        "json",
    )
    items: list[Object] = json.loads(said)["items"]
    return [one for one in items if one["metadata"].get("deletionTimestamp") is None]


@pytest.mark.timeout(120)
def test_namespace_is_made_and_helm_test_runs_in_it(
    cluster: ControlPlane, api: Api, handover: Path, tmp_path: Path
) -> None:
    """What was applied by hand before is taken over."""
    cluster.kubectl("apply", "-f", ROOT / "crds")
    helm = Helm(tmp_path, "made", cluster.kubectl_environment())
    given = (
        "--set-file",
        f"{CONFIGURATION}={handover}",
        "--set",
        "namespace.create=true,definitions.keep=false",
    )
    helm.run("install", RELEASE, CHART, *given, "--create-namespace", "--take-ownership")
    try:
        labels = api.get("/api/v1/namespaces/made")["metadata"]["labels"]
        assert labels[ENFORCE] == "privileged"
        api.create("/api/v1/namespaces/made/serviceaccounts", {"metadata": {"name": "default"}})
        pod = "/api/v1/namespaces/made/pods/headwater-test"

        def end(phase: str) -> None:
            """What kubelet would say."""
            wait_until(lambda: not api.exchange("GET", pod).is_refusal, what="the pod is there")
            api.patch(f"{pod}/status", {"status": {"phase": phase}})

        with ThreadPoolExecutor(1) as running:
            tested = running.submit(helm.run, "test", RELEASE)
            end("Failed")
            with pytest.raises(HelmError, match="headwater-test"):
                tested.result()
            assert not api.exchange("GET", pod).is_refusal
            uid = api.get(pod)["metadata"]["uid"]
            tested = running.submit(helm.run, "test", RELEASE)
            wait_until(
                lambda: api.exchange("GET", pod).body.get("metadata", {}).get("uid", uid) != uid,
                what="a new pod",
            )
            end("Succeeded")
            assert "Succeeded" in tested.result()
        wait_until(lambda: api.exchange("GET", pod).status == 404, what="the pod is gone")
    finally:
        await_kinds_served(api)
        helm.run("uninstall", RELEASE)
        await_no_definitions(api)
    assert "deletionTimestamp" not in api.get("/api/v1/namespaces/made")["metadata"]


def test_notes_tell_of_a_namespace_that_refuses_agents(
    cluster: ControlPlane, api: Api, handover: Path, tmp_path: Path
) -> None:
    make_namespace(api, "strict", "baseline")
    helm = Helm(tmp_path, "strict", cluster.kubectl_environment())
    for account in ("headwater-operator", "headwater-agent"):
        api.delete(f"/api/v1/namespaces/strict/serviceaccounts/{account}")
    given = ("--set-file", f"{CONFIGURATION}={handover}")
    said = helm.run("install", RELEASE, CHART, *given, "--dry-run=server")
    assert "kubectl label --overwrite namespace strict" in said


def test_kinds_of_others_are_held_to_what_they_are(cluster: ControlPlane, helm: Helm) -> None:
    """The small definitions refuse what is wrong, or the dry run would prove nothing."""
    names = {one["spec"]["names"]["kind"] for one in parse(KINDS.read_text())}
    assert names == {"Certificate", "PodMonitor", "PrometheusRule", "ServiceMonitor"}
    values: dict[str, Any] = yaml.safe_load(
        (ROOT / "tests/cluster/chart_values/monitored.yaml").read_text()
    )
    assert values["monitoring"]["monitors"]["enabled"]
    text = helm.text(
        *("--set", "nats.source=existing", "--set", "nats.existing.urls={tls://n:4222}"),
        *("--set", "monitoring.monitors.enabled=true"),
    )
    monitor = find(parse(text), "PodMonitor", "headwater-agent")
    monitor["spec"]["podMetricsEndpoints"][0]["prot"] = "pages"
    with pytest.raises(KubectlError, match="prot"):
        cluster.kubectl(
            *("apply", "--server-side", "--dry-run=server", "--validate=strict", "-f", "-"),
            stdin=json.dumps(monitor),
        )
