# SPDX-License-Identifier: Apache-2.0
"""The operator on a real API server: what a tenant applies, nodes are told, whatever fails between.

It has a control plane of its own, because it would take other tests' nodes for its own.
"""

from __future__ import annotations

import json
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from headwater_operator.cluster.api import KubernetesApi
from headwater_operator.cluster.connection import connect
from headwater_operator.cluster.kinds import CLUSTER_POLICIES
from headwater_operator.cluster.settings import OperatorSettings
from headwater_prov.policy import reference_set_index

from tests.cluster.api import Api, ApiError
from tests.cluster.api_front import ApiFront, fronting
from tests.cluster.control_plane import ROOT, ControlPlane, KubectlError, wait_until
from tests.cluster.objects import create_node
from tests.cluster.operator_process import (
    COMPILED,
    HEADWATER,
    LEASE,
    NODES,
    POLICIES,
    SYSTEM,
    TENANTS,
    OperatorProcess,
    conditions,
    install,
    operating,
    report,
    told,
)

LOG = ROOT / "build" / "cluster" / "operator.log"
UNSHARE = "/usr/bin/unshare"

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def control_plane() -> Iterator[ControlPlane]:
    with ControlPlane() as control_plane:
        install(control_plane)
        yield control_plane


@pytest.fixture(scope="module")
def api(control_plane: ControlPlane) -> Api:
    return control_plane.api


@pytest.fixture(scope="module", autouse=True)
def clean_log() -> None:
    LOG.unlink(missing_ok=True)


@pytest.fixture
def operator(control_plane: ControlPlane) -> Iterator[OperatorProcess]:
    with operating(control_plane, LOG) as process:
        yield process


@pytest.fixture
def node(api: Api) -> Iterator[str]:
    name = f"node-{secrets.token_hex(4)}"
    create_node(api, name, labels={"zone": "a"})
    yield name
    api.delete(f"/api/v1/nodes/{name}")


class Tenant:
    """A tenant of one namespace, and the policies in it."""

    def __init__(self, api: Api) -> None:
        self.api = api
        self.name = f"team-{secrets.token_hex(4)}"
        self.namespace = f"shop-{secrets.token_hex(4)}"
        labels = {"team": self.name}
        api.create("/api/v1/namespaces", {"metadata": {"name": self.namespace, "labels": labels}})
        api.create(
            TENANTS, _document("ProvenanceTenant", self.name, {"namespaces": [self.namespace]})
        )
        self.path = f"{HEADWATER}/namespaces/{self.namespace}/{POLICIES}"

    def apply(self, name: str = "web", app: str = "web", **spec: Any) -> dict[str, Any]:
        body = _document(
            "ProvenancePolicy", name, {"podSelector": {"matchLabels": {"app": app}}, **spec}
        )
        if self.api.exchange("GET", f"{self.path}/{name}").status == 404:
            return self.api.create(self.path, body)
        return self.api.patch(f"{self.path}/{name}", {"spec": body["spec"]})

    def policy(self, name: str = "web") -> dict[str, Any]:
        return self.api.get(f"{self.path}/{name}")

    def conditions(self, name: str = "web") -> dict[str, tuple[str, str]]:
        return conditions(self.policy(name))

    def hash(self, name: str = "web") -> str:
        """Of the policy as it is now; waits until the operator has said it."""
        wait_until(
            lambda: (
                self.policy(name).get("status", {}).get("observedGeneration")
                == self.policy(name)["metadata"]["generation"]
            ),
            what=f"policy {name} is judged",
            timeout_s=60.0,
        )
        return str(self.policy(name)["status"].get("hash", ""))

    def remove(self) -> None:
        self.api.delete(self.path)  # all of the namespace's policies
        self.api.delete(f"{TENANTS}/{self.name}")
        self.api.delete(f"/api/v1/namespaces/{self.namespace}")


@pytest.fixture
def new_tenant(api: Api) -> Iterator[Callable[[], Tenant]]:
    made: list[Tenant] = []

    def make() -> Tenant:
        made.append(Tenant(api))
        return made[-1]

    yield make
    for tenant in made:
        tenant.remove()


@pytest.fixture
def tenant(new_tenant: Callable[[], Tenant]) -> Tenant:
    return new_tenant()


def _document(kind: str, name: str, spec: object) -> dict[str, Any]:
    return {
        "apiVersion": "headwater.dev/v1alpha1",
        "kind": kind,
        "metadata": {"name": name},
        "spec": spec,
    }


