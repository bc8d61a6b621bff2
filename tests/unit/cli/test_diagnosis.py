# SPDX-License-Identifier: Apache-2.0
"""Why a policy is not in force: each link of the way from its text to a node's kernel."""

from typing import Any

import pytest
from headwater_cli.diagnosis import first_obstacle, is_in_force, of_node, of_policy

NOW = "2026-11-26T12:00:00Z"


def condition(kind: str, reason: str, *, holds: bool) -> dict[str, str]:
    return {"type": kind, "status": str(holds), "reason": reason, "message": f"{reason} it is"}


def policy(**status: Any) -> dict[str, Any]:
    conditions = [
        condition("Accepted", "Accepted", holds=True),
        condition("Programmed", "Programmed", holds=True),
    ]
    return {
        "kind": "ProvenancePolicy",
        "metadata": {"name": "web", "namespace": "shop", "generation": 2},
        "spec": {"podSelector": {}, "nodeSelector": {"matchLabels": {"pool": "a"}}},
        "status": {"observedGeneration": 2, "conditions": conditions} | status,
    }


def node(**labels: str) -> dict[str, Any]:
    return {"metadata": {"name": "n1", "labels": labels}}


def told(**status: Any) -> dict[str, Any]:
    said = {"captureMode": "lsm", "lastReported": NOW, "policySets": ["x"]} | status
    return {"metadata": {"name": "n1"}, "spec": {"policySets": ["x"]}, "status": said}


def on_node(*arguments: Any) -> list[str]:
    return [each.what for each in of_node(policy(), "n1", *arguments)]


def test_nothing_stands_in_the_way() -> None:
    assert is_in_force(policy())
    assert list(of_policy(policy())) == []
    assert on_node(node(pool="a"), told()) == []


def test_an_operator_that_has_not_looked() -> None:
    (obstacle,) = of_policy(policy(conditions=[]))
    assert "has not looked" in obstacle.what and obstacle.remedy
    assert not is_in_force(policy(conditions=[]))


def test_an_edit_that_the_operator_has_not_seen() -> None:
    (obstacle,) = of_policy(policy(observedGeneration=1))
    assert "generation 2" in obstacle.what


def test_a_condition_that_does_not_hold_is_quoted_with_its_message() -> None:
    refused = policy(conditions=[condition("Accepted", "NoTenant", holds=False)])
    assert first_obstacle(refused) == "NoTenant"
    (obstacle,) = of_policy(refused)
    assert obstacle.what == "Accepted is False (NoTenant): NoTenant it is"


def test_failing_nodes_are_named() -> None:
    failing = [{"node": "n7", "reason": "Unsupported", "message": "no BTF"}]
    assert [each.what for each in of_policy(policy(failingNodes=failing))] == [
        "node n7: Unsupported: no BTF"
    ]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((None, None), 'there is no node "n1"'),
        ((node(pool="b"), told()), "spec.nodeSelector does not select"),
        ((node(pool="a"), None), "no ProvenanceNode"),
        ((node(pool="a"), {**told(), "status": {}}), "never reported"),
        ((node(pool="a"), told(captureMode="unsupported")), "cannot capture"),
        ((node(pool="a"), told(policySets=["old"])), NOW),
        (
            (node(pool="a"), told(conditions=[condition("Ready", "NoStream", holds=False)])),
            "Ready is False (NoStream)",
        ),
        (
            (
                node(pool="a"),
                told(
                    failures=[
                        {"namespace": "other", "name": "web", "reason": "X", "message": "x"},
                        {"namespace": "shop", "name": "web", "reason": "ScopeFull", "message": "m"},
                    ]
                ),
            ),
            "cannot apply it (ScopeFull): m",
        ),
    ],
)
def test_what_stands_in_the_way_on_a_node(arguments: tuple[Any, ...], expected: str) -> None:
    (obstacle,) = on_node(*arguments)
    assert expected in obstacle
