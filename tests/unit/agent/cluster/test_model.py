# SPDX-License-Identifier: Apache-2.0
"""What is held of the API server's word: oddities change nothing, deletion takes nothing back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from headwater_agent.cluster.cache import ConfigurationCache
from headwater_agent.cluster.model import NodeModel, PodModel
from headwater_agent.cluster.resources import ForeignContentError, NodeSpec, node_spec

HASH = "ab" * 32


def node(generation: int = 1, *sets: str, uid: str = "u") -> dict[str, Any]:
    return {
        "metadata": {"generation": generation, "uid": uid},
        "spec": {"policySets": list(sets)},
        "status": {"epoch": 3},
    }


def pod(uid: str, **labels: str) -> dict[str, Any]:
    return {"metadata": {"uid": uid, "namespace": "n", "name": uid, "labels": labels}}


def test_spec_is_held_through_deletion_and_told_when_it_or_the_object_is_another() -> None:
    told: list[NodeSpec | None] = []
    model = NodeModel(lambda: told.append(model.spec))
    model.replace([node(1, HASH)])
    model.change(node(1, HASH))
    assert told == [NodeSpec(1, (HASH,))]
    assert model.status == {"epoch": 3}
    model.replace([])
    assert (model.exists, model.spec) == (False, NodeSpec(1, (HASH,)))
    model.change(node(1, HASH, uid="v"))
    assert len(told) == 2
    model.change(node(2))
    assert told[-1] == NodeSpec(2, ())


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"metadata": {"generation": "1"}},
        {"metadata": {}, "spec": []},
        {"metadata": {}, "spec": {"policySets": "x"}},
        {"metadata": {}, "spec": {"policySets": ["x"]}},
        {"metadata": {}, "spec": {"policySets": [7]}},
        {"metadata": {}, "spec": {"policySets": [HASH + "\n"]}},
        {"metadata": {}, "spec": {"policySets": [f"{n:064x}" for n in range(33)]}},
    ],
)
def test_spec_that_does_not_follow_the_contract_changes_nothing(content: dict[str, Any]) -> None:
    with pytest.raises(ForeignContentError):
        node_spec(content)
    model = NodeModel(lambda: None)
    model.change(node(1, HASH))
    model.change(content)
    assert model.spec == NodeSpec(1, (HASH,))


def test_pods_are_told_when_they_are_others_and_kept_on_disk(tmp_path: Path) -> None:
    cache = ConfigurationCache(tmp_path / "c")
    told: list[set[str]] = []
    model = PodModel(cache, lambda: told.append(set(model.pods)))
    model.replace([pod("a"), pod("b"), {"metadata": {}}])
    model.change(pod("a"))
    model.change({"metadata": {"uid": "x"}})
    model.change(pod("a", app="web"))
    model.remove(pod("b"))
    model.remove(pod("c"))
    assert told == [set(), {"a", "b"}, {"a", "b"}, {"a"}], "first, that these are all"
    model.keep()
    again = PodModel(cache, lambda: None)
    again.recall()
    assert again.pods == model.pods
    assert again.namespaces() == {"n"}


@pytest.mark.parametrize("text", ["{}", '{"pods": 7}', '{"pods": [{"uid": 1}]}', "["])
def test_damaged_pods_are_none(tmp_path: Path, text: str) -> None:
    cache = ConfigurationCache(tmp_path / "c")
    (tmp_path / "c" / "pods.json").write_text(text)
    model = PodModel(cache, lambda: None)
    model.recall()
    assert not model.pods
