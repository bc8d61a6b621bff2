# SPDX-License-Identifier: Apache-2.0
"""Open files: what opening, reading, writing, locking and receiving one adds to the graph (G2, G4).

Expected graphs are written from the model: a task that has sent and now receives gets a version, so
does everything else; its memory gives before it writes and takes after it reads.
"""

import os
import stat
from pathlib import Path

import pytest
from headwater_agent.decode import VertexRecord
from headwater_agent.layout import SlotFlag
from headwater_prov.vocabulary import VertexType

from tests.kernel.graph import graph
from tests.kernel.lab import DEFAULT_FLAGS, Lab, Tenant


def test_nothing_adds_nothing(whole: Tenant, work: Path) -> None:
    assert whole.lines(work, "nothing") == []


def test_open(tenant: Tenant, work: Path) -> None:
    assert tenant.lines(work, "open") == graph("""
        named a -> a.0
        version_activity task.0 -> task.1
        open a.0 -> task.1 0x8000
        memory_write task.1 -> memory.0
    """)


def test_open_with_everything_on(whole: Tenant, work: Path) -> None:
    assert whole.lines(work, "open") == graph("""
        version_activity task.0 -> task.1
        perm_check here.0 -> task.1 0x1
        memory_write task.1 -> memory.0
        version_activity task.1 -> task.2
        perm_check a.0 -> task.2 0x24
        memory_write task.2 -> memory.0
        named a -> a.0
        version_activity task.2 -> task.3
        open a.0 -> task.3 0x8000
        memory_write task.3 -> memory.0
    """)


def test_create(tenant: Tenant, work: Path) -> None:
    assert tenant.lines(work, "create") == graph("""
        version_activity task.0 -> task.1
        memory_read memory.0 -> task.1
        inode_create task.1 -> here.0 0x81a4
        named new -> new.0
        version_activity task.1 -> task.2
        open new.0 -> task.2 0x80c1
        version_entity memory.0 -> memory.1
        memory_write task.2 -> memory.1
    """)


def test_create_with_everything_on(whole: Tenant, work: Path) -> None:
    assert whole.lines(work, "create") == graph("""
        version_activity task.0 -> task.1
        perm_check here.0 -> task.1 0x1
        memory_write task.1 -> memory.0
        version_activity task.1 -> task.2
        memory_read memory.0 -> task.2
        version_entity here.0 -> here.1
        inode_create task.2 -> here.1 0x81a4
        version_activity task.2 -> task.3
        perm_check new.0 -> task.3 0x20
        version_entity memory.0 -> memory.1
        memory_write task.3 -> memory.1
        named new -> new.0
        version_activity task.3 -> task.4
        open new.0 -> task.4 0x80c1
        memory_write task.4 -> memory.1
    """)


@pytest.mark.parametrize("behaviour", ["read", "read-again"])
def test_read_is_one_edge_however_often(whole: Tenant, work: Path, behaviour: str) -> None:
    assert whole.lines(work, behaviour) == graph("""
        version_activity task.0 -> task.1
        read a.0 -> task.1 0x4
        memory_write task.1 -> memory.0
    """)


def test_read_without_edge_compression_is_each_edge(lab: Lab, work: Path) -> None:
    (work / "a").write_bytes(bytes(101))
    flags = DEFAULT_FLAGS & ~SlotFlag.COMPRESS_EDGES
    with lab.tenant(flags=flags) as tenant:
        assert tenant.lines(work, "read-again") == graph("""
            version_activity task.0 -> task.1
            read a.0 -> task.1 0x4
            memory_write task.1 -> memory.0
            version_activity task.1 -> task.2
            read a.0 -> task.2 0x4 @23
            memory_write task.2 -> memory.0
            version_activity task.2 -> task.3
            read a.0 -> task.3 0x4 @46
            memory_write task.3 -> memory.0
        """)


def test_read_without_node_compression_is_a_version_for_each_edge(lab: Lab, work: Path) -> None:
    flags = DEFAULT_FLAGS & ~SlotFlag.COMPRESS_NODES
    with lab.tenant(flags=flags) as tenant:
        assert tenant.lines(work, "read") == graph("""
            version_activity task.0 -> task.1
            read a.0 -> task.1 0x4
            version_entity memory.0 -> memory.1
            memory_write task.1 -> memory.1
        """)


