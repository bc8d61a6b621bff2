# SPDX-License-Identifier: Apache-2.0
"""What a container runtime does inside the container's cgroup is told from the workload (G1).

A program plays runc, step by step: see programs/runtime.c.
"""

import secrets
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from headwater_agent.decode import AnyRecord, FlowRecord, TextRecord, VertexRecord
from headwater_agent.layout import Mark, RecordKind, SlotFlag
from headwater_prov.vocabulary import Relation, VertexType

from tests.kernel.behaviours import build
from tests.kernel.graph import arguments_of, graph, path_of
from tests.kernel.lab import DEFAULT_FLAGS, TIMEOUT_S, Lab, Tenant

SHOWN = frozenset(
    {
        *(Relation.OPEN, Relation.EXEC, Relation.EXEC_TASK, Relation.CLONE),
        *(Relation.NAMED, Relation.ARG, Relation.TERMINATE_TASK),
    }
)
ASIDE = ("/proc/", "/sys/", "/dev/")
"""Where the C library reads on its own account."""


@pytest.fixture
def node(tmp_path: Path) -> Path:
    """The host's files, the runtime, and a container's root."""
    root = tmp_path / "root"
    root.mkdir()
    for name in ("host", "host-2", "root/data"):
        (tmp_path / name).write_text(name)
    shutil.copy2(build("runtime"), tmp_path / "runtime")
    shutil.copy2(build("runtime"), root / "app")
    return tmp_path


@pytest.fixture
def pod(lab: Lab) -> Iterator[Tenant]:
    """A pod in a slot whose set-up is marked."""
    flags = DEFAULT_FLAGS | SlotFlag.MARK_SETUP
    with lab.tenant(off=set(Relation) - SHOWN, flags=flags) as tenant:
        yield tenant


def play(pod: Tenant, node: Path, part: str, *work: str) -> list[AnyRecord]:
    """Have the runtime start a container in the pod; returns all records."""
    container = pod.cgroup / secrets.token_hex(32)
    if part != "start":
        container.mkdir()
    try:
        done = subprocess.run(
            ["./runtime", part, str(container), str(node / "root"), *work],
            cwd=node,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=TIMEOUT_S,
        )
        assert done.returncode == 0, done.stderr
    finally:
        container.rmdir()
    return pod.take()


def lines(records: list[AnyRecord], node: Path) -> list[str]:
    """Opens, execs, forks and arguments in order; those of the set-up are said to be."""
    names: dict[int, str] = {}
    found = []
    for record in records:
        text = ""
        if isinstance(record, TextRecord) and record.kind is RecordKind.NAME:
            names.setdefault(record.object, path_of(record).removeprefix(f"{node}/"))
        elif isinstance(record, TextRecord):
            text = "arg " + " ".join(arguments_of(record)).replace(f"{node}/", "")
        elif isinstance(record, FlowRecord):
            text = record.relation.name.lower()
            if record.relation in (Relation.OPEN, Relation.EXEC):
                name = names[record.a]
                text = "" if name in ("/", "/nsfs") or name.startswith(ASIDE) else f"{text} {name}"
        if text:
            found.append(f"setup {text}" if record.standing else text)
    return found


def standings(records: list[AnyRecord], kind: VertexType) -> set[Mark]:
    return {
        record.standing
        for record in records
        if isinstance(record, VertexRecord) and record.type is kind
    }


@pytest.mark.every_kernel
def test_g1_container_is_the_workloads_from_its_entry_point_on(pod: Tenant, node: Path) -> None:
    records = play(pod, node, "start", "read")
    assert lines(records, node) == graph("""
        setup open host
        setup open runtime
        setup exec runtime
        setup exec_task
        setup arg runtime init root read
        setup clone
        setup open host-2
        setup terminate_task
        setup clone
        setup open /data
        open /app
        exec /app
        exec_task
        arg app work read
        open /data
        terminate_task
        setup terminate_task
    """)
    assert standings(records, VertexType.TASK) == {Mark.SETUP}
    # Of the set-up, of its copy and of the workload.
    assert standings(records, VertexType.PROCESS_MEMORY) == {Mark.SETUP, Mark(0)}


@pytest.mark.every_kernel
def test_command_in_a_running_container_is_the_workloads_from_its_exec_on(
    pod: Tenant, node: Path
) -> None:
    """With two threads, and under the container's root before it is moved in: `kubectl exec`."""
    assert lines(play(pod, node, "exec", "thread"), node) == graph("""
        setup open /data
        setup terminate_task
        open /app
        exec /app
        exec_task
        arg app work thread
        clone
        open /data
        terminate_task
        terminate_task
    """)


@pytest.mark.every_kernel
def test_what_is_cloned_into_a_container_is_set_up(pod: Tenant, node: Path) -> None:
    assert lines(play(pod, node, "clone", "read"), node) == graph("""
        setup open host
        open /app
        exec /app
        exec_task
        arg app work read
        open /data
        terminate_task
    """)


def test_workload_stays_one_when_it_goes_back_to_the_hosts_root(pod: Tenant, node: Path) -> None:
    found = lines(play(pod, node, "start", "host", str(node / "host"), str(node / "runtime")), node)
    begin = found.index("exec /app")
    assert found[begin:] == graph("""
        exec /app
        exec_task
        arg app work host host runtime
        open host
        clone
        open runtime
        terminate_task
        terminate_task
        setup terminate_task
    """)


def test_set_up_ends_whatever_the_policy_records(lab: Lab, node: Path) -> None:
    """The exec and its open are not recorded, but they happen."""
    off = set(Relation) - {Relation.CLONE, Relation.TERMINATE_TASK}
    flags = DEFAULT_FLAGS | SlotFlag.MARK_SETUP
    with lab.tenant(off=off, flags=flags) as pod:
        found = lines(play(pod, node, "start", "thread"), node)
    assert found == graph("""
        setup clone
        setup terminate_task
        setup clone
        clone
        terminate_task
        terminate_task
        setup terminate_task
    """)


def test_nothing_is_set_up_where_the_slot_does_not_ask(lab: Lab, node: Path) -> None:
    with lab.tenant(off=set(Relation) - SHOWN) as run:
        found = lines(play(run, node, "start", "read"), node)
    assert "open host" in found
    assert not any(line.startswith("setup") for line in found)


def test_what_was_there_before_the_capture_is_a_workload_with_all_it_starts(
    lab: Lab, pod: Tenant, node: Path
) -> None:
    """As after a restart of the agent; and whoever starts containers in a container owns them."""
    outer, inner = pod.cgroup / "outer", pod.cgroup / "outer" / "inner"
    lab.scope.remove_cgroup(pod.cgroup_id)
    outer.mkdir()
    shell = f"read line; exec ./runtime start {inner} {node}/root read"
    process = subprocess.Popen(["/bin/sh", "-c", shell], cwd=node, stdin=subprocess.PIPE)
    (outer / "cgroup.procs").write_text(str(process.pid))
    for cgroup in (pod.cgroup_id, outer.stat().st_ino):
        lab.scope.add_cgroup(cgroup, pod.slot)
    process.communicate(b"\n", TIMEOUT_S)
    assert process.returncode == 0
    inner.rmdir()
    outer.rmdir()
    found = lines(pod.take(), node)
    assert {"open host", "exec runtime", "open host-2", "exec /app"} <= set(found)
    assert not any(line.startswith("setup") for line in found)