def is_told(api: Api, node: str, tenant: Tenant, name: str = "web") -> bool:
    """Whether a node finds a policy as it is now."""
    try:
        return told(api, node).get((tenant.namespace, name)) == tenant.hash(name)
    except ApiError:
        return False  # not there yet, or told another set between two reads


def found(api: Api, node: str) -> dict[tuple[str, str], str] | None:
    """What a node finds; None while it has no ProvenanceNode."""
    try:
        return told(api, node)
    except ApiError:
        return None


def test_policy_is_seen_by_node_and_by_kubectl(
    api: Api, control_plane: ControlPlane, operator: OperatorProcess, tenant: Tenant, node: str
) -> None:
    tenant.apply()
    wait_until(lambda: is_told(api, node, tenant), what="the node is told")
    assert tenant.conditions() == {
        "Accepted": ("True", "Accepted"),
        "Programmed": ("False", "Programming"),
    }
    report(api, node)
    wait_until(lambda: tenant.conditions()["Programmed"][0] == "True", what="programmed")
    shown = control_plane.kubectl("get", "provpol", "web", "--namespace", tenant.namespace)
    heads, values = (line.split() for line in shown.splitlines()[:2])
    row = dict(zip(heads, values, strict=False))
    assert row["TENANT"] == tenant.name
    assert (row["DESIRED"], row["PROGRAMMED"], row["FAILED"]) == ("1", "1", "0")
    described = control_plane.kubectl(
        "events", "--for", "provenancepolicy/web", "--namespace", tenant.namespace
    )
    assert "Programmed" in described and "Warning" not in described
    # Nothing of ours on the tenant's object but its status.
    metadata = tenant.policy()["metadata"]
    assert "finalizers" not in metadata and "annotations" not in metadata
    assert {one["manager"] for one in metadata["managedFields"] if "subresource" not in one} <= {
        "Python-urllib",
        "python-httpclient",
        "unknown",
        *{one["manager"] for one in metadata["managedFields"] if one["operation"] == "Update"},
    }


def test_tenants_own_namespaces_and_the_older_one_keeps_them(
    api: Api, operator: OperatorProcess, tenant: Tenant, node: str
) -> None:
    time.sleep(1.1)  # creation times are in seconds
    thief = f"thief-{secrets.token_hex(4)}"
    selector = {"matchLabels": {"team": tenant.name}}
    api.create(TENANTS, _document("ProvenanceTenant", thief, {"namespaceSelector": selector}))
    tenant.apply()
    try:
        wait_until(
            lambda: (
                conditions(api.get(f"{TENANTS}/{thief}")).get("Accepted")
                == ("False", "NamespaceConflict")
            ),
            what="the newer tenant is told of the conflict",
        )
        wait_until(lambda: tenant.policy().get("status", {}).get("tenant"), what="judged")
        assert tenant.policy()["status"]["tenant"] == tenant.name
        status = api.get(f"{TENANTS}/{tenant.name}")["status"]
        assert status["namespaces"] == [tenant.namespace]
        # The owner goes: the other one has it now, and what it records goes there.
        api.delete(f"{TENANTS}/{tenant.name}")
        wait_until(lambda: tenant.policy()["status"]["tenant"] == thief, what="a new owner")
    finally:
        api.delete(f"{TENANTS}/{thief}")
    wait_until(
        lambda: tenant.conditions()["Accepted"] == ("False", "NoTenant"), what="no owner is said"
    )
    wait_until(
        lambda: (tenant.namespace, "web") not in told(api, node), what="the node lets go of it"
    )


def test_nodes_come_go_and_are_labelled(
    api: Api, operator: OperatorProcess, tenant: Tenant, node: str
) -> None:
    cluster_policies = f"{HEADWATER}/clusterprovenancepolicies"
    name = f"watch-{secrets.token_hex(4)}"
    spec = {
        "podSelector": {},
        "namespaceSelector": {"matchLabels": {"team": tenant.name}},
        "nodeSelector": {"matchLabels": {"zone": "b"}},
    }
    api.create(cluster_policies, _document("ClusterProvenancePolicy", name, spec))
    try:
        wait_until(
            lambda: (
                conditions(api.get(f"{cluster_policies}/{name}")).get("Programmed")
                == ("False", "NoNodes")
            ),
            what="no node has the label",
        )
        api.patch(f"/api/v1/nodes/{node}", {"metadata": {"labels": {"zone": "b"}}})
        wait_until(lambda: ("", name) in told(api, node), what="the labelled node is told")
        api.patch(f"/api/v1/nodes/{node}", {"metadata": {"labels": {"zone": "a"}}})
        wait_until(lambda: ("", name) not in told(api, node), what="and lets go of it")
    finally:
        api.delete(f"{cluster_policies}/{name}")
    uid = api.get(f"{NODES}/{node}")["metadata"]["uid"]
    api.delete(f"/api/v1/nodes/{node}")
    wait_until(
        lambda: api.exchange("GET", f"{NODES}/{node}").status == 404, what="gone with its node"
    )
    create_node(api, node)
    wait_until(
        lambda: api.exchange("GET", f"{NODES}/{node}").status == 200, what="there with its node"
    )
    assert api.get(f"{NODES}/{node}")["metadata"]["uid"] != uid


