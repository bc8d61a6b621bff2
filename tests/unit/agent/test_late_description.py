# SPDX-License-Identifier: Apache-2.0
"""What a node learns late of a container comes with its tasks' next versions, and then always."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from headwater_agent.pipeline import Pipeline
from headwater_prov.vocabulary import Relation

from bench.pipeline.simulation import Process, SimulatedKernel
from bench.pipeline.workloads import random_workload
from tests.unit.agent.harness import (
    CGROUP,
    CLOCK_OFFSET_NS,
    NODE,
    Fed,
    Workload,
    document_of,
)

POD = Workload("shop", "web-1", "uid-1", is_complete=False)
WHOLE = Workload("shop", "web-1", "uid-1", "main", "sha256:1")


def fed() -> Fed:
    kernel = SimulatedKernel(Random(7))
    fed = Fed(kernel, Pipeline(NODE, clock_offset_ns=CLOCK_OFFSET_NS))
    fed.bind(1, "alpha", epoch=11)
    return fed


def tasks(fed: Fed) -> dict[str, list[dict[str, Any]]]:
    """Declarations of tasks by object; empties what was fed."""
    fed.read()
    batches = fed.batches + fed.pipeline.flush()
    fed.batches = []
    found: dict[str, list[dict[str, Any]]] = {}
    for batch in batches:
        if batch.klass == "graph":
            for name, members in document_of(batch).get("activity", {}).items():
                found.setdefault(name.rpartition(".")[0], []).append(members)
    return found


def work(kernel: SimulatedKernel, who: list[Process], turns: int) -> None:
    """Each process reads and writes a file of its own: a new version of the task at each turn."""
    for process in who:
        thing = kernel.inode(process.cpu, 1, "/f")
        for _ in range(turns):
            kernel.used(process, Relation.READ, thing)
            kernel.generated(process, Relation.WRITE, thing)


@pytest.mark.parametrize("first", [POD, None])
def test_name_that_comes_late_is_said_once_of_each_task_that_goes_on(
    first: Workload | None,
) -> None:
    node = fed()
    who = [node.kernel.process(0, 1, 100 + number) for number in range(5)]
    if first is not None:
        node.pipeline.describe(CGROUP, "alpha", first)
    work(node.kernel, who, 2)
    before = tasks(node)
    assert len(before) == 5
    for declarations in before.values():
        assert "cf:pid" in declarations[0]
        assert ("hw:pod" in declarations[0]) is (first is not None)
        assert not any("hw:container" in each for each in declarations)
    node.pipeline.describe(CGROUP, "alpha", WHOLE)
    who.append(node.kernel.process(0, 1, 200))
    work(node.kernel, who, 3)
    after = tasks(node)
    assert len(after) == 6
    for name, declarations in after.items():
        assert len(declarations) > 1
        assert ("cf:pid" in declarations[0]) is (name not in before)
        assert declarations[0]["hw:container"] == "main"
        assert declarations[0]["hw:imageDigest"] == "sha256:1"
        assert declarations[0]["hw:podUid"] == "uid-1"
        assert not any("hw:container" in each for each in declarations[1:])


def test_name_that_comes_in_two_steps_is_complete_in_the_end() -> None:
    node = fed()
    who = [node.kernel.process(0, 1, 100)]
    work(node.kernel, who, 1)
    tasks(node)
    node.pipeline.describe(CGROUP, "alpha", POD)
    work(node.kernel, who, 1)
    (declarations,) = tasks(node).values()
    assert declarations[0]["hw:pod"] == "web-1"
    node.pipeline.describe(CGROUP, "alpha", WHOLE)
    work(node.kernel, who, 1)
    (declarations,) = tasks(node).values()
    assert declarations[0]["hw:container"] == "main"


def test_nothing_is_said_twice_of_a_cgroup_that_is_known_in_time() -> None:
    node = fed()
    node.pipeline.describe(CGROUP, "alpha", WHOLE)
    random_workload(node.kernel, [1], 500)
    tasks(node)
    node.pipeline.describe(CGROUP, "alpha", WHOLE)
    random_workload(node.kernel, [1], 500)
    for declarations in tasks(node).values():
        for each in declarations:
            assert ("hw:container" in each) is ("cf:pid" in each)


def test_forgotten_cgroup_is_described_no_more() -> None:
    node = fed()
    node.pipeline.describe(CGROUP, "alpha", WHOLE)
    node.pipeline.forget(CGROUP)
    random_workload(node.kernel, [1], 200)
    found = tasks(node)
    assert found
    assert not any("hw:pod" in each for members in found.values() for each in members)
