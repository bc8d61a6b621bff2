# SPDX-License-Identifier: Apache-2.0
"""Tasks and process memories: how they begin, execute, change and end (G1, G2, G4)."""

import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from headwater_agent.decode import AnyRecord, TextRecord, VertexRecord
from headwater_agent.layout import RecordKind, SlotFlag, TextMark
from headwater_prov.vocabulary import Relation, VertexType

from tests.kernel.graph import arguments_of, graph
from tests.kernel.lab import DEFAULT_FLAGS, NO_LOOK_UPS, TIMEOUT_S, Lab, Tenant
from tests.kernel.rendering import rendered


@pytest.fixture
def executing(lab: Lab) -> Iterator[Tenant]:
    """Without what a program's start-up looks up about itself, which has its number in its path."""
    with lab.tenant(off={*NO_LOOK_UPS, Relation.READ_LINK}) as tenant:
        yield tenant


def environments(records: Sequence[AnyRecord]) -> list[TextRecord]:
    return [
        record
        for record in records
        if isinstance(record, TextRecord) and record.kind is RecordKind.ENVIRONMENT
    ]


def memories(tenant: Tenant) -> list[VertexRecord]:
    return [
        record
        for record in tenant.records
        if isinstance(record, VertexRecord) and record.type is VertexType.PROCESS_MEMORY
    ]


def arguments(records: Sequence[AnyRecord]) -> list[TextRecord]:
    return [
        record
        for record in records
        if isinstance(record, TextRecord) and record.kind is RecordKind.ARGUMENTS
    ]


@pytest.mark.every_kernel
def test_fork_and_exit(whole: Tenant, work: Path) -> None:
    assert whole.lines(work, "fork") == graph("""
        version_activity task.0 -> task.1
        memory_read memory.0 -> task.1
        clone_mem task.1 -> memory2.0
        clone task.1 -> task2.0
        terminate_task task2.0 -> task2.1
        terminate_proc memory2.0 -> memory2.1
    """)


def test_thread_shares_the_memory(whole: Tenant, work: Path) -> None:
    assert whole.lines(work, "thread") == graph("""
        clone task.0 -> task2.0 0x10f00
        memory_read memory.0 -> task2.0
        version_entity a.0 -> a.1
        write task2.0 -> a.1 0x2
        terminate_task task2.0 -> task2.1
    """)


@pytest.mark.every_kernel
def test_exec_ends_one_memory_and_begins_another(executing: Tenant, work: Path) -> None:
    assert executing.lines(work, "exec", "behaviours", "nothing", "x y", "") == graph("""
        version_activity task.0 -> task.1
        open behaviours.0 -> task.1 0x8020
        memory_write task.1 -> memory.0
        version_activity task.1 -> task.2
        read behaviours.0 -> task.2 0x4
        memory_write task.2 -> memory.0
        named behaviours -> memory2.0
        exec behaviours.0 -> memory2.0
        version_activity task.2 -> task.3
        memory_read memory.0 -> task.3
        exec_task task.3 -> memory2.0
        terminate_proc memory.0 -> memory.1
        version_activity task.3 -> task.4
        mmap_private behaviours.0 -> task.4 0x1
        memory_write task.4 -> memory2.0
        arg 'behaviours' -> memory2.0
        arg 'nothing' -> memory2.0
        arg 'x y' -> memory2.0
        arg '' -> memory2.0
        version_activity task.4 -> task.5
        getpgid memory2.0 -> task.5
        version_entity memory2.0 -> memory2.1
        memory_write task.5 -> memory2.1
    """)


