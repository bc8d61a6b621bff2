# SPDX-License-Identifier: Apache-2.0
"""A process that is moved out of its pod's cgroup stays captured and is flagged, nobody else is."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from headwater_agent.decode import AnyRecord, FlowRecord, TextRecord, VertexRecord
from headwater_agent.layout import Mark, RecordKind, SlotFlag
from headwater_prov.vocabulary import Relation, VertexType

from tests.kernel.behaviours import build
from tests.kernel.graph import path_of
from tests.kernel.lab import CGROUPS, DEFAULT_FLAGS, TIMEOUT_S, Lab, Tenant

SHOWN = frozenset({Relation.OPEN, Relation.NAMED, Relation.CLONE, Relation.TERMINATE_TASK})
SHELL = """
while read word name; do
    case $word in
    open) : < $name ;;
    fork) (: < $name) ;;
    esac
    echo $name
done
"""


class Shell:
    """A process that opens files as it is told."""

    def __init__(self, directory: Path, cgroup: Path) -> None:
        self._process = subprocess.Popen(
            ["/bin/sh", "-c", SHELL],
            cwd=directory,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.do("nothing", "but be ready")
        self.move(cgroup)

    def move(self, cgroup: Path) -> None:
        (cgroup / "cgroup.procs").write_text(str(self._process.pid))

    def do(self, word: str, name: str) -> None:
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(f"{word} {name}\n")
        self._process.stdin.flush()
        assert self._process.stdout.readline() == f"{name}\n"

    def end(self) -> None:
        assert self._process.stdin and self._process.stdout
        self._process.stdin.close()
        assert self._process.wait(TIMEOUT_S) == 0
        self._process.stdout.close()


@pytest.fixture
def pod(lab: Lab) -> Iterator[Tenant]:
    with lab.tenant(off=set(Relation) - SHOWN) as tenant:
        assert strays(lab) == 0
        yield tenant
        assert strays(lab) == 0


@pytest.fixture
def container(pod: Tenant) -> Iterator[Path]:
    path = pod.cgroup / "container"
    path.mkdir()
    yield path
    if path.exists():
        path.rmdir()


@pytest.fixture
def outside() -> Iterator[Path]:
    path = CGROUPS / f"lab-away-{os.getpid()}"
    path.mkdir()
    yield path
    path.rmdir()


def strays(lab: Lab) -> int:
    return int(lab.capture.strays["count"][0])


def lines(records: list[AnyRecord], work: Path) -> list[str]:
    """What was opened, forked and ended; by whom has left, it is said."""
    names: dict[int, str] = {}
    found = []
    for record in records:
        if isinstance(record, TextRecord) and record.kind is RecordKind.NAME:
            names.setdefault(record.object, path_of(record).removeprefix(f"{work}/"))
        if isinstance(record, FlowRecord):
            text = record.relation.name.lower()
            if record.relation is Relation.OPEN:
                text += f" {names.get(record.a, '?')}"
            found.append(f"left {text}" if record.standing is Mark.LEFT else text)
    return found


def cgroups(records: list[AnyRecord]) -> set[int]:
    return {
        int(record.body["cgroup"])
        for record in records
        if isinstance(record, VertexRecord)
        and record.type in (VertexType.TASK, VertexType.PROCESS_MEMORY)
    }


@pytest.mark.every_kernel
def test_stray_is_captured_with_its_children_until_it_ends(
    lab: Lab, pod: Tenant, container: Path, outside: Path, work: Path
) -> None:
    left = container.stat().st_ino
    shell, other = Shell(work, container), Shell(work, outside)
    shell.do("open", "a")
    assert lines(pod.take(), work) == ["open a"]
    shell.move(outside)
    assert strays(lab) == 1
    shell.do("open", "b")
    assert lines(pod.take(), work) == ["left open b"]
    # A new epoch: everything is declared again, with the pod's cgroup.
    pod.edit()
    shell.do("fork", "a")
    records = pod.take()
    assert lines(records, work) == ["left clone", "left open a", "left terminate_task"]
    assert cgroups(records) == {left}
    assert {r.standing for r in records} == {Mark.LEFT}
    assert strays(lab) == 1
    # Its container ends, its pod does not; who is beside it is nobody's.
    container.rmdir()
    other.do("open", "b")
    other.end()
    assert pod.take() == []
    pod.edit()
    shell.do("open", "b")
    records = pod.take()
    assert lines(records, work) == ["left open b"]
    assert cgroups(records) == {left}
    shell.end()
    assert lines(pod.take(), work) == ["left terminate_task"]


@pytest.mark.every_kernel
def test_stray_that_comes_back_is_none(
    pod: Tenant, container: Path, outside: Path, work: Path
) -> None:
    pod.edit(flags=DEFAULT_FLAGS | SlotFlag.MARK_SETUP)
    shell = Shell(work, outside)
    shell.do("open", "a")
    shell.move(container)
    shell.do("open", "a")
    assert {record.standing for record in pod.take()} == {Mark.SETUP}
    # A runtime's own goes, and is nobody's.
    shell.move(outside)
    shell.do("open", "b")
    assert pod.take() == []
    shell.end()
    pod.edit(flags=DEFAULT_FLAGS)
    shell = Shell(work, container)
    pod.edit(flags=DEFAULT_FLAGS | SlotFlag.MARK_SETUP)
    shell.move(outside)
    shell.do("open", "a")
    shell.move(container)
    shell.do("open", "b")
    shell.do("fork", "a")
    shell.move(outside)
    (work / "c").write_text("another file, because what repeats is not recorded")
    shell.do("open", "c")
    shell.end()
    found = lines(pod.take(), work)
    assert found == [
        *("left open a", "open b", "clone", "open a", "terminate_task"),
        *("left open c", "left terminate_task"),
    ]


def test_stray_goes_where_its_pod_goes(
    lab: Lab, pod: Tenant, container: Path, outside: Path, work: Path
) -> None:
    shell = Shell(work, container)
    shell.move(outside)
    with lab.tenant(off=set(Relation) - SHOWN) as other:
        lab.scope.add_cgroup(pod.cgroup_id, other.slot)
        shell.do("open", "a")
        assert lines(other.take(), work) == ["left open a"]
        other.edit(flags=SlotFlag(0))
        shell.do("open", "b")
        assert other.take() == []
        lab.scope.add_cgroup(pod.cgroup_id, pod.slot)
    shell.do("open", "a")
    assert lines(pod.take(), work) == ["left open a"]
    # What leaves the scope is forgotten with all that left it.
    lab.scope.remove_cgroup(pod.cgroup_id)
    shell.do("open", "b")
    assert (pod.take(), strays(lab)) == ([], 0)
    lab.scope.add_cgroup(pod.cgroup_id, pod.slot)
    shell.do("open", "a")
    assert pod.take() == []
    shell.end()


def test_suspended_stray_is_counted_until_it_ends(
    lab: Lab, pod: Tenant, container: Path, outside: Path, work: Path
) -> None:
    shell = Shell(work, container)
    shell.move(outside)
    pod.edit(flags=SlotFlag(0))
    shell.do("fork", "a")
    assert strays(lab) == 1
    shell.end()
    assert (pod.take(), strays(lab)) == ([], 0)


def play(pod: Tenant, work: Path, outside: Path, part: str, doing: str) -> list[AnyRecord]:
    """Have a captured process start the runtime with a cgroup out of the scope."""
    root = work / "root"
    root.mkdir()
    (root / "data").write_text("data")
    for target in (work / "runtime", root / "app"):
        shutil.copy2(build("runtime"), target)
    program = [str(work / "runtime"), part, str(outside), str(root), doing]
    words = [str(pod.lab.program), "enter", str(pod.cgroup), *program]
    (work / "host").write_text("host")
    done = subprocess.run(words, cwd=work, capture_output=True, timeout=TIMEOUT_S)
    assert done.returncode == 0, done.stderr
    return pod.take()


@pytest.mark.every_kernel
def test_what_is_cloned_out_of_the_pod_has_left(pod: Tenant, outside: Path, work: Path) -> None:
    records = play(pod, work, outside, "clone", "read")
    found = [line for line in lines(records, work) if "/proc" not in line and "/sys" not in line]
    begin = found.index("clone")
    assert found[begin:] == [
        *("clone", "left open host", "left open /app", "left open /data"),
        *("left terminate_task", "terminate_task"),
    ]


@pytest.mark.every_kernel
def test_stray_whose_thread_executes_is_one(
    lab: Lab, pod: Tenant, outside: Path, work: Path
) -> None:
    """The thread takes its leader's place, whose state ends with it."""
    records = play(pod, work, outside, "clone", "exec")
    found = [line for line in lines(records, work) if "/proc" not in line and "/sys" not in line]
    last = found[found.index("left clone") :]
    assert last[-3:] == ["left open /data", "left terminate_task", "terminate_task"]
    assert strays(lab) == 0
