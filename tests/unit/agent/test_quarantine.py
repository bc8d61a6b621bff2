# SPDX-License-Identifier: Apache-2.0
"""Slots that are nobody's yet: what was kept goes to the owner, whole or declared (G1, G2, G5)."""

from __future__ import annotations

from random import Random

import pytest
import zstandard
from headwater_agent.batch import Batch, BatchLimits
from headwater_agent.pipeline import Pipeline, SlotBinding
from headwater_agent.quarantine_records import POLICY, wanted
from headwater_agent.settings import QuarantineSettings
from headwater_prov.document import Document
from headwater_prov.policy import CompiledPolicy
from headwater_prov.reading import parse_document
from headwater_prov.vocabulary import GapReason, Relation, VertexType
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.pipeline.simulation import SimulatedKernel
from bench.pipeline.workloads import random_workload
from tests.unit.agent.cluster.policies import compiled
from tests.unit.agent.harness import CLOCK_OFFSET_NS, KEYS, NODE, Fed, graphs, validate
from tests.unit.agent.test_pipeline import captured, ledger

WEB = compiled("web")


def start(kernel: SimulatedKernel, *, max_records: int = 4096, **bounds: int) -> Fed:
    """A pipeline with slot 1 of alpha, and slot 2 in quarantine."""
    pipeline = Pipeline(
        NODE,
        limits=BatchLimits(max_records=max_records),
        clock_offset_ns=CLOCK_OFFSET_NS,
        quarantine=QuarantineSettings(**bounds),
    )
    fed = Fed(kernel, pipeline)
    fed.bind(1, "alpha", 11)
    kernel.set_epoch(2, 12)
    pipeline.keep(2)
    return fed


def release(fed: Fed, tenant: str = "alpha", policy: CompiledPolicy = WEB) -> int:
    fed.read()
    dropped = fed.pipeline.release(SlotBinding(2, tenant, 12, POLICY.hash), KEYS[tenant], policy)
    fed.batches += fed.pipeline.take()
    return dropped


def gaps(batches: list[Batch], tenant: str) -> dict[GapReason, int]:
    counts: dict[GapReason, int] = {}
    for batch in batches:
        if batch.klass == "gap" and batch.tenant == tenant:
            for gap in parse_document(zstandard.decompress(batch.payload)).gaps:
                counts[gap.reason] = counts.get(gap.reason, 0) + gap.count
    return counts


def documents(batches: list[Batch], tenant: str) -> list[Document]:
    return [parse_document(zstandard.decompress(each.payload)) for each in graphs(batches, tenant)]


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    lose=st.sampled_from([0.0, 0.02, 0.5]),
    before=st.integers(0, 150),
    after=st.integers(0, 100),
    others=st.booleans(),
    max_records=st.sampled_from([5, 4096]),
)
def test_g1_g2_what_was_kept_goes_to_the_owner_and_keeps_every_rule(
    seed: int, lose: float, before: int, after: int, others: bool, max_records: int
) -> None:
    kernel = SimulatedKernel(Random(seed), cpus=3, lose=lose, discard=0.05, overtaken=0.1)
    fed = start(kernel, max_records=max_records)
    slots = [1, 2] if others else [2]
    for _ in range(3):
        random_workload(kernel, slots, before)
        fed.read()
    assert release(fed) == 0
    random_workload(kernel, slots, after)
    fed.finish()
    delivered, declared = ledger(fed.batches, "alpha")
    assert delivered + declared == captured(fed, [1, 2])
    found = gaps(fed.batches, "alpha")
    assert not set(found) & {GapReason.UNEXPLAINED, GapReason.QUARANTINE, GapReason.POLICY}
    if not others:
        # Of an object of two slots, what was kept comes behind what happened later elsewhere.
        validate(fed.batches, "alpha")


def test_g5_nothing_of_a_quarantined_pod_is_seen_before_it_is_released() -> None:
    kernel = SimulatedKernel(Random(1))
    fed = start(kernel)
    random_workload(kernel, [2], 200)
    fed.read()
    assert not graphs(fed.pipeline.flush(), "alpha")
    assert fed.pipeline.records == 0
    release(fed, "beta")
    fed.finish()
    assert not graphs(fed.batches, "alpha")
    assert ledger(fed.batches, "beta") == (captured(fed, [2]), 0)


def test_objects_made_in_quarantine_are_the_owners_own() -> None:
    kernel = SimulatedKernel(Random(1))
    fed = start(kernel)
    process = kernel.process(0, 2, 100, b"first")
    kernel.used(process, Relation.READ, kernel.inode(0, 2, "/secret"))
    release(fed)
    fed.finish()
    names = [
        vertex.attributes.get("cf:name")
        for document in documents(fed.batches, "alpha")
        for vertex in document.vertices.values()
    ]
    assert "first" in names