def test_script_is_executed_and_so_is_its_interpreter(executing: Tenant, work: Path) -> None:
    (work / "script").write_text("#!./behaviours nothing\n")
    (work / "script").chmod(0o755)
    assert executing.lines(work, "script") == graph("""
        named script -> script.0
        version_activity task.0 -> task.1
        open script.0 -> task.1 0x8020
        memory_write task.1 -> memory.0
        version_activity task.1 -> task.2
        read script.0 -> task.2 0x4
        memory_write task.2 -> memory.0
        version_activity task.2 -> task.3
        open behaviours.0 -> task.3 0x8020
        memory_write task.3 -> memory.0
        version_activity task.3 -> task.4
        read behaviours.0 -> task.4 0x4
        memory_write task.4 -> memory.0
        named behaviours -> memory2.0
        exec script.0 -> memory2.0
        exec behaviours.0 -> memory2.0
        version_activity task.4 -> task.5
        memory_read memory.0 -> task.5
        exec_task task.5 -> memory2.0
        terminate_proc memory.0 -> memory.1
        version_activity task.5 -> task.6
        mmap_private behaviours.0 -> task.6 0x1
        memory_write task.6 -> memory2.0
        arg './behaviours' -> memory2.0
        arg 'nothing' -> memory2.0
        arg './script' -> memory2.0
        version_activity task.6 -> task.7
        getpgid memory2.0 -> task.7
        version_entity memory2.0 -> memory2.1
        memory_write task.7 -> memory2.1
    """)


def test_exec_that_fails_keeps_the_memory(tenant: Tenant, work: Path) -> None:
    (work / "a").chmod(0o755)
    assert tenant.lines(work, "failing-exec") == graph("""
        named a -> a.0
        version_activity task.0 -> task.1
        open a.0 -> task.1 0x8020
        memory_write task.1 -> memory.0
        version_activity task.1 -> task.2
        read a.0 -> task.2 0x4
        memory_write task.2 -> memory.0
    """)


def test_arguments_are_exact_and_no_environment_is_among_them(tenant: Tenant, work: Path) -> None:
    tenant.run(work, "exec-with-environment", "behaviours", "nothing", "caf\udce9", "last")
    texts = [record for record in tenant.records if isinstance(record, TextRecord)]
    own = ["behaviours", "nothing", "caf\udce9", "last"]
    assert [arguments_of(record) for record in arguments(texts)] == [
        ["./behaviours", "exec-with-environment", *own],
        own,
    ]
    assert not any(b"SECRET" in record.data or b"environment-of" in record.data for record in texts)


def test_arguments_that_are_too_long_are_cut_and_say_so(tenant: Tenant, work: Path) -> None:
    tenant.run(work, "nothing", "x" * 5003)
    (record,) = arguments(tenant.records)
    assert TextMark.TRUNCATED in record.marks
    assert record.data == (b"./behaviours\0nothing\0" + b"x" * 5003)[: len(record.data)]
    assert len(record.data) > 4000


def test_arguments_can_be_left_out(lab: Lab, work: Path) -> None:
    with lab.tenant(off={Relation.ARG}) as tenant:
        tenant.run(work, "nothing")
        texts = [record for record in tenant.records if isinstance(record, TextRecord)]
        assert {record.kind for record in texts} == {RecordKind.NAME}


@pytest.mark.every_kernel
def test_environment_is_recorded_where_a_policy_wants_it(lab: Lab, work: Path) -> None:
    with lab.tenant(flags=DEFAULT_FLAGS | SlotFlag.ENVIRONMENT) as tenant:
        lines = tenant.lines(work, "exec-with-environment", "behaviours", "nothing")
        assert "env 'SECRET=environment-of-the-test' -> memory2.0" in lines
        assert [line for line in lines if line.startswith("arg ")] == [
            "arg 'behaviours' -> memory2.0",
            "arg 'nothing' -> memory2.0",
        ]
        # Nothing has left the memory before: what a program is told is in its first version.
        assert not [line for line in lines if line.startswith(("arg", "env")) and ".0" not in line]


def test_environment_alone(lab: Lab, work: Path) -> None:
    flags = DEFAULT_FLAGS & ~SlotFlag.ARGUMENTS | SlotFlag.ENVIRONMENT
    with lab.tenant(flags=flags) as tenant:
        tenant.run(work, "exec-with-environment", "behaviours", "nothing")
        assert arguments(tenant.records) == []
        assert any(b"SECRET=" in record.data for record in environments(tenant.records))


@pytest.mark.parametrize("off", [Relation.ENV, VertexType.ENVP])
def test_environment_can_be_filtered(lab: Lab, work: Path, off: Relation | VertexType) -> None:
    relations = {*NO_LOOK_UPS, *([off] if isinstance(off, Relation) else [])}
    types = [off] if isinstance(off, VertexType) else []
    flags = DEFAULT_FLAGS | SlotFlag.ENVIRONMENT
    with lab.tenant(off=relations, vertices_off=types, flags=flags) as tenant:
        tenant.run(work, "exec-with-environment", "behaviours", "nothing")
        assert arguments(tenant.records)
        assert environments(tenant.records) == []


