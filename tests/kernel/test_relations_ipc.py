# SPDX-License-Identifier: Apache-2.0
"""Messages, System V and POSIX; shared memory, System V, POSIX and without a name (G2, G4)."""

import os
import time
from pathlib import Path

import pytest
from headwater_agent.decode import FlowRecord, VertexRecord
from headwater_agent.layout import MessageKnown
from headwater_prov.vocabulary import Relation, VertexType

from tests.kernel.graph import graph
from tests.kernel.lab import NO_LOOK_UPS, TIMEOUT_S, Lab, Tenant


def bodies(tenant: Tenant, kind: VertexType) -> list[dict[str, int | bytes]]:
    return [r.body for r in tenant.records if isinstance(r, VertexRecord) and r.type is kind]


@pytest.mark.every_kernel
def test_message_goes_from_task_to_task(tenant: Tenant, work: Path) -> None:
    assert tenant.lines(work, "message") == graph("""
        version_activity task.0 -> task.1
        memory_read memory.0 -> task.1
        msg_create task.1 -> msg.0
        send_msg_queue task.1 -> msg.0
        version_activity task.1 -> task.2
        receive_msg_queue msg.0 -> task.2
        version_entity memory.0 -> memory.1
        memory_write task.2 -> memory.1
        free msg.0 -> msg.1
    """)
    made, sent = bodies(tenant, VertexType.MSG)
    assert made["known"] == 0
    assert sent["known"] == MessageKnown.TYPE | MessageKnown.QUEUE
    assert (sent["type"], sent["size"]) == (7, 23)


@pytest.mark.every_kernel
def test_who_waits_for_a_message_takes_it_itself(tenant: Tenant, work: Path) -> None:
    """The kernel asks in the sender whether the receiver may."""
    assert tenant.lines(work, "message-waiting") == graph("""
        version_activity task.0 -> task.1
        memory_read memory.0 -> task.1
        msg_create task.1 -> msg.0
        send_msg_queue task.1 -> msg.0
        receive_msg_queue msg.0 -> task2.0
        memory_write task2.0 -> memory2.0
        free msg.0 -> msg.1
        version_activity task2.0 -> task2.1
        memory_read memory2.0 -> task2.1
        version_entity b.0 -> b.1
        write task2.1 -> b.1 0x2
        terminate_task task2.1 -> task2.2
        terminate_proc memory2.0 -> memory2.1
    """)


def test_copy_of_a_message_comes_of_the_message(tenant: Tenant, work: Path) -> None:
    assert tenant.lines(work, "message-copy") == graph("""
        version_activity task.0 -> task.1
        memory_read memory.0 -> task.1
        msg_create task.1 -> msg.0
        version_activity task.1 -> task.2
        receive_msg_queue msg2.0 -> task.2
        version_entity memory.0 -> memory.1
        memory_write task.2 -> memory.1
        version_activity task.2 -> task.3
        receive_msg_queue msg.0 -> task.3
        memory_write task.3 -> memory.1
        free msg.0 -> msg.1
    """)


def test_message_that_nobody_takes_ends_with_its_queue(tenant: Tenant, work: Path) -> None:
    assert tenant.lines(work, "message-removed") == ["free msg.0 -> msg.1"]


@pytest.mark.every_kernel
def test_posix_queue_is_an_inode_and_its_messages_are_messages(tenant: Tenant, work: Path) -> None:
    assert tenant.lines(work, "posix-message") == graph("""
        version_activity task.0 -> task.1
        memory_read memory.0 -> task.1
        inode_create task.1 -> directory.0 0x8180
        named /headwater -> /headwater.0
        version_activity task.1 -> task.2
        open /headwater.0 -> task.2 0xc2
        version_entity memory.0 -> memory.1
        memory_write task.2 -> memory.1
        version_activity task.2 -> task.3
        memory_read memory.1 -> task.3
        version_entity /headwater.0 -> /headwater.1
        unlink task.3 -> /headwater.1
        msg_create task.3 -> msg.0
        version_activity task.3 -> task.4
        receive_msg_queue msg.0 -> task.4
        version_entity memory.1 -> memory.2
        memory_write task.4 -> memory.2
        free msg.0 -> msg.1
        free /headwater.1 -> /headwater.2
    """)
    assert bodies(tenant, VertexType.MSG)[-1]["type"] == 5  # its priority


@pytest.mark.every_kernel
def test_segment_is_made_and_attached(tenant: Tenant, work: Path) -> None:
    assert tenant.lines(work, "segment") == graph("""
        version_activity task.0 -> task.1
        memory_read memory.0 -> task.1
        sh_create task.1 -> shm.0
        sh_attach task.1 -> shm.0
    """)
    made, attached = bodies(tenant, VertexType.SHM)
    assert (made["complete"], made["mode"]) == (0, 0o600)
    assert (attached["complete"], attached["size"]) == (1, 4096)


