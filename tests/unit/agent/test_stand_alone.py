# SPDX-License-Identifier: Apache-2.0
"""Documents under compression.duplicate: each is complete by itself, and only those are."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
import zstandard
from headwater_agent.batch import Batch
from headwater_agent.decode import decode
from headwater_agent.ring import RingChunk
from headwater_prov.document import Document, Vertex
from headwater_prov.reading import parse_document
from headwater_prov.stream import SequenceRange
from headwater_prov.validation import Rule, Validator
from headwater_prov.vocabulary import RecordClass, Relation, VertexType
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.pipeline.__main__ import RECORDING
from bench.pipeline.measure import make_pipeline
from bench.pipeline.recording import load
from bench.pipeline.simulation import Process, SimulatedKernel, Thing
from bench.pipeline.workloads import random_workload
from tests.unit.agent.harness import KEYS, NODE, Fed, document_of, feed, graphs
from tests.unit.agent.test_recording import cut_after
from tests.unit.prov import standards
from tests.unit.prov.test_schema import validator as published_schema

INODE = frozenset(("cf:mode", "cf:uid", "cf:gid", "cf:ino", "hw:generation", "hw:device"))
FULL = {
    VertexType.TASK: frozenset(
        [
            *("cf:pid", "cf:tgid", "cf:vpid", "cf:utsns", "cf:ipcns", "cf:mntns", "cf:pidns"),
            *("cf:netns", "cf:cgroupns", "hw:cgroup", "cf:name"),
        ]
    ),
    VertexType.PROCESS_MEMORY: frozenset(("cf:tgid", "cf:uid", "cf:gid", "hw:cgroup", "cf:name")),
    VertexType.SOCKET: frozenset(
        ("cf:uid", "cf:gid", "cf:ino", "hw:family", "hw:socketType", "hw:protocol")
    ),
    VertexType.IATTR: frozenset(("cf:valid",)),
    VertexType.XATTR: frozenset(("cf:name",)),
    VertexType.MSG: frozenset(),
    VertexType.SHM: frozenset(("cf:mode", "hw:key")),
    VertexType.PATH: frozenset(("cf:pathname",)),
    VertexType.ARGV: frozenset(("cf:value",)),
    VertexType.MACHINE: frozenset(("cf:u_release", "hw:bootId", "hw:mode", "hw:policy")),
} | dict.fromkeys(
    (
        *(VertexType.FILE, VertexType.DIRECTORY, VertexType.LINK),
        *(VertexType.CHAR, VertexType.BLOCK, VertexType.PIPE),
    ),
    INODE,
)
"""Attributes that a vertex has at least, unless it is somebody else's."""

UNKNOWN = frozenset(("the type",))
"""What a vertex lacks that no vertex record has described."""


def read(batch: Batch) -> Document:
    return parse_document(zstandard.decompress(batch.payload))


def mentioned(document: Document) -> set[str]:
    """Every vertex that the relations of a document name."""
    names = {end for edge in document.edges for end in (edge.sender, edge.receiver)}
    tasks = (edge.attributes.get("cf:task_id") for edge in document.edges)
    return names | {name for name in tasks if isinstance(name, str)}


def declares_all(document: Document) -> bool:
    """Whether a document declares all that it mentions."""
    return mentioned(document) <= document.vertices.keys()


def is_full(vertex: Vertex) -> bool:
    """Whether a vertex has all attributes that it should."""
    attributes = vertex.attributes
    return "hw:foreign" in attributes or attributes.keys() >= FULL.get(vertex.type, UNKNOWN)


def stands_alone(document: Document) -> bool:
    """Whether a document declares all that it mentions, with all attributes."""
    return declares_all(document) and all(
        is_full(document.vertices[name]) for name in mentioned(document)
    )


