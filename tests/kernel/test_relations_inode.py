# SPDX-License-Identifier: Apache-2.0
"""Inodes and their names: made, linked, renamed, removed, looked up (G2, G4)."""

from pathlib import Path

import pytest
from headwater_agent.decode import VertexRecord
from headwater_prov.vocabulary import Relation, VertexType

from tests.kernel.graph import graph
from tests.kernel.lab import NO_LOOK_UPS, Lab, Tenant

ATTR_MODE = 1


@pytest.mark.parametrize(
    ("behaviour", "mode"), [("mkdir", "0x1ed"), ("mknod", "0x11a4")], ids=["mkdir", "mknod"]
)
def test_new_entry_changes_its_directory(
    tenant: Tenant, work: Path, behaviour: str, mode: str
) -> None:
    assert tenant.lines(work, behaviour) == graph(f"""
        version_activity task.0 -> task.1
        memory_read memory.0 -> task.1
        inode_create task.1 -> here.0 {mode}
    """)


def test_symbolic_link_changes_its_directory(tenant: Tenant, work: Path) -> None:
    assert tenant.lines(work, "symlink") == graph("""
        version_activity task.0 -> task.1
        memory_read memory.0 -> task.1
        symlink task.1 -> here.0
    """)


def test_link_is_a_further_name(tenant: Tenant, work: Path) -> None:
    (work / "b").unlink()
    assert tenant.lines(work, "link") == graph("""
        named a -> a.0
        version_activity task.0 -> task.1
        memory_read memory.0 -> task.1
        link task.1 -> a.0
        named b -> a.0
    """)


@pytest.mark.every_kernel
def test_rename_gives_the_new_name(tenant: Tenant, work: Path) -> None:
    (work / "b").unlink()
    assert tenant.lines(work, "rename") == graph("""
        named a -> a.0
        version_activity task.0 -> task.1
        memory_read memory.0 -> task.1
        rename task.1 -> a.0
        named b -> a.0
    """)


@pytest.mark.every_kernel
def test_attributes_are_made_by_the_task_and_taken_in_by_the_inode(
    tenant: Tenant, work: Path
) -> None:
    assert tenant.lines(work, "chmod") == graph("""
        version_activity task.0 -> task.1
        memory_read memory.0 -> task.1
        setattr task.1 -> iattr.0
        named a -> a.0
        setattr_inode iattr.0 -> a.0
    """)
    (vertex,) = (
        record
        for record in tenant.records
        if isinstance(record, VertexRecord) and record.type is VertexType.IATTR
    )
    assert (vertex.body["mode"], int(vertex.body["valid"]) & ATTR_MODE) == (0o100600, ATTR_MODE)


def test_attributes_set_again_are_others(tenant: Tenant, work: Path) -> None:
    assert tenant.lines(work, "truncate") == graph("""
        version_activity task.0 -> task.1
        memory_read memory.0 -> task.1
        setattr task.1 -> iattr.0
        named a -> a.0
        setattr_inode iattr.0 -> a.0
        setattr task.1 -> iattr2.0
        setattr_inode iattr2.0 -> a.0
    """)
    sizes = [
        record.body["size"]
        for record in tenant.records
        if isinstance(record, VertexRecord) and record.type is VertexType.IATTR
    ]
    assert sizes == [7, 7]


@pytest.mark.parametrize(
    ("off", "left"),
    [
        ((Relation.SETATTR,), ["named", "setattr_inode"]),
        ((Relation.SETATTR_INODE,), ["version_activity", "memory_read", "setattr"]),
        ((Relation.SETATTR, Relation.SETATTR_INODE), []),
    ],
)
def test_half_of_setting_attributes_can_be_off(
    lab: Lab, work: Path, off: tuple[Relation, ...], left: list[str]
) -> None:
    with lab.tenant(off={*NO_LOOK_UPS, *off}) as tenant:
        assert [line.split()[0] for line in tenant.lines(work, "chmod")] == left


def test_rename_over_another_ends_that(tenant: Tenant, work: Path) -> None:
    assert tenant.lines(work, "rename") == graph("""
        named b -> b.0
        version_activity task.0 -> task.1
        memory_read memory.0 -> task.1
        unlink task.1 -> b.0
        named a -> a.0
        rename task.1 -> a.0
        named b -> a.0
        free b.0 -> b.1
    """)


def test_rename_with_everything_on(whole: Tenant, work: Path) -> None:
    (work / "b").unlink()
    assert whole.lines(work, "rename") == graph("""
        version_activity task.0 -> task.1
        perm_check here.0 -> task.1 0x1
        memory_write task.1 -> memory.0
        named a -> a.0
        version_activity task.1 -> task.2
        memory_read memory.0 -> task.2
        rename task.2 -> a.0
        named b -> a.0
    """)


@pytest.mark.parametrize(("behaviour", "name"), [("unlink", "a"), ("rmdir", "directory")])
def test_last_name_removed_is_the_end(
    tenant: Tenant, work: Path, behaviour: str, name: str
) -> None:
    (work / "directory").mkdir()
    assert tenant.lines(work, behaviour) == graph(f"""
        named {name} -> {name}.0
        version_activity task.0 -> task.1
        memory_read memory.0 -> task.1
        unlink task.1 -> {name}.0
        free {name}.0 -> {name}.1
    """)


def test_one_name_of_two_removed_is_not_the_end(tenant: Tenant, work: Path) -> None:
    (work / "second").hardlink_to(work / "a")
    lines = tenant.lines(work, "unlink")
    assert [line.split()[0] for line in lines] == [
        "named",
        "version_activity",
        "memory_read",
        "unlink",
    ]


def test_read_link(tenant: Tenant, work: Path) -> None:
    (work / "link").symlink_to("a")
    assert tenant.lines(work, "readlink") == graph("""
        named link -> link.0
        version_activity task.0 -> task.1
        read_link link.0 -> task.1
        memory_write task.1 -> memory.0
    """)


def test_stat(tenant: Tenant, work: Path) -> None:
    assert tenant.lines(work, "stat") == graph("""
        named a -> a.0
        version_activity task.0 -> task.1
        getattr a.0 -> task.1
        memory_write task.1 -> memory.0
    """)


def test_access_is_a_check_of_each_directory_and_the_file(whole: Tenant, work: Path) -> None:
    assert whole.lines(work, "access") == graph("""
        version_activity task.0 -> task.1
        perm_check here.0 -> task.1 0x1
        memory_write task.1 -> memory.0
        version_activity task.1 -> task.2
        perm_check a.0 -> task.2 0x14
        memory_write task.2 -> memory.0
    """)
