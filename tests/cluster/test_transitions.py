# SPDX-License-Identifier: Apache-2.0
"""What may change and what may not, and what a status may hold: rules that no file can break."""

import copy
import secrets
from collections.abc import Iterator
from typing import Any

import pytest
from headwater_prov.policy import (
    CONTENT_LABEL,
    CONTENT_POLICY,
    CONTENT_SET,
    REFERENCE_SETS,
    PolicyReference,
    compile_policy,
    decode_policy,
    decode_references,
    default_policy,
    reference_set_name,
    sorted_references,
)
from headwater_prov.policy.schema import API_VERSION, resource_kinds
from headwater_prov.vocabulary import Relation, VertexType

from tests.cluster.api import Api, ApiError
from tests.cluster.control_plane import ControlPlane

ROOT = f"/apis/{API_VERSION}"
COMPILED = f"{ROOT}/compiledprovenancepolicies"
NODES = f"{ROOT}/provenancenodes"
TENANTS = f"{ROOT}/provenancetenants"
NOW = "2026-11-26T00:00:00Z"

pytestmark = pytest.mark.usefixtures("definitions")


def document(kind: str, name: str, spec: object, **metadata: object) -> dict[str, Any]:
    return {
        "apiVersion": API_VERSION,
        "kind": kind,
        "metadata": {"name": name, **metadata},
        "spec": spec,
    }


def condition(kind: str, reason: str) -> dict[str, Any]:
    return {
        "type": kind,
        "status": "True",
        "observedGeneration": 1,
        "lastTransitionTime": NOW,
        "reason": reason,
        "message": "in order",
    }


def refusal(api: Api, path: str, body: object) -> str:
    """What is said against putting an object in the place of what is there."""
    answer = api.exchange("PUT", path, body)
    assert answer.status == 422, answer
    return str(answer.error)


@pytest.fixture
def compiled(api: Api) -> Iterator[dict[str, Any]]:
    policy = compile_policy(default_policy())
    body = document(
        "CompiledProvenancePolicy",
        policy.hash,
        {"canonical": policy.canonical},
        labels={CONTENT_LABEL: CONTENT_POLICY},
    )
    yield api.create(COMPILED, body)
    api.delete(f"{COMPILED}/{policy.hash}")


@pytest.fixture
def auditor(api: Api, namespace: str) -> dict[str, Any]:
    body = document("ProvenanceAuditor", "leaks", {"secretName": "leaks", "durable": "leaks"})
    return api.create(f"{ROOT}/namespaces/{namespace}/provenanceauditors", body)


def test_compiled_policy_comes_back_byte_by_byte(api: Api, compiled: dict[str, Any]) -> None:
    name = compiled["metadata"]["name"]
    stored = api.get(f"{COMPILED}/{name}")["spec"]["canonical"]
    assert decode_policy(stored) == compile_policy(default_policy())
    assert decode_policy(stored).hash == name


def test_largest_set_of_references_comes_back_as_it_was(api: Api) -> None:
    namespaces = tuple(f"{number:063}" for number in range(4096))
    references = [PolicyReference(None, namespaces, "all", "headwater-platform", "a" * 64)]
    references += [
        PolicyReference("n" * 63, (), f"{number:0253}", "t" * 63, "b" * 64)
        for number in range(1023)
    ]
    name = reference_set_name(references)
    listed = [one.as_json() for one in sorted_references(references)]
    api.create(COMPILED, document("CompiledProvenancePolicy", name, {"references": listed}))
    try:
        stored = decode_references(api.get(f"{COMPILED}/{name}")["spec"]["references"])
        assert reference_set_name(stored) == name
        # What may not change is compared as a whole, whatever its size.
        labelled = {"metadata": {"labels": {CONTENT_LABEL: CONTENT_SET}}}
        assert api.patch(f"{COMPILED}/{name}", labelled)["metadata"]["labels"]
        with pytest.raises(ApiError, match="cannot be changed"):
            api.patch(f"{COMPILED}/{name}", {"spec": {"references": listed[1:]}})
    finally:
        api.delete(f"{COMPILED}/{name}")