@pytest.mark.every_kernel
def test_what_is_read_may_be_in_a_segment_and_in_what_is_written(
    tenant: Tenant, work: Path
) -> None:
    assert tenant.lines(work, "segment-flows") == graph("""
        sh_write memory.0 -> shm.0
        version_activity task.0 -> task.1
        read b.0 -> task.1 0x4
        version_entity memory.0 -> memory.1
        memory_write task.1 -> memory.1
        sh_write memory.1 -> shm.0
        version_entity memory.1 -> memory.2
        sh_read shm.0 -> memory.2
        version_activity task.1 -> task.2
        memory_read memory.2 -> task.2
        version_entity c.0 -> c.1
        write task.2 -> c.1 0x2
    """)


def test_segment_attached_to_read_is_never_written(tenant: Tenant, work: Path) -> None:
    assert tenant.lines(work, "segment-read-only") == graph("""
        version_activity task.0 -> task.1
        read b.0 -> task.1 0x4
        memory_write task.1 -> memory.0
        sh_read shm.0 -> memory.0
        version_activity task.1 -> task.2
        memory_read memory.0 -> task.2
        version_entity c.0 -> c.1
        write task.2 -> c.1 0x2
    """)


def test_segment_joins_two_processes(lab: Lab, work: Path) -> None:
    with lab.tenant(off={*NO_LOOK_UPS, Relation.GETATTR}) as tenant:
        lines = tenant.lines(work, "segment-between")
    wanted = (
        "sh_write memory.1 -> shm.0",
        "sh_read shm.0 -> memory2.1",
        "write task2.1 -> c.1 0x2",
    )
    assert [line for line in lines if line in wanted] == list(wanted)


def test_removed_segment_ends(tenant: Tenant, work: Path) -> None:
    """Later, and in whatever task: the kernel frees it when no CPU can be looking at it."""
    records = list(tenant.run(work, "segment-removed"))
    until = time.monotonic() + TIMEOUT_S
    while not any(isinstance(r, FlowRecord) and r.relation is Relation.FREE for r in records):
        assert time.monotonic() < until, "the segment does not end"
        time.sleep(0.05)
        records += tenant.take()


@pytest.mark.parametrize(
    ("behaviour", "kind", "off"),
    [
        ("message", VertexType.MSG, [Relation.MSG_CREATE]),
        ("segment", VertexType.SHM, [Relation.SH_CREATE]),
    ],
)
def test_what_was_not_recorded_when_it_was_made_is_when_it_is_used(
    lab: Lab, work: Path, behaviour: str, kind: VertexType, off: list[Relation]
) -> None:
    with lab.tenant(off={*NO_LOOK_UPS, *off}) as tenant:
        lines = tenant.lines(work, behaviour)
        assert any("send_msg_queue" in line or "sh_attach" in line for line in lines)
    with lab.tenant(off=NO_LOOK_UPS, vertices_off=[kind]) as tenant:
        assert not any("msg" in line or "shm" in line for line in tenant.lines(work, behaviour))


def test_posix_memory_is_a_file(tenant: Tenant, work: Path) -> None:
    lines = tenant.lines(work, "posix-memory")
    name = "/dev/shm/headwater"
    assert [
        line for line in lines if line.split()[0] in ("open", "mmap", "sh_write", "sh_read")
    ] == [
        f"open {name}.0 -> task.2 0x280c2",
        f"mmap {name}.1 -> task.4 0x3",
        f"sh_write memory.2 -> {name}.2",
        f"sh_read {name}.2 -> memory.3",
    ]
    assert lines[-1] == "write task.6 -> c.1 0x2"


@pytest.mark.every_kernel
def test_memory_without_a_file_is_called_what_its_maker_calls_it(
    tenant: Tenant, work: Path
) -> None:
    lines = tenant.lines(work, "memfd")
    if int(os.uname().release.partition(".")[0]) >= 7:
        # docs/capture-modes.md: no hook is called there for such memory.
        assert not any("memfd" in line for line in lines)
        return
    assert lines == graph("""
        named /memfd:a name -> /memfd:a name.0
        version_activity task.0 -> task.1
        memory_read memory.0 -> task.1
        write task.1 -> /memfd:a name.0 0x2
        version_activity task.1 -> task.2
        mmap /memfd:a name.0 -> task.2 0x3
        version_entity memory.0 -> memory.1
        memory_write task.2 -> memory.1
        version_activity task.2 -> task.3
        read b.0 -> task.3 0x4
        memory_write task.3 -> memory.1
        version_entity /memfd:a name.0 -> /memfd:a name.1
        sh_write memory.1 -> /memfd:a name.1
        version_entity memory.1 -> memory.2
        sh_read /memfd:a name.1 -> memory.2
        version_activity task.3 -> task.4
        memory_read memory.2 -> task.4
        version_entity c.0 -> c.1
        write task.4 -> c.1 0x2
    """)
