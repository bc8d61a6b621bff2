# SPDX-License-Identifier: Apache-2.0
"""Extended attributes, access control lists, and what a change of attributes leaves (G2, G4)."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from headwater_agent.decode import AnyRecord, VertexRecord
from headwater_prov.vocabulary import Relation, VertexType

from tests.kernel.graph import graph
from tests.kernel.lab import NO_LOOK_UPS, Lab, Tenant

ATTR_UID, ATTR_GID, ATTR_MODE = 2, 4, 1


def vertices(records: Sequence[AnyRecord], kind: VertexType) -> list[VertexRecord]:
    return [r for r in records if isinstance(r, VertexRecord) and r.type is kind]


def name_of(vertex: VertexRecord) -> bytes:
    name = vertex.body["name"]
    assert isinstance(name, bytes)
    return name.partition(b"\0")[0]


@pytest.mark.every_kernel
def test_extended_attribute_is_made_by_the_task_and_taken_in_by_the_inode(
    tenant: Tenant, work: Path
) -> None:
    assert tenant.lines(work, "setxattr") == graph("""
        version_activity task.0 -> task.1
        memory_read memory.0 -> task.1
        setxattr task.1 -> xattr.0
        named a -> a.0
        setxattr_inode xattr.0 -> a.0
    """)
    (vertex,) = vertices(tenant.records, VertexType.XATTR)
    assert (name_of(vertex), vertex.body["size"]) == (b"trusted.colour", 8)
    assert not vertex.body["truncated"]


def test_value_of_an_extended_attribute_is_in_no_record(tenant: Tenant, work: Path) -> None:
    tenant.run(work, "setxattr")
    bodies = [r.body for r in tenant.records if isinstance(r, VertexRecord)]
    assert not any(
        b"a secret" in part for b in bodies for part in b.values() if isinstance(part, bytes)
    )


def test_longest_name_is_cut_and_says_so(tenant: Tenant, work: Path) -> None:
    tenant.lines(work, "setxattr-long")
    (vertex,) = vertices(tenant.records, VertexType.XATTR)
    assert name_of(vertex) == b"trusted." + b"x" * 95
    assert vertex.body["truncated"]


@pytest.mark.every_kernel
def test_extended_attribute_comes_of_the_inode_to_the_task(tenant: Tenant, work: Path) -> None:
    assert tenant.lines(work, "getxattr") == graph("""
        getxattr_inode a.0 -> xattr.0
        version_activity task.0 -> task.1
        getxattr xattr.0 -> task.1
        memory_write task.1 -> memory.0
    """)


def test_list_of_extended_attributes_is_used(tenant: Tenant, work: Path) -> None:
    assert tenant.lines(work, "listxattr") == graph("""
        named a -> a.0
        version_activity task.0 -> task.1
        listxattr a.0 -> task.1
        memory_write task.1 -> memory.0
    """)


def test_removed_extended_attribute(tenant: Tenant, work: Path) -> None:
    assert tenant.lines(work, "removexattr") == graph("""
        version_activity task.0 -> task.1
        memory_read memory.0 -> task.1
        removexattr task.1 -> xattr.0
        removexattr_inode xattr.0 -> a.0
    """)


@pytest.mark.every_kernel
def test_access_control_list_is_an_extended_attribute(tenant: Tenant, work: Path) -> None:
    lines = [line for line in tenant.lines(work, "set-acl") if "xattr" in line]
    assert lines == graph("""
        setxattr task.1 -> xattr.0
        setxattr_inode xattr.0 -> a.0
        getxattr_inode a.0 -> xattr2.0
        getxattr xattr2.0 -> task.2
        removexattr task.3 -> xattr3.0
        removexattr_inode xattr3.0 -> a.1
    """)
    names = {name_of(vertex) for vertex in vertices(tenant.records, VertexType.XATTR)}
    assert names == {b"system.posix_acl_access"}


@pytest.mark.parametrize(
    ("off", "left"),
    [
        ((Relation.SETXATTR,), ["named", "setxattr_inode"]),
        ((Relation.SETXATTR_INODE,), ["version_activity", "memory_read", "setxattr"]),
        ((Relation.SETXATTR, Relation.SETXATTR_INODE), []),
    ],
)
def test_half_of_setting_an_extended_attribute_can_be_off(
    lab: Lab, work: Path, off: tuple[Relation, ...], left: list[str]
) -> None:
    with lab.tenant(off={*NO_LOOK_UPS, *off}) as tenant:
        assert [line.split()[0] for line in tenant.lines(work, "setxattr")] == left


def test_extended_attributes_can_be_off(lab: Lab, work: Path) -> None:
    with lab.tenant(off=NO_LOOK_UPS, vertices_off=[VertexType.XATTR]) as tenant:
        assert tenant.lines(work, "setxattr") == []


def test_what_is_not_set_is_nothing_of_the_kernels_stack(tenant: Tenant, work: Path) -> None:
    tenant.run(work, "chown")
    (owner,) = vertices(tenant.records, VertexType.IATTR)
    body = owner.body
    assert int(body["valid"]) & (ATTR_UID | ATTR_GID | ATTR_MODE) == ATTR_UID | ATTR_GID
    assert (body["uid"], body["gid"], body["mode"], body["size"]) == (12, 34, 0, 0)
    tenant.run(work, "utimes")
    (times,) = vertices(tenant.records, VertexType.IATTR)
    assert (times.body["uid"], times.body["gid"], times.body["mode"]) == (0, 0, 0)


def test_vertex_of_an_inode_is_recorded_again_with_its_new_mode(tenant: Tenant, work: Path) -> None:
    tenant.lines(work, "chmod-and-read")
    inode = (work / "a").stat().st_ino
    modes = [
        r.body["mode"] for r in vertices(tenant.records, VertexType.FILE) if r.body["ino"] == inode
    ]
    assert modes == [0o100644, 0o100600]