def test_compiled_policy_cannot_be_changed(api: Api, compiled: dict[str, Any]) -> None:
    path = f"{COMPILED}/{compiled['metadata']['name']}"
    others: list[dict[str, Any]] = [{"canonical": "{}"}, {"references": []}]
    for spec in others:
        said = refusal(api, path, {**compiled, "spec": spec})
        assert "spec: Invalid value" in said
        assert "cannot be changed, its name is the SHA-256 of its content; create another" in said
    references = [{"namespace": "shop", "name": "web", "tenant": "acme", "hash": "a" * 64}]
    said = refusal(api, path, {**compiled, "spec": {**compiled["spec"], "references": references}})
    assert "has both or neither of canonical and references; write exactly one" in said
    labelled = copy.deepcopy(compiled)
    labelled["metadata"]["labels"]["seen"] = "yes"
    assert api.replace(path, labelled)["spec"] == compiled["spec"]


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("secretName", "other", "programs have the old Secret mounted; create another"),
        ("durable", "other", "the place in the stream would be lost; create another"),
        ("durable", None, "has durable added or removed, and the place in the stream"),
    ],
)
def test_auditor_keeps_its_secret_and_its_place(
    api: Api, namespace: str, auditor: dict[str, Any], field: str, value: str | None, message: str
) -> None:
    path = f"{ROOT}/namespaces/{namespace}/provenanceauditors/leaks"
    changed = copy.deepcopy(auditor)
    changed["spec"][field] = value
    if value is None:
        del changed["spec"][field]
    assert message in refusal(api, path, changed)


def test_auditor_may_change_what_it_reads(
    api: Api, namespace: str, auditor: dict[str, Any]
) -> None:
    path = f"{ROOT}/namespaces/{namespace}/provenanceauditors/leaks"
    said = api.patch(path, {"spec": {"filter": {"classes": ["gap"]}, "credentialLife": "2h"}})
    assert said["spec"]["filter"]["classes"] == ["gap"]
    assert said["metadata"]["generation"] == 2


