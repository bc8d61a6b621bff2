# SPDX-License-Identifier: Apache-2.0
"""Data moved without being read: splice, tee, vmsplice, sendfile, copy_file_range (G2, G4)."""

import itertools
from pathlib import Path

import pytest

from tests.kernel.graph import graph
from tests.kernel.lab import Tenant


@pytest.mark.every_kernel
def test_from_a_file_into_a_pipe(tenant: Tenant, work: Path) -> None:
    """The first edge into the pipe is what the task had before: it may have read the file then."""
    assert tenant.lines(work, "splice-in") == graph("""
        version_activity task.0 -> task.1
        memory_read memory.0 -> task.1
        splice_out task.1 -> pipe.0 0x2
        version_activity task.1 -> task.2
        read a.0 -> task.2 0x4
        version_entity memory.0 -> memory.1
        memory_write task.2 -> memory.1
        version_activity task.2 -> task.3
        memory_read memory.1 -> task.3
        splice_out task.3 -> pipe.0 0x2
    """)


def test_from_a_file_that_was_spliced_before(tenant: Tenant, work: Path) -> None:
    assert tenant.lines(work, "splice-in-again") == graph("""
        version_activity task.0 -> task.1
        memory_read memory.0 -> task.1
        splice_out task.1 -> pipe.0 0x2
    """)


@pytest.mark.every_kernel
def test_who_waits_at_the_other_end_has_what_was_spliced(tenant: Tenant, work: Path) -> None:
    lines = tenant.lines(work, "splice-waiting")
    way = [
        "read a.0 -> task.2 0x4",
        "memory_read memory.1 -> task.3",
        "splice_out task.3 -> pipe.1 0x2",
        "read pipe.1 -> task2.1 0x4",
        "memory_read memory2.0 -> task2.2",
        "write task2.2 -> b.1 0x2",
    ]
    assert [line for line in lines if line in way] == way


@pytest.mark.every_kernel
def test_from_a_pipe_into_a_file(tenant: Tenant, work: Path) -> None:
    assert tenant.lines(work, "splice-out") == graph("""
        version_activity task.0 -> task.1
        read pipe.0 -> task.1 0x4
        memory_write task.1 -> memory.0
        version_activity task.1 -> task.2
        memory_read memory.0 -> task.2
        version_entity b.0 -> b.1
        write task.2 -> b.1 0x2
    """)


@pytest.mark.every_kernel
@pytest.mark.parametrize("behaviour", ["splice-between", "tee"])
def test_from_a_pipe_into_another(tenant: Tenant, work: Path, behaviour: str) -> None:
    assert tenant.lines(work, behaviour) == graph("""
        version_activity task.0 -> task.1
        read pipe.0 -> task.1 0x4
        memory_write task.1 -> memory.0
        version_activity task.1 -> task.2
        memory_read memory.0 -> task.2
        splice_out task.2 -> pipe2.0 0x2
    """)


@pytest.mark.every_kernel
def test_from_memory_into_a_pipe(tenant: Tenant, work: Path) -> None:
    assert tenant.lines(work, "vmsplice-in") == graph("""
        version_activity task.0 -> task.1
        memory_read memory.0 -> task.1
        splice_out task.1 -> pipe.0 0x2
    """)


def test_from_a_pipe_into_memory(tenant: Tenant, work: Path) -> None:
    assert tenant.lines(work, "vmsplice-out") == graph("""
        version_activity task.0 -> task.1
        read pipe.0 -> task.1 0x4
        memory_write task.1 -> memory.0
    """)


@pytest.mark.every_kernel
@pytest.mark.parametrize("behaviour", ["sendfile", "copy-file-range"])
def test_from_file_to_file(tenant: Tenant, work: Path, behaviour: str) -> None:
    # The kernel asks twice, and a repeated flow may be recorded again.
    lines = [line for line, _ in itertools.groupby(tenant.lines(work, behaviour))]
    assert lines == graph("""
        version_activity task.0 -> task.1
        read a.0 -> task.1 0x4
        memory_write task.1 -> memory.0
        version_activity task.1 -> task.2
        memory_read memory.0 -> task.2
        version_entity b.0 -> b.1
        write task.2 -> b.1 0x2
    """)
