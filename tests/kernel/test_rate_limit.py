# SPDX-License-Identifier: Apache-2.0
"""A policy's rate limit: kept on all CPUs together, counted to the last record, nobody else's (G2).

Time in an emulated guest is the host's, so what is asserted is what holds however slow it is: no
more than the limit's share of the time that passed, plus one second's worth.
"""

import subprocess
import time
from pathlib import Path

import pytest
from headwater_agent.decode import AnyRecord, FlowRecord, TextRecord, VertexRecord
from headwater_agent.layout import Loss

from tests.kernel.lab import TIMEOUT_S, Lab, Tenant

LIMIT = 50


def losses(lab: Lab, tenant: Tenant) -> list[int]:
    """How many records of the slot were lost, by reason."""
    counters = lab.counters(tenant.slot)
    return [sum(cpu.lost[reason] for cpu in counters) for reason in Loss]


def captured(lab: Lab, tenant: Tenant) -> int:
    return sum(cpu.captured for cpu in lab.counters(tenant.slot))


def flood(tenant: Tenant, work: Path, processes: int = 1) -> tuple[list[AnyRecord], float]:
    """Records of processes that change one file as fast as they can, and how long it took."""
    tenant.prepare(work)
    begin = time.monotonic()
    running = [
        subprocess.Popen(tenant.words("flood", "2000"), cwd=work, stdin=subprocess.DEVNULL)
        for _ in range(processes)
    ]
    for process in running:
        assert process.wait(TIMEOUT_S) == 0
    return tenant.take(), time.monotonic() - begin


@pytest.mark.every_kernel
def test_g2_no_more_than_the_limit_and_the_rest_is_counted(lab: Lab, work: Path) -> None:
    with lab.tenant(records_per_second=LIMIT) as limited:
        records, seconds = flood(limited, work, processes=2)
        lost = losses(lab, limited)
        assert lost[Loss.RATE] > 1000
        assert sum(lost) - lost[Loss.CONTENTION] == lost[Loss.RATE]
        assert len(records) + sum(lost) == captured(lab, limited)
        assert LIMIT <= len(records) <= LIMIT * (seconds + 1) + 2  # two CPUs may look at once


def test_what_is_recorded_is_a_graph(lab: Lab, work: Path) -> None:
    """As with a full ring: no edge without its vertices, whatever was refused before."""
    with lab.tenant(records_per_second=LIMIT) as limited:
        records, _ = flood(limited, work)
        known: set[int] = set()
        edges = 0
        for record in records:
            if isinstance(record, VertexRecord):
                known.add(record.object)
            elif isinstance(record, TextRecord):
                assert record.object in known
            elif isinstance(record, FlowRecord):
                assert {record.a, record.b} <= known
                edges += 1
        assert edges


def test_a_limit_that_is_not_reached_changes_nothing(lab: Lab, work: Path) -> None:
    with lab.tenant(records_per_second=10_000_000) as limited, lab.tenant() as free:
        assert limited.lines(work, "copy") == free.lines(work, "copy")


def test_g5_a_limit_is_its_own_slots(lab: Lab, work: Path) -> None:
    with lab.tenant(records_per_second=LIMIT) as limited, lab.tenant() as free:
        flood(limited, work)
        free.run(work, "copy")
        assert losses(lab, limited)[Loss.RATE]
        assert not losses(lab, free)[Loss.RATE]


def test_what_was_not_used_is_kept_for_a_second_only(lab: Lab, work: Path) -> None:
    with lab.tenant(records_per_second=LIMIT) as limited:
        time.sleep(3)
        records, seconds = flood(limited, work)
        assert len(records) <= LIMIT * (seconds + 1) + 1


def test_an_edit_ends_a_limit(lab: Lab, work: Path) -> None:
    with lab.tenant(records_per_second=LIMIT) as limited:
        flood(limited, work)
        limited.edit(records_per_second=None)
        before = losses(lab, limited)
        limited.run(work, "copy")
        assert losses(lab, limited) == before
