# SPDX-License-Identifier: Apache-2.0
"""Why a policy is not in force, on the whole or on one node.

Why: the answer is spread over a policy's conditions, a node's labels, what the node was told and
what its agent says of it. Here they are read in the order in which one leads to the next, and the
first that explains the rest comes first. Pure; the objects come from :mod:`.kubectl`, the words go
to `headwater doctor` and `headwater status`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from headwater_prov.policy.building import build_selector

Object = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Obstacle:
    """One thing that stands in the way."""

    what: str
    remedy: str = ""


def first_obstacle(subject: Object) -> str:
    """Reason of the first condition that does not hold; empty if all do or none is said yet."""
    return next((str(each.get("reason", "")) for each in _false_conditions(subject)), "")


def is_in_force(policy: Object) -> bool:
    """Whether every node that is to have a policy has it."""
    conditions = {
        each.get("type"): each.get("status")
        for each in policy.get("status", {}).get("conditions", [])
    }
    return conditions.get("Programmed") == "True"


def of_policy(policy: Object) -> Iterator[Obstacle]:
    """What stands in a policy's way, whatever the node."""
    status = policy.get("status", {})
    if not status.get("conditions"):
        yield Obstacle(
            "the operator has not looked at the policy yet",
            "see whether it runs: kubectl get pods --all-namespaces "
            "-l app.kubernetes.io/name=headwater",
        )
        return
    generation = policy["metadata"].get("generation", 0)
    if status.get("observedGeneration", 0) < generation:
        yield Obstacle(
            f"the operator has not looked at the last edit (generation {generation}) yet",
            "wait a few seconds; then see whether the operator runs",
        )
    for condition in _false_conditions(policy):
        yield Obstacle(
            f"{condition['type']} is False ({condition['reason']}): {condition['message']}"
        )
    for node in status.get("failingNodes", []):
        yield Obstacle(f"node {node['node']}: {node['reason']}: {node['message']}")


def of_node(
    policy: Object, name: str, node: Object | None, told: Object | None
) -> Iterator[Obstacle]:
    """What stands in a policy's way on one node.

    Args:
        policy: the ProvenancePolicy or ClusterProvenancePolicy.
        name: of the node.
        node: Kubernetes' Node, None if there is none.
        told: its ProvenanceNode, None if there is none.
    """
    if node is None:
        yield Obstacle(f'there is no node "{name}"', "kubectl get nodes lists them")
        return
    selector = build_selector(policy.get("spec", {}).get("nodeSelector") or {})
    labels = node["metadata"].get("labels") or {}
    if not selector.matches(labels):
        yield Obstacle(
            "the policy's spec.nodeSelector does not select the node",
            f"change the selector, or label the node: kubectl label node {name} KEY=VALUE",
        )
        return
    if told is None:
        yield Obstacle(
            "the operator has told the node nothing: it has no ProvenanceNode",
            "see whether the operator runs; only nodes on which some policy is to be have one",
        )
        return
    yield from _of_agent(policy, told)


def _of_agent(policy: Object, told: Object) -> Iterator[Obstacle]:
    status = told.get("status") or {}
    name = told["metadata"]["name"]
    if not status.get("lastReported"):
        yield Obstacle(
            "the node's agent has never reported",
            f"see its pod: kubectl get pods --all-namespaces --field-selector spec.nodeName={name} "
            "-l app.kubernetes.io/component=agent",
        )
        return
    if status.get("captureMode") == "unsupported":
        yield Obstacle(
            "the node's kernel cannot capture",
            "run headwater doctor on the node: it says what the kernel refuses and why",
        )
    for condition in _false_conditions(told):
        yield Obstacle(f"the agent says {_quoted(condition)}")
    metadata = policy["metadata"]
    for failure in status.get("failures", []):
        if (failure.get("namespace", ""), failure["name"]) == (
            metadata.get("namespace", ""),
            metadata["name"],
        ):
            yield Obstacle(f"the agent cannot apply it ({failure['reason']}): {failure['message']}")
    wanted = (told.get("spec") or {}).get("policySets") or []
    if sorted(wanted) != sorted(status.get("policySets") or []):
        yield Obstacle(
            "the agent does not yet apply all that the node is told; "
            f"it last reported at {status['lastReported']}",
            "wait a minute; if that does not change, see the agent's log",
        )


def _false_conditions(subject: Object) -> Iterator[Mapping[str, Any]]:
    for condition in (subject.get("status") or {}).get("conditions", []):
        if condition.get("status") == "False":
            yield condition


def _quoted(condition: Mapping[str, Any]) -> str:
    return f"{condition['type']} is False ({condition['reason']}): {condition['message']}"