def test_unreachable_node_is_named_with_the_reason(
    api: Api, operator: OperatorProcess, tenant: Tenant, node: str
) -> None:
    """Half a minute of lateness is the bound; here the agent itself says what is wrong."""
    tenant.apply()
    wait_until(lambda: is_told(api, node, tenant), what="the node is told")
    failure = {
        "namespace": tenant.namespace,
        "name": "web",
        "hash": tenant.hash(),
        "reason": "NoSlot",
        "message": "all slots are in use",
    }
    report(api, node, failures=[failure])
    wait_until(
        lambda: tenant.conditions()["Programmed"] == ("False", "NodesFailing"), what="said so"
    )
    (failing,) = tenant.policy()["status"]["failingNodes"]
    assert failing == {"node": node, "reason": "NoSlot", "message": "all slots are in use"}
    report(api, node, captureMode="unsupported", policySets=[], failures=[])
    wait_until(
        lambda: tenant.conditions()["Programmed"] == ("False", "NoNodeSupported"), what="said so"
    )


def test_killed_at_any_moment_it_goes_on_where_it_was(
    api: Api, control_plane: ControlPlane, new_tenant: Callable[[], Tenant], node: str
) -> None:
    tenants = [new_tenant() for _ in range(4)]
    others = [f"{node}-{number}" for number in range(20)]
    for name in others:
        create_node(api, name)
    process = OperatorProcess(control_plane, LOG)
    try:
        for life in range(8):
            process.start()
            process.wait_ready()
            for number, tenant in enumerate(tenants):
                tenant.apply(app=f"life-{life}-{number}")
            time.sleep(0.04 * life)
            process.kill()
            # Whatever was half done, no node was told what it does not find.
            for name in (node, *others):
                if api.exchange("GET", f"{NODES}/{name}").status == 200:
                    told(api, name)
        tenants[0].api.delete(f"{tenants[0].path}/web")  # while nobody watches
        api.delete(f"/api/v1/nodes/{others.pop()}")
        process.start()
        for tenant in tenants[1:]:
            wait_until(
                lambda tenant=tenant: is_told(api, node, tenant),  # type: ignore[misc]
                what="the node is told the last edit",
                timeout_s=60.0,
            )
        wait_until(
            lambda: all(found(api, name) == told(api, node) for name in others), what="all are told"
        )
        # All of that may have been done by the life before; this is the last one's own work.
        wait_until(
            lambda: (tenants[0].namespace, "web") not in (found(api, node) or {}),
            what="what was deleted meanwhile is taken back",
            timeout_s=60.0,
        )
        wait_until(
            lambda: all(found(api, name) == found(api, node) for name in others), what="everywhere"
        )
        assert process.stop() == 0
    finally:
        process.kill()
        for name in others:
            api.delete(f"/api/v1/nodes/{name}")


def test_two_operators_one_writes_and_the_other_takes_over(
    api: Api, control_plane: ControlPlane, operator: OperatorProcess, tenant: Tenant, node: str
) -> None:
    wait_until(lambda: "this operator leads" in operator.said(), what="it leads", timeout_s=30.0)
    second = OperatorProcess(control_plane, LOG.with_suffix(".second.log"))
    second.start()
    try:
        second.wait_ready()
        tenant.apply()
        wait_until(lambda: is_told(api, node, tenant), what="the node is told")
        assert second.metric("headwater_operator_api_writes_total") == 0
        assert "this operator leads" not in second.said()
        assert operator.stop() == 0, operator.said()
        began = time.monotonic()
        tenant.apply(app="other")
        wait_until(lambda: is_told(api, node, tenant), what="the second one writes")
        assert time.monotonic() - began < 10, "the lease was handed back"
        assert second.stop() == 0
    finally:
        second.kill()