@pytest.mark.parametrize("bounds", [{"pod_bytes": 8000}, {"total_bytes": 4096 + 8192}])
def test_g2_what_finds_no_room_is_declared_and_the_beginning_is_kept(
    bounds: dict[str, int],
) -> None:
    kernel = SimulatedKernel(Random(1))
    fed = start(kernel, **bounds)
    kernel.set_epoch(3, 13)
    fed.pipeline.keep(3)
    process = kernel.process(0, 2, 100, b"first")
    kernel.used(process, Relation.READ, kernel.inode(0, 2, "/secret"))
    random_workload(kernel, [2], 400)
    random_workload(kernel, [3], 400)
    dropped = release(fed)
    assert dropped > 100
    fed.pipeline.release(SlotBinding(3, "beta", 13, POLICY.hash), KEYS["beta"], WEB)
    fed.finish()
    delivered, declared = ledger(fed.batches, "alpha")
    assert (delivered + declared, declared) == (captured(fed, [2]), dropped)
    assert delivered > 20
    assert gaps(fed.batches, "alpha") == {GapReason.QUARANTINE: dropped}
    first = documents(fed.batches, "alpha")[0]
    assert any(edge.relation is Relation.READ for edge in first.edges)


def test_room_is_given_back() -> None:
    kernel = SimulatedKernel(Random(1))
    fed = start(kernel, total_bytes=300_000)
    for turn in range(20):
        fed.pipeline.keep(2)
        random_workload(kernel, [2], 300)
        fed.read()
        if turn % 2:
            fed.pipeline.ignore(2)
        else:
            fed.pipeline.drop(2)
    fed.pipeline.keep(2)
    process = kernel.process(0, 2, 100, b"last")
    kernel.used(process, Relation.READ, kernel.inode(0, 2, "/secret"))
    assert release(fed) == 0


def test_g2_records_that_are_too_old_are_declared() -> None:
    kernel = SimulatedKernel(Random(1))
    fed = start(kernel)
    random_workload(kernel, [2], 100)
    fed.read()
    old = captured(fed, [2])
    fed.pipeline.drop(2)
    assert release(fed) == old
    random_workload(kernel, [2], 10)
    fed.finish()
    assert gaps(fed.batches, "alpha") == {GapReason.QUARANTINE: old}
    delivered, declared = ledger(fed.batches, "alpha")
    assert (delivered + declared, declared) == (captured(fed, [2]), old)


def test_what_nobody_wants_leaves_nothing() -> None:
    kernel = SimulatedKernel(Random(1))
    fed = start(kernel)
    random_workload(kernel, [2], 100)
    fed.read()
    fed.pipeline.ignore(2)
    random_workload(kernel, [2], 100)
    fed.read()
    assert all(batch.klass == "machine" for batch in fed.pipeline.flush())
    assert (fed.pipeline.records, fed.pipeline.undeclarable) == (0, 0)


MADE_BY_THE_AGENT = {Relation.VERSION_ENTITY, Relation.VERSION_ACTIVITY, Relation.RAN_ON}
NO_MEMORY_EDGES = (Relation.MEMORY_READ, Relation.MEMORY_WRITE)


@pytest.mark.parametrize(
    "off",
    [
        (Relation.ARG,),
        (Relation.READ, Relation.WRITE),
        (Relation.NAMED,),
        NO_MEMORY_EDGES,
        tuple(set(Relation) - {Relation.READ}),
    ],
)
def test_what_the_pods_policy_does_not_want_is_left_out_and_declared(
    off: tuple[Relation, ...],
) -> None:
    kernel = SimulatedKernel(Random(4))
    fed = start(kernel)
    random_workload(kernel, [2], 400)
    policy = compiled("web", *off)
    assert release(fed, policy=policy) == 0
    fed.finish()
    found = {edge.relation for each in documents(fed.batches, "alpha") for edge in each.edges}
    assert not found & policy.relations_off - MADE_BY_THE_AGENT
    assert Relation.READ in found or Relation.READ in off
    delivered, declared = ledger(fed.batches, "alpha")
    assert delivered + declared == captured(fed, [2])
    # An edge to memory that is left out leaves its record.
    assert (declared > 0) is (off != NO_MEMORY_EDGES)
    assert gaps(fed.batches, "alpha") == ({GapReason.POLICY: declared} if declared else {})


def test_vertices_that_the_policy_does_not_want_are_left_out_with_their_edges() -> None:
    kernel = SimulatedKernel(Random(4))
    process, file = kernel.process(0, 2, 100), kernel.inode(0, 2, "/f")
    socket = kernel.socket(0, 2)
    kernel.set_epoch(2, 12)
    for thing in (file, socket):
        kernel.used(process, Relation.READ, thing)
    policy = compiled("web", nodes=(VertexType.SOCKET,))
    ring, refused = wanted(bytes(kernel.ring), policy)
    assert refused == 2, "the socket and its edge"
    assert len(ring) < len(kernel.ring)
    assert wanted(bytes(kernel.ring), POLICY) == (bytes(kernel.ring), 0)
