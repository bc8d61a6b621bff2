# SPDX-License-Identifier: Apache-2.0
"""The model never goes back, whichever of list, watch and answer comes late."""

from __future__ import annotations

from typing import Any

from headwater_operator.cluster.kinds import COMPILED, NODES, POLICIES, READ
from headwater_operator.cluster.observed import Cluster, Observed, observe


def policy(version: int, uid: str = "u", **spec: Any) -> Observed:
    metadata = {
        "namespace": "shop",
        "name": "web",
        "uid": uid,
        "resourceVersion": str(version),
        "generation": version,
    }
    return observe(POLICIES, {"metadata": metadata, "spec": spec})


KEY = ("shop", "web")


def test_late_event_is_no_news() -> None:
    cluster = Cluster()
    assert cluster.put(policy(5, a=1))
    assert not cluster.put(policy(4, a=0))
    assert not cluster.put(policy(5, a=1))
    assert cluster.of(POLICIES)[KEY].spec == {"a": 1}


def test_answer_that_comes_after_the_deletion_does_not_bring_it_back() -> None:
    cluster = Cluster()
    cluster.put(policy(5))
    assert cluster.remove(POLICIES, KEY, "u")
    assert not cluster.put(policy(6))
    assert not cluster.of(POLICIES)
    assert cluster.put(policy(7, uid="another"))


def test_deletion_of_an_earlier_object_leaves_the_present_one() -> None:
    cluster = Cluster()
    cluster.put(policy(7, uid="new"))
    assert not cluster.remove(POLICIES, KEY, "old")
    assert not cluster.put(policy(6, uid="old"))
    assert cluster.of(POLICIES)[KEY].uid == "new"


def test_list_drops_what_is_missing_unless_it_is_newer_than_the_list() -> None:
    cluster = Cluster()
    cluster.put(policy(5))
    assert cluster.relist(POLICIES, [], version=4) == (0, 0)
    assert cluster.relist(POLICIES, [], version=5) == (0, 1)
    assert not cluster.of(POLICIES)


def test_complete_only_when_every_kind_was_listed() -> None:
    cluster = Cluster()
    for kind in READ:
        assert not cluster.is_complete
        cluster.relist(kind, [], version=1)
    assert cluster.is_complete


def test_changes_are_told_and_repetitions_are_not() -> None:
    told: list[tuple[object, object]] = []
    cluster = Cluster(lambda old, new: told.append((old, new)))
    first, second = policy(1, a=1), policy(2, a=2)
    for one in (first, first, second):
        cluster.put(one)
    cluster.remove(POLICIES, KEY, "u")
    assert told == [(None, first), (first, second), (second, None)]


def test_heartbeat_of_a_node_is_no_change() -> None:
    told: list[object] = []
    cluster = Cluster(lambda _old, new: told.append(new))
    for version in (1, 2):
        metadata = {"name": "n", "uid": "u", "resourceVersion": str(version), "labels": {"a": "b"}}
        body = {
            "metadata": metadata,
            "spec": {"taints": [{"key": "t", "effect": "NoSchedule"}], "podCIDR": "10.0.0.0/24"},
            "status": {
                "images": ["x" * 1000],
                "conditions": [{"lastHeartbeatTime": version}],
                "nodeInfo": {"machineID": "m", "bootID": "b"},
            },
        }
        cluster.put(observe(NODES, body))
    assert len(told) == 1
    assert cluster.of(NODES)["", "n"].spec == {"taints": ["t"]}
    assert cluster.of(NODES)["", "n"].status == {"machineID": "m"}


def test_texts_of_compiled_policies_are_not_kept() -> None:
    metadata = {"name": "h", "uid": "u"}
    one = observe(COMPILED, {"metadata": metadata, "spec": {"canonical": "x" * 10_000}})
    assert one.spec == {}