def test_api_server_away_compacted_and_back(
    api: Api, control_plane: ControlPlane, operator: OperatorProcess, tenant: Tenant, node: str
) -> None:
    tenant.apply()
    wait_until(lambda: is_told(api, node, tenant), what="the node is told")
    control_plane.stop_apiserver()
    time.sleep(2)
    assert operator.page("healthz")[0] == 200, "an API server that is away is no reason to restart"
    control_plane.start_apiserver()
    tenant.apply(app="while-away")
    control_plane.compact_etcd()
    wait_until(lambda: is_told(api, node, tenant), what="told afterwards", timeout_s=60.0)
    control_plane.restart_apiserver()
    control_plane.compact_etcd()
    tenant.apply(app="compacted")
    wait_until(lambda: is_told(api, node, tenant), what="told after that, too", timeout_s=60.0)
    assert operator.page("healthz")[0] == 200


def test_policy_deleted_while_everything_is_down(
    api: Api, control_plane: ControlPlane, tenant: Tenant, node: str
) -> None:
    with operating(control_plane, LOG):
        tenant.apply()
        wait_until(lambda: is_told(api, node, tenant), what="the node is told")
    # Nothing of ours holds it up.
    tenant.api.delete(f"{tenant.path}/web")
    assert api.exchange("GET", f"{tenant.path}/web").status == 404
    control_plane.restart_apiserver()
    with operating(control_plane, LOG):
        wait_until(
            lambda: (tenant.namespace, "web") not in told(api, node), what="the node lets go"
        )


def test_definitions_go_with_the_operator_down(control_plane: ControlPlane) -> None:
    """On a control plane of its own: uninstalling must not hang on anybody's finalizer."""
    with ControlPlane() as other:
        install(other)
        create_node(other.api, "node-a")
        with operating(other, LOG.with_suffix(".uninstalled.log")):
            tenant = Tenant(other.api)
            tenant.apply()
            wait_until(lambda: is_told(other.api, "node-a", tenant), what="the node is told")
        # The API server empties one kind after the other, and takes seconds for each.
        other.kubectl("delete", "--wait", "--timeout=170s", "-f", ROOT / "crds", timeout_s=180.0)
        assert other.kubectl("get", "crds", "-o", "name") == ""


def test_ten_thousand_edits_of_one_tenant_do_not_hold_up_another(
    api: Api, operator: OperatorProcess, new_tenant: Callable[[], Tenant], node: str
) -> None:
    """As many as one client gets through in ten seconds; both tenants keep to their own set."""
    busy = calm = new_tenant()
    while reference_set_index(calm.namespace) == reference_set_index(busy.namespace):
        calm = new_tenant()
    calm.apply()
    busy.apply()
    wait_until(lambda: is_told(api, node, calm) and is_told(api, node, busy), what="both told")
    stop = threading.Event()
    edits = 0

    def edit() -> None:
        nonlocal edits
        while not stop.is_set():
            busy.api.patch(
                f"{busy.path}/web",
                {"spec": {"podSelector": {"matchLabels": {"app": f"v{edits}"}}}},
            )
            edits += 1

    thread = threading.Thread(target=edit)
    writes_before = operator.metric(
        "headwater_operator_api_writes_total", kind="provenancenodes", verb="patch"
    )
    thread.start()
    try:
        time.sleep(2)
        waits = []
        for number in range(4):
            began = time.monotonic()
            calm.apply(app=f"calm-{number}")
            wait_until(lambda: is_told(api, node, calm), what="the calm tenant's edit")
            waits.append(time.monotonic() - began)
            time.sleep(0.5)
    finally:
        stop.set()
        thread.join()
    print(f"{edits} edits by one tenant; the other's took {max(waits):.2f} s at most")
    assert edits > 200
    assert max(waits) < 5
    writes = operator.metric(
        "headwater_operator_api_writes_total", kind="provenancenodes", verb="patch"
    )
    assert writes - writes_before < 60, "one write for each edit would be hundreds"
    wait_until(lambda: is_told(api, node, busy), what="the last edit comes", timeout_s=30.0)


@pytest.fixture
def front(control_plane: ControlPlane) -> Iterator[ApiFront]:
    with fronting(control_plane) as front:
        yield front