def longest_selector() -> dict[str, Any]:
    """All that the definitions let a selector have."""

    def key(number: int) -> str:
        return f"{'p' * 250}/{number:063}"

    return {
        "matchLabels": {key(number): "v" * 63 for number in range(32)},
        "matchExpressions": [
            {
                "key": key(32 + number // 2),
                "operator": operator,
                "values": [f"{operator}{value:02}{'x' * 50}" for value in range(32)],
            }
            for number in range(0, 16, 2)
            for operator in ("In", "NotIn")
        ],
    }


def test_rules_can_be_paid_for_on_the_largest_policy(api: Api) -> None:
    """The server ends the evaluation of an object's rules when it costs too much."""
    spec = {
        "namespaceSelector": longest_selector(),
        "nodeSelector": longest_selector(),
        "podSelector": longest_selector(),
        "filters": {
            "nodes": [vertex.camflow for vertex in VertexType][1:],
            "relations": [relation.camflow for relation in Relation][1:],
        },
    }
    body = document("ClusterProvenancePolicy", "n" * 253, spec)
    api.create(f"{ROOT}/clusterprovenancepolicies", body, dryRun="All", fieldValidation="Strict")


def test_status_is_apart_from_the_spec(api: Api, namespace: str) -> None:
    path = f"{ROOT}/namespaces/{namespace}/provenancepolicies"
    body = document("ProvenancePolicy", "all", {"podSelector": {}})
    made = api.create(path, {**body, "status": {"hash": "a" * 64}})
    assert "status" not in made
    said = api.patch(f"{path}/all/status", {"status": {"lost": 3}, "spec": {"suspend": True}})
    assert said["status"] == {"lost": 3}
    assert said["spec"]["suspend"] is False
    assert said["metadata"]["generation"] == 1


POLICY_STATUS: dict[str, Any] = {
    "observedGeneration": 1,
    "hash": "a" * 64,
    "tenant": "acme",
    "stream": "PROV",
    "subject": "prov.v1.>",
    "nodes": {"desired": 3, "programmed": 1, "failed": 1, "unsupported": 1},
    "failingNodes": [{"node": "node-a", "reason": "Unsupported", "message": "no BTF"}],
    "lost": 2**40,
    "conditions": [condition("Accepted", "Accepted"), condition("Programmed", "Waiting")],
}
NODE_STATUS: dict[str, Any] = {
    "observedGeneration": 1,
    "captureMode": "lsm",
    "kernel": "6.12.0",
    "lsm": ["lockdown", "bpf"],
    "machineId": "a" * 32,
    "bootId": "b" * 36,
    "agentVersion": "0.1.0",
    "epoch": 2**33,
    "policySets": ["a" * 64],
    "scopedCgroups": 7,
    "lost": {
        "total": 5,
        "byReason": [{"reason": "ring_full", "count": 5}],
        "byTenant": [{"tenant": "acme", "count": 5}],
    },
    "failures": [
        {"namespace": "shop", "name": "web", "hash": "a" * 64, "reason": "NoSlot", "message": "x"},
        {"name": "all", "reason": "Unreadable", "message": "x"},
    ],
    "startedAt": NOW,
    "lastReported": NOW,
    "conditions": [condition("Ready", "Applied")],
}


def test_policy_shows_what_became_of_it(
    api: Api, control_plane: ControlPlane, namespace: str
) -> None:
    path = f"{ROOT}/namespaces/{namespace}/provenancepolicies"
    api.create(path, document("ProvenancePolicy", "all", {"podSelector": {}}))
    said = api.patch(f"{path}/all/status", {"status": POLICY_STATUS})
    assert said["status"] == POLICY_STATUS
    table = control_plane.kubectl("-n", namespace, "get", "provpol", "-o", "wide")
    names, values = (line.split() for line in table.splitlines())
    columns = "NAME CAPTURE TENANT DESIRED PROGRAMMED FAILED LOST SUSPENDED READY REASON AGE"
    assert " ".join(names) == columns
    assert " ".join(values[:-1]) == f"all all acme 3 1 1 {2**40} false True Waiting"


def test_policy_of_the_platform_has_the_same_status(api: Api) -> None:
    path = f"{ROOT}/clusterprovenancepolicies"
    name = f"test-{secrets.token_hex(4)}"
    spec: dict[str, Any] = {"namespaceSelector": {}, "podSelector": {}}
    made = api.create(path, document("ClusterProvenancePolicy", name, spec))
    assert made["spec"]["nodeSelector"] == {}
    said = api.patch(f"{path}/{name}/status", {"status": POLICY_STATUS})
    assert said["status"] == POLICY_STATUS
    api.delete(f"{path}/{name}")


def test_node_reports_all_that_it_has_to(api: Api, control_plane: ControlPlane) -> None:
    name = f"node-{secrets.token_hex(4)}"
    sets = [f"{number:064x}" for number in range(REFERENCE_SETS)]
    api.create(NODES, document("ProvenanceNode", name, {"policySets": sets}))
    said = api.patch(f"{NODES}/{name}/status", {"status": NODE_STATUS})
    assert said["status"] == NODE_STATUS
    table = control_plane.kubectl("get", "provnode", name)
    names, values = (line.split() for line in table.splitlines())
    assert names == ["NAME", "MODE", "KERNEL", "CGROUPS", "LOST", "READY", "AGE"]
    assert values[:-1] == [name, "lsm", "6.12.0", "7", "5", "True"]
    api.patch(f"{NODES}/{name}", {"spec": {"policySets": sets[:1]}})
    api.delete(f"{NODES}/{name}")


def test_spec_of_a_node_is_small(api: Api) -> None:
    name = "n" * 253
    sets = [f"{number:064x}" for number in range(REFERENCE_SETS)]
    made = api.create(NODES, document("ProvenanceNode", name, {"policySets": sets}))
    assert len(str(made["spec"])) < 4096
    api.delete(f"{NODES}/{name}")


@pytest.mark.parametrize(
    ("status", "where"),
    [
        ({"captureMode": "kprobe"}, "status.captureMode"),
        ({"scopedCgroups": -1}, "status.scopedCgroups"),
        (
            {"policySets": [f"{number:064x}" for number in range(REFERENCE_SETS + 1)]},
            "status.policySets",
        ),
        ({"failures": [NODE_STATUS["failures"][1]] * 17}, "status.failures"),
        ({"lost": {"byReason": [{"reason": "a"}]}}, "status.lost.byReason[0].count"),
        ({"conditions": [{**condition("Ready", "Ok"), "status": "Yes"}]}, "status.conditions[0]"),
        ({"conditions": [condition("Ready", "not a word")]}, "status.conditions[0].reason"),
        ({"startedAt": "yesterday"}, "status.startedAt"),
    ],
)
def test_status_is_bounded_too(api: Api, status: dict[str, Any], where: str) -> None:
    name = f"node-{secrets.token_hex(4)}"
    api.create(NODES, document("ProvenanceNode", name, {}))
    answer = api.exchange(
        "PATCH",
        f"{NODES}/{name}/status",
        {"status": status},
        content_type="application/merge-patch+json",
    )
    api.delete(f"{NODES}/{name}")
    assert answer.status == 422, answer
    assert where in str(answer.error)


def test_tenant_says_what_it_owns(api: Api, control_plane: ControlPlane) -> None:
    name = f"test-{secrets.token_hex(4)}"
    api.create(TENANTS, document("ProvenanceTenant", name, {"namespaceSelector": {}}))
    status = {
        "observedGeneration": 1,
        "namespaceCount": 65,
        "namespaces": [f"ns-{number:02}" for number in range(64)],
        "conditions": [condition("Accepted", "NamespaceConflict")],
    }
    assert api.patch(f"{TENANTS}/{name}/status", {"status": status})["status"] == status
    table = control_plane.kubectl("get", "provtenant", name)
    assert table.splitlines()[1].split()[:-1] == [
        *(name, "65", "1Gi", "168h", "True", "NamespaceConflict")
    ]
    api.delete(f"{TENANTS}/{name}")


def test_compiled_policies_say_what_they_are(
    control_plane: ControlPlane, compiled: dict[str, Any]
) -> None:
    table = control_plane.kubectl("get", "provcomp", compiled["metadata"]["name"])
    names, values = (line.split() for line in table.splitlines())
    assert names == ["NAME", "CONTENT", "AGE"]
    assert values[1] == CONTENT_POLICY


@pytest.mark.parametrize(
    ("kind", "plural", "spec"),
    [
        ("ProvenancePolicy", "provenancepolicies", {"podSelector": {}}),
        ("ProvenanceAuditor", "provenanceauditors", {"secretName": "leaks"}),
    ],
)
def test_defaults_are_those_of_local_mode(
    api: Api, namespace: str, kind: str, plural: str, spec: dict[str, Any]
) -> None:
    path = f"{ROOT}/namespaces/{namespace}/{plural}"
    made = api.create(path, document(kind, "defaults", spec))["spec"]
    schema = resource_kinds()[kind].schema.properties["spec"]
    wanted = {
        name: below.fresh_default()
        for name, below in schema.properties.items()
        if below.has_default
    }
    assert made == {**wanted, **spec}


def test_every_rule_that_is_broken_is_reported(api: Api, namespace: str) -> None:
    """A person corrects everything at once, in a cluster as with policy check."""
    spec = {
        "podSelector": {},
        "containers": ["web"],
        "opaque": [{"executable": "relative"}],
        "track": [{"executable": "/bin/sh"}],
    }
    answer = api.exchange(
        "POST",
        f"{ROOT}/namespaces/{namespace}/provenancepolicies",
        document("ProvenancePolicy", "all", spec),
    )
    assert answer.status == 422
    said = str(answer.error)
    for field in ("spec.containers", "spec.opaque[0].executable", "spec.track"):
        assert f"{field}: Invalid value" in said
