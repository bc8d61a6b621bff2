# SPDX-License-Identifier: Apache-2.0
"""The table of names and numbers: complete, in CamFlow's order, consistent with PROV."""

from collections import Counter
from itertools import chain

import pytest
from headwater_prov.vocabulary import (
    OWN_RELATIONS,
    PROV_CLASSES,
    RELATIONS,
    VERTEX_TYPES,
    Prov,
    ProvClass,
    Relation,
    VertexType,
)


def _words(text: str) -> list[str]:
    return text.split()


CAMFLOW_VERTEX_TYPES = _words("""
    task disc_activity user group machine disc_agent inode_unknown link file directory char block
    pipe socket msg shm sb packet iattr process_memory string address path xattr packet_content
    argv envp disc_entity
""")

CAMFLOW_RELATIONS = {
    ProvClass.DERIVED: _words("""
        named version_entity send_packet send_unix receive_packet receive_unix free setattr_inode
        accept_socket getxattr_inode setxattr_inode removexattr_inode exec terminate_proc arg env
        sh_read sh_write packet_content addressed derived_disc
    """),
    ProvClass.GENERATED: _words("""
        clone_mem msg_create socket_create socket_pair_create inode_create write write_ioctl
        memory_write connect connect_unix_stream listen bind send send_msg send_msg_queue link
        rename unlink symlink setattr setxattr removexattr setuid setpgid sh_attach sh_create
        file_lock splice_out exec_task ptrace_attach generated_disc
    """),
    ProvClass.USED: _words("""
        read read_ioctl memory_read accept receive receive_msg receive_msg_queue open file_rcv
        file_sigio search getattr read_link getxattr listxattr log perm_check getpgid mmap
        mmap_private load_file ptrace_read used_disc
    """),
    ProvClass.INFORMED: _words("""
        clone version_activity terminate_task ptrace_attach_task ptrace_read_task ptrace_traceme
        informed_disc
    """),
    ProvClass.INFLUENCED: _words("""
        load_unknown load_firmware load_module load_kexec_image load_kexec_initramfs load_policy
        load_certificate load_undefined influenced_disc
    """),
    ProvClass.ASSOCIATED: ["ran_on", "associated_disc"],
}


def test_vertex_types_are_camflows_in_order_and_dense() -> None:
    assert [t.camflow for t in VertexType] == CAMFLOW_VERTEX_TYPES
    assert [t.value for t in VertexType] == list(range(1, 29))


def test_relations_are_camflows_in_order_and_dense() -> None:
    camflows = [r.camflow for r in Relation if r not in OWN_RELATIONS]
    assert camflows == list(chain(*CAMFLOW_RELATIONS.values()))
    assert [r.value for r in Relation] == list(range(1, 94 + len(OWN_RELATIONS)))
    assert set(list(Relation)[-len(OWN_RELATIONS) :]) == OWN_RELATIONS


@pytest.mark.parametrize("prov_class", ProvClass)
def test_relations_have_the_prov_class_of_the_table(prov_class: ProvClass) -> None:
    members = [r.camflow for r in Relation if r.prov_class is prov_class and r not in OWN_RELATIONS]
    assert members == CAMFLOW_RELATIONS[prov_class]


def test_counts_of_the_prov_classes_are_those_of_camflows_header() -> None:
    counts = Counter(r.prov_class.section for r in Relation if r not in OWN_RELATIONS)
    assert counts == {
        "wasDerivedFrom": 21,
        "wasGeneratedBy": 31,
        "used": 23,
        "wasInformedBy": 7,
        "wasInfluencedBy": 9,
        "wasAssociatedWith": 2,
    }


@pytest.mark.parametrize("relation", Relation)
def test_types_that_a_relation_joins_are_of_the_kinds_that_prov_demands(
    relation: Relation,
) -> None:
    assert relation.senders
    assert relation.receivers
    assert {t.prov for t in relation.senders} == {relation.prov_class.sender}
    assert {t.prov for t in relation.receivers} == {relation.prov_class.receiver}


def test_prov_kinds_of_vertex_types() -> None:
    by_kind = {kind: [t.camflow for t in VertexType if t.prov is kind] for kind in Prov}
    assert by_kind[Prov.ACTIVITY] == ["task", "disc_activity"]
    assert by_kind[Prov.AGENT] == ["user", "group", "machine", "disc_agent"]
    assert len(by_kind[Prov.ENTITY]) == 22


def test_keys_follow_the_direction_of_information() -> None:
    read, write, clone = Relation.READ, Relation.WRITE, Relation.CLONE
    assert (read.section, read.sender_key, read.receiver_key) == (
        "used",
        "prov:entity",
        "prov:activity",
    )
    assert (write.sender_key, write.receiver_key) == ("prov:activity", "prov:entity")
    assert (clone.sender_key, clone.receiver_key) == ("prov:informant", "prov:informed")


def test_only_used_and_generated_have_a_formal_time() -> None:
    assert {c for c in ProvClass if c.has_time} == {ProvClass.USED, ProvClass.GENERATED}
    assert Relation.READ.prov_class.time_key == "prov:time"
    assert Relation.CLONE.prov_class.time_key == "cf:date"


def test_lookups_find_every_name() -> None:
    assert {name: t.camflow for name, t in VERTEX_TYPES.items()} == {
        name: name for name in CAMFLOW_VERTEX_TYPES
    }
    assert len(RELATIONS) == 94
    assert PROV_CLASSES["used"] is ProvClass.USED
    assert VertexType.PROCESS_MEMORY.qualified_name == "cf:process_memory"
    assert Relation.MEMORY_WRITE.qualified_name == "cf:memory_write"
    assert Relation.SIGNAL.qualified_name == "hw:signal"


def test_version_steps_lead_to_the_same_kind_of_vertex() -> None:
    for relation in (r for r in Relation if r.is_version_step):
        assert relation.senders == relation.receivers
