# SPDX-License-Identifier: Apache-2.0
"""The compiled renderer says exactly what the reference says, on workloads of every kind."""

from __future__ import annotations

from random import Random

import pytest
from headwater_agent.decode import AnyRecord, decode
from headwater_agent.reference import ReferenceRenderer, count_elements
from headwater_prov.vocabulary import Relation
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.pipeline.simulation import SimulatedKernel
from bench.pipeline.workloads import random_workload
from tests.unit.agent.harness import (
    CGROUP,
    CLOCK_OFFSET_NS,
    KEYS,
    NODE,
    Fed,
    document_of,
    feed,
)

TENANTS = {1: "alpha", 2: "beta", 3: "alpha"}
EPOCHS = {11: ("alpha", 1), 12: ("beta", 1), 13: ("alpha", 2), 21: ("alpha", 3)}
"""Tenant and its own epoch number by epoch token."""


def compare(fed: Fed) -> int:
    """Render what was fed by the reference, cut where the batches were cut, compare all."""
    compared = 0
    for tenant in set(TENANTS.values()):
        reference = ReferenceRenderer(
            KEYS[tenant],
            NODE,
            CLOCK_OFFSET_NS,
            {slot for slot, owner in TENANTS.items() if owner == tenant}.__contains__,
            {CGROUP: ("shop", "web-1")},
        )
        records: list[AnyRecord] = [
            record for record in decode(bytes(fed.kernel.ring)) if TENANTS[record.slot] == tenant
        ]
        at = epoch = 0
        asked = False  # by a record of the document before
        for batch in fed.batches:
            if batch.tenant != tenant or batch.klass == "machine":
                continue
            count = batch.last - batch.first + 1
            if batch.klass == "gap":
                reference.skip(count)
                continue
            assert int(batch.headers["Hw-Epoch"]) >= epoch
            epoch = int(batch.headers["Hw-Epoch"])
            own = records[at : at + count]
            asked_before, asked = asked, any(record.epoch in fed.alone for record in own)
            assert asked_before or asked == (own[0].epoch in fed.alone)
            for record in own:
                assert EPOCHS[record.epoch][1] <= epoch
                policy = batch.headers["Hw-Policy"]
                reference.record(record, epoch, policy, stands_alone=asked or asked_before)
            at += count
            expected = reference.cut()
            found = document_of(batch)
            assert found == expected
            assert batch.headers["Hw-Count"] == str(count_elements(expected))
            compared += count
        assert at == len(records)
    return compared


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    cpus=st.integers(1, 4),
    lose=st.sampled_from([0.0, 0.0, 0.05, 0.3]),
    discard=st.sampled_from([0.0, 0.1]),
    overtaken=st.sampled_from([0.0, 0.3]),
    compress=st.booleans(),
    slots=st.sampled_from([[1], [1, 2], [1, 3], [1, 2, 3]]),
    max_records=st.sampled_from([1, 7, 4096]),
    duplicate=st.sampled_from([[], [1], [3], [1, 2, 3]]),
    steps=st.integers(0, 150),
)
def test_documents_equal_the_reference(
    seed: int,
    cpus: int,
    lose: float,
    discard: float,
    overtaken: float,
    compress: bool,
    slots: list[int],
    max_records: int,
    duplicate: list[int],
    steps: int,
) -> None:
    kernel = SimulatedKernel(
        Random(seed), cpus=cpus, lose=lose, discard=discard, overtaken=overtaken, compress=compress
    )
    fed = feed(
        kernel,
        {slot: TENANTS[slot] for slot in slots},
        lambda: random_workload(kernel, slots, steps),
        max_records=max_records,
        duplicate=duplicate,
    )
    compare(fed)


@pytest.mark.parametrize("duplicate", [(False, False), (False, True), (True, False), (True, True)])
@pytest.mark.parametrize("seed", range(5))
def test_documents_equal_the_reference_across_a_policy_edit(
    seed: int, duplicate: tuple[bool, bool]
) -> None:
    """The edit reaches one CPU first: for a while both epochs are in force."""
    kernel = SimulatedKernel(Random(seed), cpus=2)

    def work() -> None:
        random_workload(kernel, [1], 100)
        fed.bind(1, "alpha", 21, "policy 2", duplicate=duplicate[1])
        kernel.set_epoch(1, 11, range(1, 2))
        random_workload(kernel, [1], 100)
        kernel.set_epoch(1, 21)
        random_workload(kernel, [1], 100)

    slots = {1: "alpha", 3: "alpha"}
    fed = feed(kernel, slots, lambda: None, max_records=30, duplicate=[1] if duplicate[0] else [])
    work()
    fed.finish()
    assert compare(fed) > 200


@pytest.mark.parametrize("duplicate", [[], [1]])
def test_documents_equal_the_reference_when_cut_by_size(duplicate: list[int]) -> None:
    kernel = SimulatedKernel(Random(5))
    fed = feed(
        kernel,
        {1: "alpha"},
        lambda: random_workload(kernel, [1], 2_000),
        max_bytes=20_000,
        duplicate=duplicate,
    )
    assert compare(fed) > 1_000
    assert len(fed.batches) > 20


@pytest.mark.parametrize("duplicate", [[], [1]])
def test_influence_on_the_machine_equals_the_reference(duplicate: list[int]) -> None:
    kernel = SimulatedKernel(Random(1))

    def work() -> None:
        who = kernel.process(0, 1, 4711)
        for _ in range(10):
            kernel.influenced(who, Relation.LOAD_MODULE)

    fed = feed(kernel, {1: "alpha"}, work, max_records=4, duplicate=duplicate)
    assert compare(fed) == 11
