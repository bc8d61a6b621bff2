# SPDX-License-Identifier: Apache-2.0
"""Which processes are recorded: CamFlow's track and opaque, by what a process executes.

What is asked of the records is which paths are in them: those of programs and of what these open.
"""

import subprocess
from collections.abc import Iterable
from pathlib import Path

import pytest
from headwater_agent.decode import AnyRecord, FlowRecord, TextRecord, VertexRecord
from headwater_agent.layout import RecordKind
from headwater_prov.policy import ProcessRules

from tests.kernel.lab import TIMEOUT_S, Lab, Tenant


def only(*track: str, opaque: Iterable[str] = ()) -> ProcessRules:
    return ProcessRules(True, frozenset(track), frozenset(opaque))


def without(*opaque: str) -> ProcessRules:
    return ProcessRules(False, frozenset(), frozenset(opaque))


def names(records: Iterable[AnyRecord]) -> set[str]:
    """The last components of all paths that are named."""
    return {
        bytes(record.data).split(b"\0")[0].decode()
        for record in records
        if isinstance(record, TextRecord) and record.kind == RecordKind.NAME
    }


def shell(tenant: Tenant, work: Path, script: str) -> set[str]:
    """The names that a shell script leaves in the slot's records, of which none is lost."""
    (work / "given").write_text("something\n")
    done = subprocess.run(
        tenant.command("/bin/sh", "-c", script),
        cwd=work,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=TIMEOUT_S,
    )
    assert done.returncode == 0, done.stderr
    assert not any(sum(cpu.lost) for cpu in tenant.lab.counters(tenant.slot))
    return names(tenant.take())


def is_a_graph(records: Iterable[AnyRecord]) -> bool:
    """Whether no edge is without its vertices; of all records since the slot's epoch began."""
    known = set()
    for record in records:
        if isinstance(record, VertexRecord):
            known.add(record.object)
        elif isinstance(record, FlowRecord) and not {record.a, record.b} <= known:
            return False
    return True


TWO = "cp given copied; cat given > shown; ( : > made )"


@pytest.mark.every_kernel
def test_selective_records_what_is_tracked_and_nothing_else(lab: Lab, work: Path) -> None:
    with lab.tenant(processes=(only("/**/cp"),)) as tenant:
        found = shell(tenant, work, TWO)
        assert {"cp", "given", "copied"} <= found
        assert not {"cat", "shown", "made"} & found, found
        assert is_a_graph(tenant.records)


@pytest.mark.every_kernel
def test_opaque_is_not_recorded_and_the_rest_is(lab: Lab, work: Path) -> None:
    with lab.tenant(processes=(without("/**/cp"),)) as tenant:
        found = shell(tenant, work, TWO)
        assert "copied" not in found
        assert {"cat", "given", "shown", "made"} <= found
        assert is_a_graph(tenant.records)


def test_all_tracked_is_the_same_graph_as_all(lab: Lab, work: Path) -> None:
    with lab.tenant(processes=(only("/**"),)) as tracked, lab.tenant() as everything:
        assert tracked.lines(work, "copy") == everything.lines(work, "copy")
        assert tracked.lines(work, "fork") == everything.lines(work, "fork")


def test_children_of_the_tracked_are_tracked_whatever_they_execute(lab: Lab, work: Path) -> None:
    with lab.tenant(processes=(only("/**/*sh"),)) as tenant:
        assert {"cp", "copied", "cat", "shown", "made"} <= shell(tenant, work, TWO)
        (work / "late").write_text("something\n")
        assert "late" in shell(tenant, work, "exec cat late")


def test_what_an_opaque_program_starts_is_judged_by_what_that_executes(
    lab: Lab, work: Path
) -> None:
    """Nothing hides behind an opaque program."""
    with lab.tenant(processes=(without("/**/*sh"),)) as tenant:
        found = shell(tenant, work, TWO)
        assert {"cp", "copied", "cat"} <= found
        assert "made" not in found, "a child that executes nothing is what its parent is"


def test_a_tracked_program_that_is_opaque_is_not_recorded(lab: Lab, work: Path) -> None:
    with lab.tenant(processes=(only("/**/*sh", opaque=["/**/cp"]),)) as tenant:
        found = shell(tenant, work, TWO)
        assert "copied" not in found and {"cat", "shown"} <= found


def test_a_script_counts_by_its_own_path_and_by_its_interpreters(lab: Lab, work: Path) -> None:
    script = work / "tool"
    script.write_text("#!/bin/cat\nsomething\n")
    script.chmod(0o755)
    for rules in (only(str(script)), only("/**/cat")):
        with lab.tenant(processes=(rules,)) as tenant:
            found = shell(tenant, work, "./tool; cp given copied")
            assert {"tool", "cat"} <= found and "copied" not in found


def test_a_path_is_matched_whole(lab: Lab, work: Path) -> None:
    for wrong in ("/cp", "/bin/c", "/**/c", "/usr/bin/cp/**", f"{work}/**"):
        with lab.tenant(processes=(only(wrong),)) as tenant:
            assert not {"cp", "copied"} & shell(tenant, work, "cp given copied")


def test_a_process_is_left_out_that_all_policies_leave_out(lab: Lab, work: Path) -> None:
    with lab.tenant(processes=(only("/**/cp"), without("/**/cat"))) as tenant:
        assert {"cp", "copied", "made"} <= shell(tenant, work, TWO)
    with lab.tenant(processes=(only("/**/cp"), only("/**/cat"))) as tenant:
        found = shell(tenant, work, f"{TWO}; head given > first")
        assert {"cp", "copied", "cat", "given"} <= found
        assert not {"head", "first", "made"} & found


def test_another_slots_rules_are_its_own(lab: Lab, work: Path) -> None:
    with (
        lab.tenant(processes=(only("/**/cp"),)) as one,
        lab.tenant(processes=(only("/**/cat"),)) as other,
        lab.tenant() as third,
    ):
        assert "copied" in shell(one, work, TWO)
        assert "copied" not in shell(other, work, TWO)
        assert {"copied", "shown"} <= shell(third, work, TWO)


def test_edit_holds_from_the_next_exec_and_records_more_until_then(lab: Lab, work: Path) -> None:
    with lab.tenant() as tenant:
        running = subprocess.Popen(
            tenant.command(
                "/bin/sh", "-c", "echo ready; read go; : > after; cp given copied; cat given"
            ),
            cwd=work,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        (work / "given").write_text("something\n")
        assert running.stdout and running.stdout.readline() == b"ready\n"
        tenant.edit(processes=(without("/**/*sh", "/**/cp"),))
        tenant.take()
        running.communicate(b"go\n", TIMEOUT_S)
        found = names(tenant.take())
        assert {"after", "cat"} <= found and "copied" not in found
        tenant.edit(processes=())
        assert {"copied", "made"} <= shell(tenant, work, TWO)
