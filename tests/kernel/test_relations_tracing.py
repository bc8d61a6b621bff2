# SPDX-License-Identifier: Apache-2.0
"""One process looks into another or takes hold of it: which way the information goes (G2, G4)."""

import subprocess
import time
from pathlib import Path

import pytest
from headwater_agent.decode import FlowRecord, VertexRecord
from headwater_agent.layout import TextMark
from headwater_prov.vocabulary import Relation, VertexType

from tests.kernel.graph import graph
from tests.kernel.lab import TIMEOUT_S, Lab, Tenant
from tests.kernel.test_names import names

ENDS = """
        terminate_task task2.0 -> task2.1
        terminate_proc memory2.0 -> memory2.1
"""
"""Of the process that was looked into; nothing that it was told of made another version."""

KILLED = """
        memory_read memory.0 -> task.2
        version_entity memory2.0 -> memory2.1
        signal task.2 -> memory2.1 0x9
        terminate_task task2.0 -> task2.1
        terminate_proc memory2.1 -> memory2.2
"""
"""Of one whose memory has been read, and that is told to end."""


@pytest.mark.every_kernel
def test_who_traces_may_write_and_look(whole: Tenant, work: Path) -> None:
    assert whole.lines(work, "ptrace-seize") == graph("""
        version_activity task.0 -> task.1
        memory_read memory.0 -> task.1
        ptrace_attach task.1 -> memory2.0 0x12
        ptrace_attach_task task.1 -> task2.0 0x12
        version_activity task.1 -> task.2
        ptrace_read memory2.0 -> task.2 0x12
        version_entity memory.0 -> memory.1
        memory_write task.2 -> memory.1
        version_activity task.2 -> task.3
        ptrace_read_task task2.0 -> task.3 0x12
        memory_read memory.1 -> task.3
        version_entity memory2.0 -> memory2.1
        signal task.3 -> memory2.1 0x9
        terminate_task task2.0 -> task2.1
        terminate_proc memory2.1 -> memory2.2
    """)


def test_who_lets_itself_be_traced_says_so(whole: Tenant, work: Path) -> None:
    assert whole.lines(work, "ptrace-traceme") == graph(f"""
        version_activity task.0 -> task.1
        memory_read memory.0 -> task.1
        clone_mem task.1 -> memory2.0 0x1200000
        clone task.1 -> task2.0 0x1200000
        version_activity task.1 -> task.2
        ptrace_traceme task2.0 -> task.2
        {ENDS}
    """)


@pytest.mark.every_kernel
def test_reading_anothers_memory_is_a_flow_from_it_alone(whole: Tenant, work: Path) -> None:
    assert whole.lines(work, "process-vm-readv") == graph(f"""
        version_activity task.0 -> task.1
        ptrace_read memory2.0 -> task.1 0x12
        memory_write task.1 -> memory.0
        version_activity task.1 -> task.2
        ptrace_read_task task2.0 -> task.2 0x12
        {KILLED}
    """)


@pytest.mark.every_kernel
def test_writing_anothers_memory_is_a_flow_into_it_alone(whole: Tenant, work: Path) -> None:
    assert whole.lines(work, "process-vm-writev") == graph(f"""
        version_activity task.0 -> task.1
        memory_read memory.0 -> task.1
        ptrace_attach task.1 -> memory2.0 0x12
        ptrace_attach_task task.1 -> task2.0 0x12
        signal task.1 -> memory2.0 0x9
        {ENDS}
    """)


def test_comparing_with_another_learns_from_it(whole: Tenant, work: Path) -> None:
    assert whole.lines(work, "kcmp") == graph(f"""
        version_activity task.0 -> task.1
        ptrace_read memory2.0 -> task.1 0x11
        memory_write task.1 -> memory.0
        version_activity task.1 -> task.2
        ptrace_read_task task2.0 -> task.2 0x11
        {KILLED}
    """)


def test_a_descriptor_taken_from_another_is_received(whole: Tenant, work: Path) -> None:
    lines = whole.lines(work, "pidfd-getfd")
    hold = [line for line in lines if line.startswith("ptrace_attach ")]
    received = [line for line in lines if line.startswith("file_rcv pipe.0 -> task.")]
    assert len(hold) == len(received) == 1
    assert lines.index(hold[0]) < lines.index(received[0])
    # A pidfd is an object of its own, not the root directory (since 6.9 it is opened).
    found = names(whole)
    assert found.get("/") is None
    assert found.get("/pidfs", TextMark.UNMOUNTED) == TextMark.UNMOUNTED


@pytest.mark.parametrize(
    ("off", "left"),
    [
        (Relation.PTRACE_READ, Relation.PTRACE_READ_TASK),
        (Relation.PTRACE_READ_TASK, Relation.PTRACE_READ),
    ],
)
def test_a_relation_that_is_not_recorded_takes_no_other_with_it(
    lab: Lab, work: Path, off: Relation, left: Relation
) -> None:
    with lab.tenant(off=(off,)) as tenant:
        lines = tenant.lines(work, "process-vm-readv")
    relations = {line.split()[0] for line in lines}
    assert left.name.lower() in relations and off.name.lower() not in relations


def await_program(pid: int, name: str) -> None:
    until = time.monotonic() + TIMEOUT_S
    while Path(f"/proc/{pid}/comm").read_text().strip() != name:
        assert time.monotonic() < until
        time.sleep(0.01)


def test_g5_of_another_tenants_process_only_that_there_is_one(
    lab: Lab, whole: Tenant, work: Path
) -> None:
    with lab.tenant(off=()) as other:
        victim = subprocess.Popen(other.command("/bin/sleep", "600"))
        try:
            await_program(victim.pid, "sleep")
            whole.run(work, "trace-other", str(victim.pid))
        finally:
            victim.kill()
            victim.wait()
        records = whole.records
    found = [
        record.b if record.relation is Relation.PTRACE_ATTACH_TASK else record.a
        for record in records
        if isinstance(record, FlowRecord)
        and record.relation in (Relation.PTRACE_ATTACH_TASK, Relation.PTRACE_ATTACH)
    ]
    vertices = {r.object: r for r in records if isinstance(r, VertexRecord)}
    traced = [vertices[object_] for object_ in found]
    assert {vertex.type for vertex in traced} == {VertexType.TASK, VertexType.PROCESS_MEMORY}
    # Whose it is; the agent leaves its attributes out (tests/unit/agent).
    assert {vertex.owner for vertex in traced} == {other.slot}
