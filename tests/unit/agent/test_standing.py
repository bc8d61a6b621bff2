# SPDX-License-Identifier: Apache-2.0
"""What an acting task is (set-up, gone from its pod) its edges say, and itself as it changes."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from headwater_agent.layout import STANDING, Mark
from headwater_prov.vocabulary import Relation

from bench.pipeline.simulation import Process, SimulatedKernel, Thing
from tests.unit.agent.harness import document_of, feed

CASES = [(mark, name) for mark, name in STANDING.items()]


def turn(kernel: SimulatedKernel, who: Process, file: Thing) -> None:
    """A version of the task that has sent, so that the next one is new."""
    kernel.used(who, Relation.READ, file)
    kernel.generated(who, Relation.WRITE, file)


@pytest.mark.parametrize(("mark", "name"), CASES)
def test_edges_say_it_as_long_as_it_holds(mark: Mark, name: str) -> None:
    kernel = SimulatedKernel(Random(1))

    def work() -> None:
        who, file = kernel.process(0, 1, 4711), kernel.inode(0, 1, "/x")
        who.standing = mark
        kernel.name(who, file)
        kernel.arguments(who, b"runtime")
        turn(kernel, who, file)
        kernel.exit(who)
        turn(kernel, kernel.process(0, 1, 4712), file)

    fed = feed(kernel, {1: "alpha"}, work)
    before: list[dict[str, Any]] = []
    after: list[dict[str, Any]] = []
    for batch in fed.batches:
        if batch.klass == "graph":
            document = document_of(batch)
            (ends,) = (
                int(key.split(".")[1])
                for key, each in document["wasInformedBy"].items()
                if each["prov:type"]["$"] == "cf:terminate_task"
            )
            for section, members in document.items():
                if section in ("prefix", "entity", "activity", "agent"):
                    continue
                for key, each in members.items():
                    (before if int(key.split(".")[1]) <= ends + 1 else after).append(each)
    assert before and all(each.get(name) is True for each in before)
    assert after and not any(name in each for each in after)


@pytest.mark.parametrize("duplicate", [[], [1]])
@pytest.mark.parametrize(("mark", "name"), CASES)
def test_task_says_it_and_no_more_from_the_version_on_that_ends_it(
    mark: Mark, name: str, duplicate: list[int]
) -> None:
    kernel = SimulatedKernel(Random(1))

    def work() -> None:
        who, file = kernel.process(0, 1, 4711), kernel.inode(0, 1, "/x")
        who.standing = mark
        turn(kernel, who, file)
        turn(kernel, who, file)
        who.standing = Mark(0)
        turn(kernel, who, file)
        turn(kernel, who, file)
        kernel.change(who, who.task)

    fed = feed(kernel, {1: "alpha"}, work, duplicate=duplicate)
    said: dict[int, Any] = {}
    for batch in fed.batches:
        for vertex in document_of(batch).get("activity", {}).values():
            said[vertex["cf:version"]] = vertex.get(name)
    known = [said[version] for version in sorted(said)]
    last = known.pop()
    if duplicate:
        begin = known.index(False)
        assert known[:begin] == [True] * begin
        assert set(known[begin:]) == {False}
    else:
        assert known[0] is True
        assert [each for each in known[1:] if each is not None] == [False]
    assert last is False  # as the task was described again