def test_environment_that_is_too_long_is_cut_and_says_so(lab: Lab, work: Path) -> None:
    with lab.tenant(flags=DEFAULT_FLAGS | SlotFlag.ENVIRONMENT) as tenant:
        command = ["/usr/bin/env", "-i", "LONG=" + "x" * 5000, "./behaviours", "nothing"]
        tenant.prepare(work)
        subprocess.run(tenant.command(*command), cwd=work, check=True, timeout=TIMEOUT_S)
        record = environments(tenant.take())[-1]
        assert TextMark.TRUNCATED in record.marks
        assert record.data == (b"LONG=" + b"x" * 5000)[: len(record.data)]
        assert len(record.data) > 4000


def test_empty_environment_is_no_record(lab: Lab, work: Path) -> None:
    with lab.tenant(flags=DEFAULT_FLAGS | SlotFlag.ENVIRONMENT) as tenant:
        command = ["/usr/bin/env", "-i", "./behaviours", "nothing"]
        tenant.prepare(work)
        subprocess.run(tenant.command(*command), cwd=work, check=True, timeout=TIMEOUT_S)
        records = tenant.take()
        assert len(environments(records)) == len(arguments(records)) - 1


@pytest.mark.every_kernel
def test_secrets_of_arguments_and_environment_are_in_no_document(lab: Lab, work: Path) -> None:
    with lab.tenant(flags=DEFAULT_FLAGS | SlotFlag.ENVIRONMENT) as tenant:
        tenant.prepare(work)
        command = ["./behaviours", "exec-with-environment", "behaviours", "nothing"]
        words = ["--password=of-the-word", "--token", "that-follows", "seen"]
        found = rendered(lab, tenant, tenant.command(*command, *words), work)
    text = "".join(found.texts)
    for secret in ("environment-of-the-test", "of-the-word", "that-follows"):
        assert secret not in text
    assert '"cf:value":"SECRET=[redacted]","hw:redacted":"builtin-name"' in text
    assert '"cf:value":"--password=[redacted]","hw:redacted":"builtin-name"' in text
    assert '"cf:value":"seen"' in text
    assert found.relations()[Relation.ENV]


def test_setuid_is_an_edge_and_a_memory_with_the_new_user(whole: Tenant, work: Path) -> None:
    assert whole.lines(work, "setuid") == graph("""
        version_activity task.0 -> task.1
        memory_read memory.0 -> task.1
        version_entity memory.0 -> memory.1
        setuid task.1 -> memory.1 0x1
        version_activity task.1 -> task.2
        read a.0 -> task.2 0x4
        memory_write task.2 -> memory.1
    """)
    users = [record.body["uid"] for record in memories(whole)]
    assert users[0] == 0
    assert users[-1] == 1234


def test_setpgid_says_which_group(whole: Tenant, work: Path) -> None:
    lines = whole.lines(work, "setpgid")
    group = int(memories(whole)[-1].body["tgid"])
    assert lines == graph(f"""
        version_activity task.0 -> task.1
        memory_read memory.0 -> task.1
        version_entity memory.0 -> memory.1
        setpgid task.1 -> memory.1 {group:#x}
    """)


def test_getpgid_of_a_process_outside_shows_that_it_is(whole: Tenant, work: Path) -> None:
    assert whole.lines(work, "getpgid") == graph("""
        version_activity task.0 -> task.1
        getpgid memory2.0 -> task.1
        memory_write task.1 -> memory.0
    """)
    assert [record.owner for record in memories(whole)][-1] == 0


def test_first_exec_is_captured(whole: Tenant, work: Path) -> None:
    records = whole.run(work, "nothing")
    relations = {getattr(record, "relation", None) for record in records}
    assert {Relation.EXEC, Relation.EXEC_TASK} <= relations
    assert [arguments_of(record) for record in arguments(records)] == [["./behaviours", "nothing"]]


def test_end_of_a_process_is_the_end_of_its_task_and_memory(whole: Tenant, work: Path) -> None:
    records = whole.run(work, "nothing")
    ends = [getattr(r, "relation", None) for r in records[-2:]]
    assert ends == [Relation.TERMINATE_TASK, Relation.TERMINATE_PROC]