@pytest.fixture
def fronted(
    control_plane: ControlPlane, front: ApiFront, tmp_path: Path
) -> Iterator[OperatorProcess]:
    """An operator that reaches the API server through the front."""
    token = control_plane.token(SYSTEM, "headwater-operator")
    kubeconfig = front.kubeconfig(token, tmp_path / "kubeconfig")
    arguments = ["--kubeconfig", str(kubeconfig)]
    process = OperatorProcess(control_plane, LOG.with_suffix(".fronted.log"), arguments)
    control_plane.api.delete(LEASE)  # one that failed has left it
    process.start()
    try:
        process.wait_ready(timeout_s=60.0)
        yield process
        front.latency_s = front.refused_share = 0.0
        assert process.stop() == 0, process.said()[-3000:]
    finally:
        process.kill()


def test_api_server_that_answers_after_two_seconds(
    api: Api, front: ApiFront, fronted: OperatorProcess, tenant: Tenant, node: str
) -> None:
    front.latency_s = 2.0
    front.break_watches()
    tenant.apply()
    # A policy, its set, the node and the status one after the other, after a watch and its list.
    wait_until(lambda: is_told(api, node, tenant), what="the node is told", timeout_s=60.0)
    report(api, node)
    wait_until(
        lambda: tenant.conditions()["Programmed"][0] == "True", what="programmed", timeout_s=60.0
    )
    front.latency_s = 0.0
    assert fronted.page("healthz")[0] == 200
    assert fronted.said().count("this operator leads") == 1, "the lease was kept all the time"


def test_storm_of_refusals_leaves_nothing_out_and_nothing_half(
    api: Api,
    front: ApiFront,
    fronted: OperatorProcess,
    new_tenant: Callable[[], Tenant],
    node: str,
) -> None:
    """Two of five requests, lists and watches too, are refused while policies come and go."""
    tenants = [new_tenant() for _ in range(4)]
    for tenant in tenants:
        tenant.apply()
    front.statuses, front.refused_share = (409, 429, 500, 503), 0.4
    others = [f"{node}-{number}" for number in range(10)]
    try:
        for number in range(10):
            front.break_watches()
            create_node(api, others[number])
            for tenant in tenants[1:]:
                tenant.apply(app=f"storm-{number}")
            for name in (node, *others):
                found_now = api.exchange("GET", f"{NODES}/{name}").status
                assert found_now in (200, 404)
                if found_now == 200:
                    told(api, name)  # raises if it was told what is not there
            time.sleep(0.5)
        api.delete(f"{tenants[0].path}/web")
        for name in others[:5]:
            api.delete(f"/api/v1/nodes/{name}")
        time.sleep(1)
        assert len(front.refused) > 2, f"a storm meets more than {dict(front.refused)}"
        front.refused_share = 0.0
        for tenant in tenants[1:]:
            wait_until(
                lambda tenant=tenant: is_told(api, node, tenant),  # type: ignore[misc]
                what="the last edit is told",
                timeout_s=60.0,
            )
        wait_until(
            lambda: (tenants[0].namespace, "web") not in told(api, node),
            what="the deletion is told",
        )
        wait_until(
            lambda: (
                all(found(api, name) == told(api, node) for name in others[5:])
                and all(found(api, name) is None for name in others[:5])
            ),
            what="all nodes that are left are told the same",
            timeout_s=60.0,
        )
        assert fronted.page("healthz")[0] == 200
    finally:
        for name in others:
            api.delete(f"/api/v1/nodes/{name}")


def test_flapping_node_leaves_nothing_behind(
    api: Api, operator: OperatorProcess, tenant: Tenant, node: str
) -> None:
    flapping = f"{node}-flapping"
    tenant.apply()
    wait_until(lambda: is_told(api, node, tenant), what="the node is told")
    report(api, node)
    uids = set()
    for number in range(50):
        create_node(api, flapping)
        # Sometimes it stays for long enough to be told, sometimes it is gone before.
        time.sleep((number % 5) * 0.05)
        if (answer := api.exchange("GET", f"{NODES}/{flapping}")).status == 200:
            uids.add(answer.body["metadata"]["uid"])
        api.delete(f"/api/v1/nodes/{flapping}")
    assert uids, "it was told at least once"
    wait_until(
        lambda: api.exchange("GET", f"{NODES}/{flapping}").status == 404, what="gone with its node"
    )
    wait_until(lambda: tenant.conditions()["Programmed"][0] == "True", what="programmed again")
    assert tenant.policy()["status"]["nodes"]["desired"] == 1
    create_node(api, flapping)
    try:
        wait_until(lambda: is_told(api, flapping, tenant), what="it is told at last")
        body = api.get(f"{NODES}/{flapping}")
        (owner,) = body["metadata"]["ownerReferences"]
        assert owner["uid"] == api.get(f"/api/v1/nodes/{flapping}")["metadata"]["uid"]
        time.sleep(1)
        uid = api.get(f"{NODES}/{flapping}")["metadata"]["uid"]
        assert uid == body["metadata"]["uid"], "the last one stays"
    finally:
        api.delete(f"/api/v1/nodes/{flapping}")


