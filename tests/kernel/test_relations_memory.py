# SPDX-License-Identifier: Apache-2.0
"""Mapped files: the mapping itself, and what may flow through a shared one (G2, G4)."""

from pathlib import Path

import pytest
from headwater_agent.decode import FlowRecord
from headwater_agent.layout import Loss
from headwater_prov.vocabulary import Relation

from tests.kernel.graph import graph
from tests.kernel.lab import Lab, Tenant


def test_shared_mapping(whole: Tenant, work: Path) -> None:
    assert whole.lines(work, "map-shared") == graph("""
        version_activity task.0 -> task.1
        mmap a.0 -> task.1 0x3
        memory_write task.1 -> memory.0
    """)


def test_private_mapping(whole: Tenant, work: Path) -> None:
    assert whole.lines(work, "map-private") == graph("""
        version_activity task.0 -> task.1
        mmap_private a.0 -> task.1 0x1
        memory_write task.1 -> memory.0
    """)


@pytest.mark.every_kernel
def test_what_is_read_may_be_in_a_shared_mapping_and_in_what_is_written(
    whole: Tenant, work: Path
) -> None:
    # The first two lines belong to the mark: it, too, put something into the memory.
    assert whole.lines(work, "map-flows") == graph("""
        version_entity a.0 -> a.1
        sh_write memory.0 -> a.1
        version_activity task.0 -> task.1
        read b.0 -> task.1 0x4
        version_entity memory.0 -> memory.1
        memory_write task.1 -> memory.1
        sh_write memory.1 -> a.1
        version_entity memory.1 -> memory.2
        sh_read a.1 -> memory.2
        version_activity task.1 -> task.2
        memory_read memory.2 -> task.2
        version_entity c.0 -> c.1
        write task.2 -> c.1 0x2
    """)


def test_read_only_mapping_is_never_written(whole: Tenant, work: Path) -> None:
    assert whole.lines(work, "map-flows-read-only") == graph("""
        version_activity task.0 -> task.1
        read b.0 -> task.1 0x4
        memory_write task.1 -> memory.0
        sh_read a.0 -> memory.0
        version_activity task.1 -> task.2
        memory_read memory.0 -> task.2
        version_entity c.0 -> c.1
        write task.2 -> c.1 0x2
    """)


def test_child_has_its_parents_mappings(whole: Tenant, work: Path) -> None:
    assert whole.lines(work, "map-between") == graph("""
        version_entity a.0 -> a.1
        sh_write memory.0 -> a.1
        version_activity task.0 -> task.1
        read b.0 -> task.1 0x4
        version_entity memory.0 -> memory.1
        memory_write task.1 -> memory.1
        sh_write memory.1 -> a.1
        version_entity memory.1 -> memory.2
        sh_read a.1 -> memory.2
        version_activity task.1 -> task.2
        memory_read memory.2 -> task.2
        clone_mem task.2 -> memory2.0
        clone task.2 -> task2.0
        sh_read a.1 -> memory2.0
        memory_read memory2.0 -> task2.0
        version_entity c.0 -> c.1
        write task2.0 -> c.1 0x2
        terminate_task task2.0 -> task2.1
        terminate_proc memory2.0 -> memory2.1
    """)


def test_g2_mappings_beyond_what_a_process_can_list_are_declared(
    lab: Lab, whole: Tenant, work: Path
) -> None:
    records = whole.run(work, "map-many", "11")
    mapped = [r for r in records if isinstance(r, FlowRecord) and r.relation is Relation.MMAP]
    assert len(mapped) == 11
    counters = lab.counters(whole.slot)
    assert [sum(reason) for reason in zip(*(cpu.lost for cpu in counters), strict=True)] == [
        3 if reason is Loss.MAPPINGS else 0 for reason in Loss
    ]
    assert len(records) + 3 == sum(cpu.captured for cpu in counters)


@pytest.mark.every_kernel
def test_g2_two_processes_map_a_file_at_one_moment(lab: Lab, whole: Tenant, work: Path) -> None:
    """Its state moves once: moved twice, every flow of the file was lost as contention for ever.

    Who moves it may be on an emulated CPU that the host does not run just then: the other one waits
    some microseconds, gives up, and its mapping is counted as lost, once.
    """
    records = whole.run(work, "map-together", "50")
    lost = sum(cpu.lost[Loss.CONTENTION] for cpu in lab.counters(whole.slot))
    assert lost <= 5
    mapped = [each for each in records if isinstance(each, FlowRecord)]
    assert 100 - lost <= sum(each.relation == Relation.MMAP for each in mapped) <= 100
