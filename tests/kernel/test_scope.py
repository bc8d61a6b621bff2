# SPDX-License-Identifier: Apache-2.0
"""Which tasks are captured: by cgroup, inherited, exact to 64 bits, nobody else (G1, G5, G9)."""

import os
import subprocess
from pathlib import Path

import pytest
from headwater_agent.decode import AnyRecord, VertexRecord
from headwater_agent.layout import Loss
from headwater_prov.vocabulary import VertexType

from tests.kernel.graph import marks_in
from tests.kernel.lab import CGROUPS, Lab, Tenant

BUCKETS = 1 << 16


def cgroups_of_tasks(records: list[AnyRecord]) -> set[int]:
    return {
        int(record.body["cgroup"])
        for record in records
        if isinstance(record, VertexRecord) and record.type is VertexType.TASK
    }


@pytest.mark.every_kernel
def test_g1_cgroup_made_inside_is_captured_and_forgotten_when_removed(
    lab: Lab, tenant: Tenant, work: Path
) -> None:
    inner = tenant.cgroup / "inner" / "innermost"
    inner.mkdir(parents=True)
    ids = [inner.parent.stat().st_ino, inner.stat().st_ino]
    known = lab.scope.cgroups()
    assert [known.get(cgroup) for cgroup in ids] == [tenant.slot, tenant.slot]
    records = tenant.run(work, "nothing", cgroup=inner)
    assert len(marks_in(records)) == 2
    assert cgroups_of_tasks(records) == {ids[1]}
    inner.rmdir()
    inner.parent.rmdir()
    assert not lab.scope.cgroups().keys() & set(ids)


def test_g9_what_is_outside_leaves_no_record(lab: Lab, work: Path) -> None:
    outside = CGROUPS / f"lab-outside-{os.getpid()}"
    outside.mkdir()
    with lab.tenant() as tenant:
        tenant.take()
        before = lab.ring.snapshot()
        tenant.run(work, "copy", cgroup=outside)
        assert lab.ring.snapshot() == before
        assert not any(cpu.captured for cpu in lab.counters(tenant.slot))
    outside.rmdir()


def test_cgroup_that_is_taken_out_is_not_captured(lab: Lab, tenant: Tenant, work: Path) -> None:
    assert tenant.run(work, "nothing")
    lab.scope.remove_cgroup(tenant.cgroup_id)
    assert tenant.run(work, "nothing") == []
    lab.scope.add_cgroup(tenant.cgroup_id, tenant.slot)
    assert tenant.run(work, "nothing")


def test_same_low_bits_do_not_mix_two_cgroups(lab: Lab, work: Path) -> None:
    with lab.tenant() as real, lab.tenant() as other:
        twin = real.cgroup_id + (7 << 40)
        assert twin % BUCKETS == real.cgroup_id % BUCKETS
        lab.scope.add_cgroup(twin, other.slot)
        assert len(marks_in(real.run(work, "nothing"))) == 2
        assert other.take() == []
        lab.scope.remove_cgroup(real.cgroup_id)
        assert real.run(work, "nothing") == []
        assert not any(cpu.captured for cpu in lab.counters(other.slot))
        lab.scope.remove_cgroup(twin)


def test_cgroup_that_the_kernel_enters_does_not_mix_either(lab: Lab, work: Path) -> None:
    with lab.tenant() as real, lab.tenant() as other:
        last = other.cgroup_id
        twins = [last + step + (7 << 40) for step in range(1, 101)]
        for twin in twins:
            lab.scope.add_cgroup(twin, other.slot)
        inner = real.cgroup / "inner"
        inner.mkdir()
        own = inner.stat().st_ino
        assert own % BUCKETS in {twin % BUCKETS for twin in twins}, "no twin was met: try more"
        records = real.run(work, "nothing", cgroup=inner)
        assert len(marks_in(records)) == 2
        assert cgroups_of_tasks(records) == {own}
        assert not any(cpu.captured for cpu in lab.counters(other.slot))
        inner.rmdir()
        assert own not in lab.scope.cgroups()
        for twin in twins:
            lab.scope.remove_cgroup(twin)


@pytest.mark.every_kernel
def test_g5_two_slots_on_one_file(lab: Lab, work: Path) -> None:
    with lab.tenant() as one, lab.tenant() as two:
        files = []
        for tenant, behaviour in ((one, "read"), (two, "write")):
            records = tenant.run(work, behaviour)
            inode = (work / "a").stat().st_ino
            (file,) = [
                record
                for record in records
                if isinstance(record, VertexRecord)
                and record.type is VertexType.FILE
                and record.body["ino"] == inode
            ]
            assert {record.epoch for record in records} == {tenant.config.epoch}
            assert cgroups_of_tasks(records) == {tenant.cgroup_id}
            files.append(file)
        assert files[0].object == files[1].object
        assert [file.owner for file in files] == [one.slot, one.slot]


def test_two_slots_at_once(lab: Lab, work: Path) -> None:
    with lab.tenant() as one, lab.tenant() as two:
        one.prepare(work)
        running = [
            subprocess.Popen(tenant.words("flood", "503"), cwd=work) for tenant in (one, two)
        ]
        assert [process.wait(300) for process in running] == [0, 0]
        records = lab.drain()
        for tenant in (one, two):
            own = [record for record in records if record.slot == tenant.slot]
            assert len(marks_in(own)) == 2
            assert {record.epoch for record in own} == {tenant.config.epoch}
            assert cgroups_of_tasks(own) == {tenant.cgroup_id}
            for cpu, counted in enumerate(lab.counters(tenant.slot)):
                numbers = [record.sequence for record in own if record.cpu == cpu]
                assert len(set(numbers)) == len(numbers) == counted.captured - sum(counted.lost)
                # Both first touch and change one file at once: a hook may give up, and says so.
                assert counted.lost[Loss.RING] == 0
                assert sum(counted.lost) <= 11, counted