def problems_alone(batch: Batch, document: Document) -> set[Rule]:
    """What a validator that knows of no earlier document objects to."""
    validator = Validator(from_start=False)
    numbers = SequenceRange(batch.first, batch.last)
    validator.feed(document, numbers=numbers, epoch=batch.headers["Hw-Epoch"])
    return {problem.rule for problem in validator.finish()}


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    lose=st.sampled_from([0.0, 0.05]),
    overtaken=st.sampled_from([0.0, 0.3]),
    compress=st.booleans(),
    max_records=st.sampled_from([1, 5, 60]),
    steps=st.integers(1, 120),
)
def test_each_document_alone_is_valid_and_complete(
    seed: int, lose: float, overtaken: float, compress: bool, max_records: int, steps: int
) -> None:
    kernel = SimulatedKernel(
        Random(seed), cpus=3, lose=lose, overtaken=overtaken, compress=compress
    )
    fed = feed(
        kernel,
        {1: "alpha", 2: "beta", 3: "alpha"},
        lambda: random_workload(kernel, [1, 2, 3], steps),
        max_records=max_records,
        duplicate=[1, 2, 3],
    )
    # Of an object that others have moved on, two versions may be mentioned and none between them.
    accepted = {Rule.VERSION_JUMP, Rule.VERSION_STEP} if overtaken else set()
    for tenant in KEYS:
        described: set[str] = set()  # the simulation mentions some objects before it describes them
        for batch in graphs(fed.batches, tenant):
            document = read(batch)
            assert declares_all(document)
            for vertex in document.vertices.values():
                assert is_full(vertex) or vertex.object not in described
            described |= {v.object for v in document.vertices.values() if is_full(v)}
            assert problems_alone(batch, document) <= accepted


def test_each_document_alone_is_what_others_accept() -> None:
    """The W3C's schema, ours, and the package prov."""
    kernel = SimulatedKernel(Random(3), overtaken=0.1)
    slots = {1: "alpha", 2: "beta"}
    fed = feed(
        kernel,
        slots,
        lambda: random_workload(kernel, [1, 2], 300),
        max_records=30,
        duplicate=slots,
    )
    batches = [batch for batch in fed.batches if batch.klass == "graph"]
    assert len(batches) > 10
    for batch in batches:
        standards.check(zstandard.decompress(batch.payload))
        content = document_of(batch)
        assert [e.message for e in published_schema(RecordClass.GRAPH).iter_errors(content)] == []
        records = (part for section, part in content.items() if section != "prefix")
        assert int(batch.headers["Hw-Count"]) == sum(map(len, records))


def test_recorded_build_stands_alone_in_every_document() -> None:
    """What a real kernel wrote: its first twenty thousand records."""
    recording = load(RECORDING)
    pipeline = make_pipeline(recording, duplicate=True)
    end = cut_after(bytes(recording.ring), 20_000)
    pipeline.feed(RingChunk(recording.ring[:end], 0))
    batches = [batch for batch in pipeline.flush() if batch.klass == "graph"]
    assert len(batches) > 20
    for batch in batches:
        document = read(batch)
        assert stands_alone(document)
        assert problems_alone(batch, document) == set()


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    lose=st.sampled_from([0.0, 0.05]),
    duplicate=st.sampled_from([[1], [3], [1, 2, 3]]),
    max_records=st.sampled_from([1, 5, 60]),
)
def test_g4_the_stream_as_a_whole_keeps_every_rule(
    seed: int, lose: float, duplicate: list[int], max_records: int
) -> None:
    kernel = SimulatedKernel(Random(seed), cpus=3, lose=lose, overtaken=0.1)
    fed = feed(
        kernel,
        {1: "alpha", 2: "beta", 3: "alpha"},
        lambda: random_workload(kernel, [1, 2, 3], 150),
        max_records=max_records,
        duplicate=duplicate,
    )
    for tenant in KEYS:
        validator = Validator()
        for batch in fed.batches:
            if batch.tenant == tenant and batch.klass != "machine":
                validator.feed(
                    read(batch),
                    origin=NODE.origin,
                    numbers=SequenceRange(batch.first, batch.last),
                    epoch=batch.headers.get("Hw-Epoch", ""),
                )
        assert validator.finish() == []


def relations_of(fed: Fed, tenant: str) -> list[tuple[str, dict[str, Any]]]:
    """Every relation of a stream, in order."""
    return [
        (name, content)
        for batch in graphs(fed.batches, tenant)
        for section, records in document_of(batch).items()
        if section not in ("prefix", "agent", "activity", "entity")
        for name, content in records.items()
    ]


@pytest.mark.parametrize("overtaken", [0.0, 0.3])
def test_only_declarations_are_repeated(overtaken: float) -> None:
    """The same records make the same relations and the same merged graph."""
    made = []
    for duplicate in ([], [1]):
        kernel = SimulatedKernel(Random(4), overtaken=overtaken)

        def work(kernel: SimulatedKernel = kernel) -> None:
            random_workload(kernel, [1], 800)

        fed = feed(kernel, {1: "alpha"}, work, max_records=50, duplicate=duplicate)
        kinds: dict[str, VertexType] = {}
        described: dict[str, dict[str, Any]] = {}
        for batch in graphs(fed.batches, "alpha"):
            for vertex in read(batch).vertices.values():
                kinds[vertex.name] = vertex.type
                described.setdefault(vertex.object, {}).update(vertex.attributes)
        machine = next(name for name, kind in kinds.items() if kind is VertexType.MACHINE)
        del described[machine.removeprefix("hw:").partition(".")[0]]
        made.append((relations_of(fed, "alpha"), kinds, described))
    plain, alone = made
    assert len(plain[0]) > 500
    assert alone == plain


