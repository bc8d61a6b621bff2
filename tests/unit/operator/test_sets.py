# SPDX-License-Identifier: Apache-2.0
"""A set stays small enough for etcd, and the oldest policies stay in it."""

from __future__ import annotations

import json

from headwater_operator.cluster.judging import EVERY_NODE, Judgement
from headwater_operator.cluster.kinds import CLUSTER_POLICIES, NODES, POLICIES, Kind
from headwater_operator.cluster.observed import Observed, observe
from headwater_operator.cluster.sets import divide
from headwater_prov.policy import (
    REFERENCE_SETS,
    REFERENCES_MAX,
    PolicyReference,
    compile_policy,
    default_policy,
)

COMPILED = compile_policy(default_policy())


def judgement(
    name: str, created: int, *, namespace: str = "", namespaces: tuple[str, ...] = ()
) -> Judgement:
    kind: Kind = POLICIES if namespace else CLUSTER_POLICIES
    metadata = {
        "name": name,
        "namespace": namespace,
        "uid": f"{namespace}/{name}",
        "creationTimestamp": f"{created:08}",
    }
    policy = observe(kind, {"metadata": metadata, "spec": {}})
    reference = PolicyReference(namespace or None, namespaces, name, "tenant", COMPILED.hash)
    return Judgement(policy, "tenant", reference, COMPILED, EVERY_NODE, "Accepted", "in order")


def nodes(*labels: dict[str, str]) -> list[Observed]:
    return [
        observe(NODES, {"metadata": {"name": f"n{number}", "uid": f"u{number}", "labels": each}})
        for number, each in enumerate(labels)
    ]


def test_any_number_of_policies_is_a_handful_of_names_for_a_node() -> None:
    policies = [judgement("p", 1, namespace=f"ns-{number}") for number in range(2_000)]
    policies += [judgement(f"c{number}", 1, namespaces=("a", "b")) for number in range(5)]
    desired = divide(policies, nodes({}, {}))
    assert len(desired.nodes["n0"]) == REFERENCE_SETS
    assert sum(len(desired.sets[name]) for name in desired.nodes["n1"]) == 2_005
    assert len(json.dumps(desired.nodes["n0"])) < 4096
    assert set(desired.told.values()) == {2}


def test_full_set_keeps_the_oldest() -> None:
    members = [
        judgement(f"p{number}", 5_000 - number, namespace="one")
        for number in range(REFERENCES_MAX + 3)
    ]
    desired = divide(members, nodes({}))
    assert desired.left_out == {"one/p0", "one/p1", "one/p2"}
    (only,) = desired.sets.values()
    assert len(only) == REFERENCES_MAX


def test_policies_of_the_platform_that_list_too_much_are_left_out() -> None:
    everywhere = tuple(sorted(f"{number:063}" for number in range(4_000)))
    members = [judgement(f"c{number}", number, namespaces=everywhere) for number in range(5)]
    desired = divide(members, nodes({}))
    assert desired.left_out == {"/c3", "/c4"}
    (only,) = desired.sets.values()
    assert len(json.dumps([one.as_json() for one in only])) < 1_000_000


def test_same_policies_in_any_order_are_the_same_sets() -> None:
    policies = [judgement("p", number, namespace=f"ns-{number}") for number in range(100)]
    assert divide(policies, nodes({})).sets == divide(policies[::-1], nodes({})).sets
