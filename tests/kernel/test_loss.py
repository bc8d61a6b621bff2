# SPDX-License-Identifier: Apache-2.0
"""A ring that is too small: what is lost is counted, by reason, CPU and slot, to the last one (G2).

Has a capture of its own, because the ring's size is that of the load.
"""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from headwater_agent.decode import AnyRecord, FlowRecord, TextRecord, VertexRecord
from headwater_agent.layout import Loss
from headwater_agent.load import Capture

from tests.kernel.graph import marks_in
from tests.kernel.lab import Lab, Tenant


@pytest.fixture(scope="module")
def small(program: Path) -> Iterator[Lab]:
    with Capture(ring_bytes=65536) as capture:
        yield Lab(capture, program)


def check_account(lab: Lab, tenant: Tenant, records: list[AnyRecord]) -> int:
    """Seen and lost make up what was captured, and the missing numbers are the lost ones."""
    lost = 0
    for cpu, counted in enumerate(lab.counters(tenant.slot)):
        seen = {r.sequence for r in records if r.cpu == cpu and r.slot == tenant.slot}
        missing = set(range(1, counted.captured + 1)) - seen
        assert len(missing) == sum(counted.lost)
        assert len(seen) == counted.captured - sum(counted.lost)
        # Two CPUs that keep changing one object may give up: rarely, and counted as that.
        contended = counted.lost[Loss.CONTENTION]
        assert contended <= counted.captured / 100, counted
        assert sum(counted.lost) == counted.lost[Loss.RING] + contended, counted
        lost += len(missing)
    return lost


def check_declared(records: list[AnyRecord], slot: int) -> None:
    """A loss never leaves an edge without its vertices."""
    declared: set[int] = set()
    for record in records:
        if record.slot != slot:
            continue
        if isinstance(record, VertexRecord):
            declared.add(record.object)
        elif isinstance(record, TextRecord):
            assert record.object in declared
        elif isinstance(record, FlowRecord):
            assert {record.a, record.b} <= declared
            assert record.c == 0 or record.c_version == 0 or record.c in declared


@pytest.mark.every_kernel
def test_g2_two_slots_flood_a_ring_that_nobody_reads(small: Lab, work: Path) -> None:
    with small.tenant() as one, small.tenant() as two:
        one.prepare(work)
        running = [
            subprocess.Popen(tenant.words("flood", "1009"), cwd=work) for tenant in (one, two)
        ]
        assert [process.wait(300) for process in running] == [0, 0]
        records = small.drain()
        assert sum(check_account(small, tenant, records) for tenant in (one, two)) > 100
        for tenant in (one, two):
            check_declared(records, tenant.slot)


def test_g2_ring_that_is_read_meanwhile(small: Lab, work: Path) -> None:
    with small.tenant() as tenant:
        tenant.prepare(work)
        records: list[AnyRecord] = []
        process = subprocess.Popen(tenant.words("flood", "2003"), cwd=work)
        while process.poll() is None:
            records += small.drain()
        records += small.drain()
        check_account(small, tenant, records)
        check_declared(records, tenant.slot)


def test_capture_goes_on_after_a_loss(small: Lab, work: Path) -> None:
    with small.tenant() as tenant:
        records = tenant.run(work, "flood", "1009")
        assert check_account(small, tenant, records) > 100
        ended = len(records)
        records += tenant.run(work, "copy")
        check_declared(records, tenant.slot)
        assert len(marks_in(records[ended:])) == 2