def test_a_slot_that_asks_shares_documents_with_one_that_does_not() -> None:
    """A document with one of its records stands alone as a whole; later ones do not."""
    kernel = SimulatedKernel(Random(1))
    counts = []

    def work() -> None:
        for slots in ([3], [1, 3], [3]):
            random_workload(kernel, slots, 400)
            counts.append(sum(1 for record in decode(bytes(kernel.ring)) if record.slot))

    fed = feed(kernel, {1: "alpha", 3: "alpha"}, work, max_records=50, duplicate=[1])
    asked = {number for number, r in enumerate(decode(bytes(kernel.ring)), 1) if r.slot == 1}
    found = [
        (not asked.isdisjoint(range(batch.first, batch.last + 1)), batch)
        for batch in graphs(fed.batches, "alpha")
    ]
    first = next(at for at, (asks, _) in enumerate(found) if asks)
    last = max(at for at, (asks, _) in enumerate(found) if asks)
    assert found[first][1].first == min(asked)
    assert 3 <= first <= last < len(found) - 3
    for asks, batch in found:
        if asks:
            assert declares_all(read(batch))
    for _, batch in (*found[1:first], *found[last + 2 :]):
        assert not declares_all(read(batch))
    # Where both work, their records alternate, and that does not make documents small.
    assert last - first + 1 <= (counts[1] - counts[0]) // 50 + 2


def quiet_file(kernel: SimulatedKernel) -> tuple[Process, Thing]:
    return kernel.process(0, 1, 4711), kernel.inode(0, 0, "/srv/file", ino=12)


def test_edit_turns_it_on_and_off() -> None:
    kernel = SimulatedKernel(Random(1))
    who, file = quiet_file(kernel)

    def act(fed: Fed) -> list[Document]:
        fed.batches.clear()
        for _ in range(20):
            kernel.used(who, Relation.READ, file)
            kernel.generated(who, Relation.WRITE, file)
        return [read(batch) for batch in graphs(fed.finish(), "alpha")]

    fed = feed(kernel, {1: "alpha"}, lambda: None, max_records=10)
    assert [declares_all(document) for document in act(fed)] == [True, False, False, False, False]
    fed.bind(1, "alpha", 21, "policy 2", duplicate=True)
    assert all(map(stands_alone, act(fed)))
    fed.bind(1, "alpha", 22, "policy 3")
    assert [declares_all(document) for document in act(fed)][2:] == [False] * 3


def test_changed_attributes_are_those_repeated() -> None:
    kernel = SimulatedKernel(Random(1))
    who, file = quiet_file(kernel)

    def work() -> None:
        for mode in (0o40, 0o44):
            file.body = bytes([mode]) + file.body[1:]
            kernel.describe_again(who, file)
            for _ in range(6):
                kernel.generated(who, Relation.WRITE, file)
                kernel.used(who, Relation.READ, file)

    fed = feed(kernel, {1: "alpha"}, work, max_records=1, duplicate=[1])
    modes = [
        {
            str(v.attributes["cf:mode"])
            for v in read(batch).vertices.values()
            if v.type is VertexType.FILE
        }
        for batch in graphs(fed.batches, "alpha")
    ]
    seen = [next(iter(mode)) for mode in modes if mode]
    assert all(len(mode) <= 1 for mode in modes)
    assert seen == sorted(seen)
    assert (seen.count("0x8120"), seen.count("0x8124")) == (14, 13)


def test_object_of_another_tenant_stays_foreign_in_every_document() -> None:
    kernel = SimulatedKernel(Random(1))

    def work() -> None:
        mine, theirs = kernel.process(0, 1, 1), kernel.process(0, 2, 2, b"secret")
        file = kernel.inode(0, 2, "/srv/theirs", ino=77)
        for _ in range(6):
            kernel.used(mine, Relation.GETPGID, theirs.memory)
            kernel.used(mine, Relation.READ, file)
            kernel.generated(theirs, Relation.WRITE, file)
            kernel.used(theirs, Relation.READ, file)

    fed = feed(kernel, {1: "alpha", 2: "beta"}, work, max_records=1, duplicate=[1, 2])
    foreign = 0
    for batch in graphs(fed.batches, "alpha"):
        assert b"secret" not in zstandard.decompress(batch.payload)
        for vertex in read(batch).vertices.values():
            if vertex.attributes.get("hw:foreign"):
                assert vertex.attributes == {"hw:foreign": True}
                foreign += 1
    assert foreign > 12


