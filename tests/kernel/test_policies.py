# SPDX-License-Identifier: Apache-2.0
"""Policies of a slot: an edit between two system calls, filters, suspension (G6)."""

import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
from headwater_agent.decode import AnyRecord, FlowRecord, VertexRecord
from headwater_agent.layout import SlotFlag
from headwater_prov.vocabulary import Relation, VertexType

from tests.kernel.graph import edges_of, graph, marks_in
from tests.kernel.lab import DEFAULT_FLAGS, NO_LOOK_UPS, Lab, Tenant


def writes_to(records: Sequence[AnyRecord], path: Path) -> list[tuple[int, int]]:
    """Epoch and version of each write to a file."""
    inode = path.stat().st_ino
    file = {
        record.object
        for record in records
        if isinstance(record, VertexRecord)
        and record.type is VertexType.FILE
        and record.body["ino"] == inode
    }
    return [
        (record.epoch, record.a_version)
        for record in records
        if isinstance(record, FlowRecord) and record.relation is Relation.WRITE and record.a in file
    ]


@pytest.mark.every_kernel
def test_g6_edit_between_two_calls_loses_neither(lab: Lab, tenant: Tenant, work: Path) -> None:
    tenant.prepare(work)
    old = tenant.config.epoch
    process = subprocess.Popen(
        tenant.words("two-steps"), cwd=work, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stdout.read(1) == b"x"
    tenant.edit(off=(*NO_LOOK_UPS, Relation.READ))
    new = tenant.config.epoch
    process.stdin.write(b"x")
    process.stdin.close()
    assert process.wait(300) == 0
    process.stdout.close()
    records = tenant.take()
    assert [epoch for epoch, _ in writes_to(records, work / "a")] == [old, new]
    epochs = [record.epoch for record in records]
    assert epochs == sorted(epochs)
    for epoch in (old, new):
        declared: set[int] = set()
        for record in records:
            if record.epoch != epoch:
                continue
            if isinstance(record, VertexRecord):
                declared.add(record.object)
            elif isinstance(record, FlowRecord):
                assert {record.a, record.b} <= declared
    relations = [r.relation for r in records if isinstance(r, FlowRecord) and r.epoch == new]
    assert Relation.READ not in relations
    for cpu, counted in enumerate(lab.counters(tenant.slot)):
        numbers = [record.sequence for record in records if record.cpu == cpu]
        assert sorted(numbers) == list(range(1, counted.captured + 1))


def test_suspended_slot_records_nothing_until_it_is_resumed(
    lab: Lab, tenant: Tenant, work: Path
) -> None:
    tenant.edit(flags=DEFAULT_FLAGS & ~SlotFlag.ACTIVE)
    assert tenant.run(work, "copy") == []
    assert not any(cpu.captured or any(cpu.lost) for cpu in lab.counters(tenant.slot))
    tenant.edit(flags=DEFAULT_FLAGS)
    assert tenant.lines(work, "read") == graph("""
        version_activity task.0 -> task.1
        read a.0 -> task.1 0x4
        memory_write task.1 -> memory.0
    """)


def test_relations_that_are_off_change_no_version(lab: Lab, work: Path) -> None:
    # So the second round repeats the first, and so does the second mark.
    off = {Relation.MEMORY_READ, Relation.MEMORY_WRITE, Relation.NAMED, Relation.OPEN}
    with lab.tenant(off={*NO_LOOK_UPS, *off}) as tenant:
        records = tenant.run(work, "copy")
        (mark,) = marks_in(records)
        edges = [edge for record in records[mark + 1 :] for edge in edges_of(record)]
        ends = {Relation.TERMINATE_TASK, Relation.TERMINATE_PROC, Relation.FREE}
        read, write = (edge for edge in edges if edge.relation not in ends)
        assert (read.relation, write.relation) == (Relation.READ, Relation.WRITE)
        assert read.receiver == write.sender


def test_vertices_that_are_off_take_their_edges_along(lab: Lab, work: Path) -> None:
    with lab.tenant(vertices_off={VertexType.PIPE}) as tenant:
        assert tenant.lines(work, "pipe") == []
    with lab.tenant(vertices_off={VertexType.FILE, VertexType.PATH}) as tenant:
        assert tenant.lines(work, "read") == []
        assert VertexType.FILE not in {getattr(r, "type", None) for r in tenant.records}
        assert tenant.lines(work, "pipe")
