# SPDX-License-Identifier: Apache-2.0
"""One process sends another a signal: who, to whom, which (G2, G4, G5)."""

import subprocess
from pathlib import Path

import pytest
from headwater_agent.decode import FlowRecord, VertexRecord
from headwater_agent.layout import SlotFlag
from headwater_prov.vocabulary import Relation, VertexType

from tests.kernel.graph import graph
from tests.kernel.lab import DEFAULT_FLAGS, Lab, Tenant
from tests.kernel.test_relations_tracing import await_program


@pytest.mark.every_kernel
def test_each_signal_is_a_flow_with_its_number(whole: Tenant, work: Path) -> None:
    """Of no signal, and of a process to itself, is none; the same again is none either."""
    assert whole.lines(work, "signals") == graph("""
        version_activity task.0 -> task.1
        memory_read memory.0 -> task.1
        signal task.1 -> memory2.0 0xa
        signal task.1 -> memory2.0 0xc
        signal task.1 -> memory2.0 0x1c
        signal task.1 -> memory2.0 0x9
        terminate_task task2.0 -> task2.1
        terminate_proc memory2.0 -> memory2.1
    """)


def test_without_compression_each_time(lab: Lab, work: Path) -> None:
    flags = DEFAULT_FLAGS & ~SlotFlag.COMPRESS_EDGES
    with lab.tenant(flags=flags) as tenant:
        lines = [line for line in tenant.lines(work, "signals") if line.startswith("signal ")]
    assert [line.split()[-1] for line in lines] == ["0xa", "0xa", "0xc", "0x1c", "0x9"]


def test_a_queued_signal_and_one_by_descriptor(whole: Tenant, work: Path) -> None:
    sent = [line.split() for line in whole.lines(work, "signal-queue") if "signal " in line]
    # Since 6.9 a pidfd is a file, and is opened first.
    assert [(line[3], line[4]) for line in sent] == [
        ("memory2.0", "0xa"),
        ("memory2.0", "0xc"),
        ("memory2.0", "0x9"),
    ]


def test_every_process_of_a_group_is_told(whole: Tenant, work: Path) -> None:
    lines = whole.lines(work, "signal-group")
    assert sorted(line for line in lines if line.startswith("signal ")) == graph("""
        signal task.1 -> memory2.0 0xf
        signal task.1 -> memory3.0 0xf
    """)


@pytest.mark.every_kernel
def test_what_a_signalled_process_does_then_is_of_who_signalled_it(
    whole: Tenant, work: Path
) -> None:
    assert whole.lines(work, "signal-back") == graph("""
        version_activity task.0 -> task.1
        memory_read memory.0 -> task.1
        signal task.1 -> memory2.0 0xa
        memory_read memory2.0 -> task2.0
        version_entity b.0 -> b.1
        write task2.0 -> b.1 0x2
        terminate_task task2.0 -> task2.1
        terminate_proc memory2.0 -> memory2.1
    """)


def test_signals_can_be_left_out(lab: Lab, work: Path) -> None:
    with lab.tenant(off=(Relation.SIGNAL,)) as tenant:
        assert not [line for line in tenant.lines(work, "signals") if line.startswith("signal ")]
    with lab.tenant(vertices_off=(VertexType.PROCESS_MEMORY,)) as tenant:
        records = tenant.run(work, "signals")
        relations = {record.relation for record in records if isinstance(record, FlowRecord)}
        assert relations and Relation.SIGNAL not in relations


def signalled(tenant: Tenant, work: Path, command: list[str]) -> tuple[FlowRecord, VertexRecord]:
    """The one signal to a process that runs elsewhere, and what is said of its receiver."""
    victim = subprocess.Popen(command)
    try:
        await_program(victim.pid, "sleep")
        tenant.run(work, "signal-other", str(victim.pid))
    finally:
        victim.kill()
        victim.wait()
    (flow,) = (
        record
        for record in tenant.records
        if isinstance(record, FlowRecord) and record.relation is Relation.SIGNAL
    )
    vertices = {r.object: r for r in tenant.records if isinstance(r, VertexRecord)}
    return flow, vertices[flow.a]


def test_g5_of_another_tenants_process_only_that_there_is_one(
    lab: Lab, whole: Tenant, work: Path
) -> None:
    with lab.tenant(off=()) as other:
        flow, receiver = signalled(whole, work, other.command("/bin/sleep", "600"))
        # Whose it is; the agent leaves its attributes out (tests/unit/agent).
        assert (receiver.type, receiver.owner) == (VertexType.PROCESS_MEMORY, other.slot)
        assert flow.flags == 15
        told = [r for r in other.take() if getattr(r, "relation", None) is Relation.SIGNAL]
        assert told == []  # it is the sender's tenant that has the record


def test_of_a_process_outside_only_that_there_is_one(whole: Tenant, work: Path) -> None:
    flow, receiver = signalled(whole, work, ["/bin/sleep", "600"])
    assert (receiver.type, receiver.owner, flow.flags) == (VertexType.PROCESS_MEMORY, 0, 15)


def test_a_signal_from_outside_is_not_recorded(whole: Tenant, work: Path) -> None:
    """As nothing is that processes outside do."""
    victim = subprocess.Popen(whole.command("/bin/sleep", "600"))
    await_program(victim.pid, "sleep")
    victim.terminate()
    victim.wait()
    relations = [getattr(record, "relation", None) for record in whole.take()]
    assert Relation.SIGNAL not in relations
    assert Relation.TERMINATE_PROC in relations