def test_what_was_said_before_anybody_asked_is_not_repeated() -> None:
    """A shared mapping made before the edit is declared again by its type alone."""
    kernel = SimulatedKernel(Random(1))
    who, file = quiet_file(kernel)
    fed = feed(kernel, {1: "alpha"}, lambda: kernel.used(who, Relation.READ, file))
    fed.bind(1, "alpha", 21, "policy 2", duplicate=True)
    fed.batches.clear()
    kernel.describe_again(who, file, bare=True)
    file.declared.insert(0, 21)
    for _ in range(3):
        kernel.derived(who, Relation.SH_WRITE, who.memory, file)
        kernel.derived(who, Relation.SH_READ, file, who.memory)
    (batch,) = graphs(fed.finish(), "alpha")
    document = read(batch)
    files = [v for v in document.vertices.values() if v.type is VertexType.FILE]
    assert declares_all(document)
    assert files and not any(file.attributes for file in files)


def test_forgotten_object_is_declared_as_resumed_in_every_document() -> None:
    """Memory is bounded: an object that was forgotten is a guess until it is described again."""
    kernel = SimulatedKernel(Random(1))
    files = [kernel.inode(0, 1, f"/f/{number}", ino=number) for number in range(3_000)]

    def work() -> None:
        who = kernel.process(0, 1, 1)
        for _ in range(2):
            for file in files:
                kernel.used(who, Relation.READ, file)
                kernel.generated(who, Relation.WRITE, file)
        for _ in range(300):
            kernel.used(who, Relation.READ, files[0])
            kernel.generated(who, Relation.WRITE, files[0])
        kernel.change(who, files[0])
        kernel.used(who, Relation.READ, files[0])

    fed = feed(kernel, {1: "alpha"}, work, max_records=100, max_objects=1_024, duplicate=[1])
    assert fed.pipeline.tenants["alpha"].renderer.objects <= 1_024 + 200
    batches = graphs(fed.batches, "alpha")
    for batch in batches:
        document = read(batch)
        assert declares_all(document)
        assert problems_alone(batch, document) == set()
        for vertex in document.vertices.values():
            if vertex.type is VertexType.INODE_UNKNOWN:
                assert vertex.attributes == {"hw:resumed": True}
    assert stands_alone(read(batches[0])) and not stands_alone(read(batches[-3]))
    described = [v for v in read(batches[-1]).vertices.values() if v.type is VertexType.FILE]
    assert described and all(v.attributes.keys() >= INODE for v in described)


@pytest.mark.parametrize("duplicate", [[], [1]])
def test_object_described_right_after_it_was_resumed_stays_marked(duplicate: list[int]) -> None:
    """The mark of the declaration that is replaced is kept: the object begins above version 0."""
    kernel = SimulatedKernel(Random(1))
    who, file = quiet_file(kernel)

    def work() -> None:
        kernel.used(who, Relation.READ, file)
        kernel.terminate(who, Relation.FREE, file)
        file.version = 3
        kernel.used(who, Relation.READ, file)  # its vertex record is not due in this epoch
        kernel.describe_again(who, file)
        kernel.used(who, Relation.OPEN, file)

    fed = feed(kernel, {1: "alpha"}, work, duplicate=duplicate)
    validator = Validator()
    for batch in graphs(fed.batches, "alpha"):
        validator.feed(read(batch), epoch="1")
    assert validator.finish() == []
    (document,) = (read(batch) for batch in graphs(fed.batches, "alpha"))
    marked = [v for v in document.vertices.values() if v.attributes.get("hw:resumed")]
    assert [v.type for v in marked] == [VertexType.FILE]


def test_type_learnt_together_with_a_step_leaves_no_version_undeclared() -> None:
    kernel = SimulatedKernel(Random(1))
    who, file = quiet_file(kernel)

    def work() -> None:
        file.declared.append(11)  # as if its vertex record had been lost
        kernel.used(who, Relation.READ, file)
        file.version += 2
        kernel.describe_again(who, file)
        kernel.used(who, Relation.OPEN, file)

    fed = feed(kernel, {1: "alpha"}, work)
    (document,) = (read(batch) for batch in graphs(fed.batches, "alpha"))
    assert declares_all(document)