def test_write_is_one_edge_however_often(whole: Tenant, work: Path) -> None:
    assert whole.lines(work, "write") == graph("""
        version_activity task.0 -> task.1
        memory_read memory.0 -> task.1
        version_entity a.0 -> a.1
        write task.1 -> a.1 0x2
    """)


@pytest.mark.every_kernel
def test_copy_passes_on_once_what_it_has_read(whole: Tenant, work: Path) -> None:
    # The second round adds nothing: the same version of a is in the task, and in b, already.
    assert whole.lines(work, "copy") == graph("""
        version_activity task.0 -> task.1
        read a.0 -> task.1 0x4
        memory_write task.1 -> memory.0
        version_activity task.1 -> task.2
        memory_read memory.0 -> task.2
        version_entity b.0 -> b.1
        write task.2 -> b.1 0x2
    """)


def test_copy_without_edge_compression_alternates(lab: Lab, work: Path) -> None:
    with lab.tenant(flags=DEFAULT_FLAGS & ~SlotFlag.COMPRESS_EDGES) as tenant:
        assert tenant.lines(work, "copy") == graph("""
            version_activity task.0 -> task.1
            read a.0 -> task.1 0x4
            memory_write task.1 -> memory.0
            version_activity task.1 -> task.2
            memory_read memory.0 -> task.2
            version_entity b.0 -> b.1
            write task.2 -> b.1 0x2
            version_activity task.2 -> task.3
            read a.0 -> task.3 0x4 @12
            version_entity memory.0 -> memory.1
            memory_write task.3 -> memory.1
            version_activity task.3 -> task.4
            memory_read memory.1 -> task.4
            write task.4 -> b.1 0x2 @23
        """)


def test_reading_a_directory(whole: Tenant, work: Path) -> None:
    assert whole.lines(work, "list") == graph("""
        version_activity task.0 -> task.1
        read here.0 -> task.1 0x4
        memory_write task.1 -> memory.0
    """)


def test_ioctl_flows_both_ways(whole: Tenant, work: Path) -> None:
    assert whole.lines(work, "ioctl") == graph("""
        version_activity task.0 -> task.1
        memory_read memory.0 -> task.1
        version_entity a.0 -> a.1
        write_ioctl task.1 -> a.1 0x541b
        version_activity task.1 -> task.2
        read_ioctl a.1 -> task.2 0x541b
        version_entity memory.0 -> memory.1
        memory_write task.2 -> memory.1
    """)


def test_lock(whole: Tenant, work: Path) -> None:
    assert whole.lines(work, "lock") == graph("""
        version_activity task.0 -> task.1
        memory_read memory.0 -> task.1
        version_entity a.0 -> a.1
        file_lock task.1 -> a.1 0x1
    """)


def test_pipe(whole: Tenant, work: Path) -> None:
    assert whole.lines(work, "pipe") == graph("""
        version_activity task.0 -> task.1
        memory_read memory.0 -> task.1
        write task.1 -> pipe.0 0x2
        version_activity task.1 -> task.2
        read pipe.0 -> task.2 0x4
        version_entity memory.0 -> memory.1
        memory_write task.2 -> memory.1
    """)


@pytest.mark.parametrize(("behaviour", "name"), [("free-pipe", "pipe"), ("free-file", "a")])
def test_last_close_ends_what_has_no_name(
    whole: Tenant, work: Path, behaviour: str, name: str
) -> None:
    assert whole.lines(work, behaviour) == [f"free {name}.0 -> {name}.1"]


def test_descriptor_over_a_socket(whole: Tenant, work: Path) -> None:
    assert whole.lines(work, "receive-descriptor") == graph("""
        version_activity task.0 -> task.1
        receive_msg socket.0 -> task.1
        memory_write task.1 -> memory.0
        version_activity task.1 -> task.2
        file_rcv a.0 -> task.2
        memory_write task.2 -> memory.0
    """)


def test_a_block_device_is_one(tenant: Tenant, work: Path) -> None:
    (work / "a").unlink()
    os.mknod(work / "a", stat.S_IFBLK | 0o600, os.makedev(7, 0))
    lines = tenant.lines(work, "stat")
    assert any(line.startswith("getattr a.0 -> task.") for line in lines)
    (block,) = (
        record
        for record in tenant.records
        if isinstance(record, VertexRecord) and record.type is VertexType.BLOCK
    )
    assert stat.S_ISBLK(int(block.body["mode"]))