async def test_kind_without_objects_is_listed(control_plane: ControlPlane) -> None:
    """An empty list of metadata only says `"items": null`, which once ended the operator."""
    client = await connect(OperatorSettings(), control_plane.admin_kubeconfig)
    try:
        for is_metadata in (False, True):
            items, version = await KubernetesApi(client).list(
                CLUSTER_POLICIES, dict, metadata_only=is_metadata
            )
            assert items == [] and version > 0
    finally:
        await client.close()


def test_metrics_and_log_say_what_happened_and_no_more(
    api: Api, control_plane: ControlPlane, operator: OperatorProcess, tenant: Tenant, node: str
) -> None:
    tenant.apply()
    wait_until(lambda: is_told(api, node, tenant), what="the node is told")
    assert operator.metric("headwater_operator_objects", kind="provenancenodes") >= 1
    assert operator.metric("headwater_operator_policies", reason="Accepted") >= 1
    assert operator.metric("headwater_operator_api_writes_total", outcome="ok") >= 4
    assert operator.metric("headwater_operator_api_writes_total", outcome="403") == 0
    assert operator.metric("headwater_operator_dead_watches") == 0
    token = control_plane.token(SYSTEM, "headwater-operator")
    for line in operator.said().splitlines():
        assert token[:20] not in line and "Bearer" not in line and "PRIVATE" not in line


def test_wrong_command_line_is_a_sentence(tmp_path: Path, control_plane: ControlPlane) -> None:
    for arguments, sentence in (
        (["--listen", "nowhere"], "is not HOST:PORT"),
        (["--kubeconfig", "/nowhere"], "argument --kubeconfig: there is no such file: /nowhere"),
    ):
        process = OperatorProcess(control_plane, tmp_path / "log", arguments)
        process.start()
        with pytest.raises(RuntimeError, match=sentence):
            process.wait_ready()
        assert process.stop() == 2


# -- who may do what -------------------------------------------------------------------------------


@pytest.fixture
def agent_api(control_plane: ControlPlane, node: str) -> Api:
    """The API as the agent's pod on `node` sees it."""
    return control_plane.api_for_token(control_plane.token(SYSTEM, "headwater-agent", node=node))


def test_agent_reports_for_its_own_node_only(
    api: Api, control_plane: ControlPlane, operator: OperatorProcess, agent_api: Api, node: str
) -> None:
    other = f"{node}-other"
    create_node(api, other)
    try:
        for name in (node, other):
            wait_until(
                lambda name=name: api.exchange("GET", f"{NODES}/{name}").status == 200,  # type: ignore[misc]
                what=f"{name} is known",
            )
        status = {"status": {"captureMode": "lsm"}}
        agent_api.patch(f"{NODES}/{node}/status", status)
        with pytest.raises(ApiError, match=f"an agent on node {node} may not report for node"):
            agent_api.patch(f"{NODES}/{other}/status", status)
        nameless = control_plane.api_for_token(control_plane.token(SYSTEM, "headwater-agent"))
        with pytest.raises(ApiError, match="whose token names no node may not report"):
            nameless.patch(f"{NODES}/{node}/status", status)
    finally:
        api.delete(f"/api/v1/nodes/{other}")


REFUSED_TO_AGENTS: list[tuple[str, str, object]] = [
    ("PATCH", f"{NODES}/{{node}}", {"spec": {"policySets": []}}),
    ("DELETE", f"{NODES}/{{node}}", None),
    ("GET", COMPILED, None),
    ("DELETE", f"{COMPILED}/{'a' * 64}", None),
    ("GET", f"{HEADWATER}/{POLICIES}", None),
    ("GET", TENANTS, None),
    ("GET", "/api/v1/secrets", None),
    ("GET", "/api/v1/namespaces", None),
    ("GET", "/api/v1/nodes", None),
    ("POST", "/api/v1/namespaces/default/pods", {"metadata": {"name": "p"}}),
]


@pytest.mark.parametrize(("method", "path", "body"), REFUSED_TO_AGENTS)
def test_agent_may_do_nothing_else(
    agent_api: Api, node: str, method: str, path: str, body: object
) -> None:
    answer = agent_api.exchange(
        method,
        path.format(node=node),
        body,
        content_type="application/merge-patch+json" if method == "PATCH" else "application/json",
    )
    assert answer.status == 403, answer


REFUSED_TO_THE_OPERATOR = [
    ("GET", "/api/v1/secrets"),
    ("GET", "/api/v1/namespaces/default/secrets"),
    ("GET", "/api/v1/namespaces/default/secrets/any"),
    ("DELETE", "/api/v1/namespaces/default/secrets/any"),
    ("GET", f"/api/v1/namespaces/{SYSTEM}/secrets/any"),
    ("PUT", f"/api/v1/namespaces/{SYSTEM}/secrets/any"),
    ("DELETE", f"{HEADWATER}/namespaces/default/provenanceauditors/none"),
    ("POST", "/api/v1/namespaces/default/serviceaccounts/default/token"),
    ("GET", "/api/v1/pods"),
    ("GET", "/api/v1/configmaps"),
    ("GET", "/apis/rbac.authorization.k8s.io/v1/clusterroles"),
    ("DELETE", f"{TENANTS}/none"),
    ("DELETE", f"{HEADWATER}/namespaces/default/{POLICIES}/none"),
    ("DELETE", "/api/v1/nodes/none"),
    ("GET", f"/apis/coordination.k8s.io/v1/namespaces/{SYSTEM}/leases/another"),
]


@pytest.mark.parametrize(("method", "path"), REFUSED_TO_THE_OPERATOR)
def test_operator_may_do_no_more_than_it_does(
    control_plane: ControlPlane, method: str, path: str
) -> None:
    api = control_plane.api_for_token(control_plane.token(SYSTEM, "headwater-operator"))
    assert api.exchange(method, path).status == 403


SECRETS_REFUSED_TO_THE_OPERATOR: list[tuple[str, dict[str, Any]]] = [
    ("default", {}),
    ("default", {"labels": {"headwater.dev/keys": "tenant"}}),
    ("default", {"ownerReferences": [{"apiVersion": "v1", "kind": "ConfigMap"}]}),
    ("default", {"ownerReferences": [{"apiVersion": "headwater.dev/v1alpha1", "kind": "X"}]}),
    (SYSTEM, {}),
    (SYSTEM, {"labels": {"app": "headwater"}}),
]


@pytest.mark.parametrize(("namespace", "metadata"), SECRETS_REFUSED_TO_THE_OPERATOR)
def test_operator_makes_and_changes_no_secret_but_its_own(
    api: Api, control_plane: ControlPlane, namespace: str, metadata: dict[str, Any]
) -> None:
    operator = control_plane.api_for_token(control_plane.token(SYSTEM, "headwater-operator"))
    path = f"/api/v1/namespaces/{namespace}/secrets"
    for owner in metadata.get("ownerReferences", ()):
        owner.update(name="any", uid="any", controller=True)
    name = f"secret-{secrets.token_hex(4)}"
    body = {"metadata": {"name": name, **metadata}, "stringData": {"password": "mine"}}
    assert operator.exchange("POST", path, body).status == 422
    plain = {"metadata": {"name": name}, "stringData": {"password": "mine"}}
    api.create(path, plain)
    try:
        patch = "application/merge-patch+json"
        for change in ({}, {"data": {"password": None}}, {"metadata": metadata}):
            answer = operator.exchange("PATCH", f"{path}/{name}", change, content_type=patch)
            assert answer.status == 422 and "mine" not in str(answer.body)
        if namespace == SYSTEM:
            assert operator.exchange("DELETE", f"{path}/{name}").status == 422
    finally:
        api.delete(f"{path}/{name}")


def test_operator_makes_no_token_of_a_service_account(control_plane: ControlPlane) -> None:
    """A Secret of that type would be filled in with one, in whatever namespace."""
    operator = control_plane.api_for_token(control_plane.token(SYSTEM, "headwater-operator"))
    owner = {
        "apiVersion": "headwater.dev/v1alpha1",
        "kind": "ProvenanceAuditor",
        "name": "a",
        "uid": "a",
        "controller": True,
    }
    body = {
        "metadata": {
            "name": "token",
            "ownerReferences": [owner],
            "annotations": {"kubernetes.io/service-account.name": "default"},
        },
        "type": "kubernetes.io/service-account-token",
    }
    answer = operator.exchange("POST", "/api/v1/namespaces/default/secrets", body)
    assert answer.status == 422 and "not of type Opaque" in str(answer.body)


@pytest.fixture
def tenant_api(control_plane: ControlPlane, tenant: Tenant) -> Api:
    """The API as somebody sees it who may edit in the tenant's namespace."""
    return _member(control_plane, tenant, "edit")


def _member(control_plane: ControlPlane, tenant: Tenant, role: str) -> Api:
    user = f"{role}-{secrets.token_hex(4)}"
    control_plane.kubectl(
        "create", "rolebinding", user, "--clusterrole", role, "--user", user,
        "--namespace", tenant.namespace,
    )  # fmt: skip
    return control_plane.api_for_user(user)


def test_tenant_writes_policies_of_its_own_namespace(
    control_plane: ControlPlane, tenant: Tenant, tenant_api: Api
) -> None:
    body = _document("ProvenancePolicy", "web", {"podSelector": {}})
    wait_until(
        lambda: tenant_api.exchange("GET", tenant.path).status == 200, what="roles are aggregated"
    )
    tenant_api.create(tenant.path, body)
    viewer = _member(control_plane, tenant, "view")
    assert viewer.get(f"{tenant.path}/web")["spec"]["podSelector"] == {}
    assert viewer.exchange("DELETE", f"{tenant.path}/web").status == 403
    tenant_api.delete(f"{tenant.path}/web")


@pytest.mark.parametrize("role", ["edit", "admin", "cluster-admin"])
def test_tenant_may_not_write_what_is_the_operators(
    api: Api, control_plane: ControlPlane, tenant: Tenant, role: str
) -> None:
    """Not even with every verb in its own namespace: a status there is the operator's."""
    member = _member(control_plane, tenant, role)
    tenant.apply()
    patch = "application/merge-patch+json"
    wait_until(
        lambda: member.exchange("GET", f"{tenant.path}/web").status == 200, what="roles are known"
    )
    lie = {"status": {"nodes": {"desired": 1, "programmed": 1}}}
    answer = member.exchange("PATCH", f"{tenant.path}/web/status", lie, content_type=patch)
    assert answer.status == 403, answer
    compiled = _document("CompiledProvenancePolicy", "a" * 64, {"references": []})
    assert member.exchange("POST", COMPILED, compiled).status == 403
    for path in (NODES, COMPILED, TENANTS, f"{HEADWATER}/clusterprovenancepolicies"):
        assert member.exchange("GET", path).status == 403
    other = f"{HEADWATER}/namespaces/default/{POLICIES}"
    assert member.exchange("GET", other).status == 403


def test_even_a_wide_role_of_the_cluster_does_not_write_what_is_the_operators(
    control_plane: ControlPlane,
) -> None:
    user = f"wide-{secrets.token_hex(4)}"
    control_plane.kubectl(
        "create", "clusterrole", user,
        "--verb=get,list,watch,create,update,patch,delete",
        "--resource=compiledprovenancepolicies.headwater.dev,provenancenodes.headwater.dev",
    )  # fmt: skip
    control_plane.kubectl(
        "create", "clusterrolebinding", user, "--clusterrole", user, "--user", user
    )
    wide = control_plane.api_for_user(user)
    body = _document("CompiledProvenancePolicy", "a" * 64, {"references": []})
    wait_until(lambda: wide.exchange("GET", COMPILED).status == 200, what="the role is known")
    with pytest.raises(ApiError, match="is written by Headwater's operator only"):
        wide.create(COMPILED, body)


def test_wrong_policy_is_refused_with_what_to_write_instead(
    control_plane: ControlPlane, tenant: Tenant
) -> None:
    body = _document("ProvenancePolicy", "web", {"podSelector": {}, "filters": {"nodes": ["flie"]}})
    body["metadata"]["namespace"] = tenant.namespace
    with pytest.raises(KubectlError, match=r'spec.filters.nodes\[0\].*"flie".*"file"'):
        control_plane.kubectl("apply", "-f", "-", stdin=json.dumps(body))


def test_a_user_without_a_name_can_run_it(control_plane: ControlPlane) -> None:
    """As where a cluster gives each namespace its own range of user ids (OpenShift)."""
    nameless = ("env", "--unset=USER", "--unset=LOGNAME", "--unset=LNAME", "--unset=USERNAME")
    wrap = (UNSHARE, "--user", "--map-user=77777", *nameless)
    process = OperatorProcess(control_plane, LOG, wrap=wrap)
    process.start()
    try:
        process.wait_ready()
        assert process.page("healthz")[0] == 200
    finally:
        process.stop()
