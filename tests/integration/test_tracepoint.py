# SPDX-License-Identifier: Apache-2.0
"""`headwater trace --mode tracepoint` on this machine's own kernel: real programs, whole graphs.

Why here and not in the kernel suite: the mode is for kernels that refuse all others, as this one
may be. Promises: G1, G2, G4.
"""

import re
import sys
from pathlib import Path

import pytest
from headwater_agent.attach_points import CaptureMode
from headwater_agent.probe import probe
from headwater_prov.vocabulary import Relation, VertexType

from tests.kernel.program import Traced, headwater, trace

MODE = ["--mode", "tracepoint"]
CHILDREN = """
import subprocess
for name in "xy":
    subprocess.run(["cp", "a", name], check=True)
"""

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module", autouse=True)
def _kernel_lets_tracepoints_be_looked_at() -> None:
    refusals = probe().refusals[CaptureMode.TRACEPOINT]
    assert not refusals, f"these tests need a kernel that takes tp_btf programs: {refusals}"


def lineage(directory: Path, of: str) -> str:
    answer = headwater("lineage", "--input", "provenance.json", of, cwd=directory, check=True)
    return answer.stdout


def test_pipeline_is_joined_from_its_input_to_its_output(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("content")
    traced = trace(tmp_path, "sh", "-c", "cat a | tr a-z A-Z > b", options=MODE)
    assert (traced.status, traced.summary["declared"]) == (0, 0)
    assert (tmp_path / "b").read_text() == "CONTENT"
    assert traced.summary["mode"] == "tracepoint"
    assert traced.count(Relation.CLONE) == 2
    assert traced.count(Relation.EXEC) == 3
    assert "which read the output of cat" in lineage(tmp_path, "b")
    assert "it goes back to a." in lineage(tmp_path, "b")


def test_interpreter_and_its_children(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("content")
    traced = trace(tmp_path, sys.executable, "-c", CHILDREN, options=MODE)
    assert (traced.status, traced.summary["declared"]) == (0, 0)
    for name in "xy":
        assert f"{name} was written by cp" in lineage(tmp_path, name)


def test_file_that_is_renamed_has_its_new_name_once_it_is_opened(tmp_path: Path) -> None:
    script = "echo x > old && mv old new && cat new > copy"
    traced = trace(tmp_path, "sh", "-c", script, options=MODE)
    assert {str(tmp_path / name) for name in ("old", "new", "copy")} <= traced.paths()


def python(directory: Path, script: str) -> Traced:
    """Trace a Python script; nothing may be lost."""
    (directory / "a").write_text("content of a\n")
    traced = trace(directory, sys.executable, "-I", "-c", script, options=MODE)
    assert (traced.status, traced.summary["declared"]) == (0, 0), traced.stderr
    return traced


def types_of(traced: Traced, relation: Relation) -> set[tuple[str, str]]:
    """Types of the two ends of a relation's edges, sender first."""
    by_name = {vertex.name: vertex.type.camflow for vertex in traced.document.vertices.values()}
    return {
        (by_name[edge.sender], by_name[edge.receiver])
        for edge in traced.document.edges
        if edge.relation is relation
    }


def test_what_goes_through_a_socket_pair_is_joined(tmp_path: Path) -> None:
    traced = python(
        tmp_path,
        """
import os, socket
here, there = socket.socketpair()
if os.fork() == 0:
    open("b", "wb").write(there.recv(100))
    os._exit(0)
here.send(open("a", "rb").read())
os.wait()
""",
    )
    assert (tmp_path / "b").read_text() == "content of a\n"
    assert traced.count(Relation.SOCKET_PAIR_CREATE) == 2
    assert types_of(traced, Relation.RECEIVE_UNIX) == {("socket", "socket")}
    assert "it goes back to a." in lineage(tmp_path, "b")


def test_a_connection_is_made_accepted_and_used(tmp_path: Path) -> None:
    traced = python(
        tmp_path,
        """
import os, socket
server = socket.create_server(("127.0.0.1", 0))
if os.fork() == 0:
    client = socket.create_connection(server.getsockname())
    client.send(open("a", "rb").read())
    os._exit(0)
connection, _ = server.accept()
open("b", "wb").write(connection.recv(100))
os.wait()
""",
    )
    assert traced.count(Relation.BIND) == traced.count(Relation.LISTEN) == 1
    assert types_of(traced, Relation.CONNECT) == {("task", "socket")}
    assert types_of(traced, Relation.ACCEPT) == {("socket", "task")}
    assert types_of(traced, Relation.ACCEPT_SOCKET) == {("socket", "socket")}
    assert {Relation.SEND_MSG, Relation.RECEIVE_MSG} <= {e.relation for e in traced.document.edges}


COPIES = """
import os
calls = {
    "sendfile": lambda a, b: os.sendfile(b, a, 0, 100),
    "copy_file_range": lambda a, b: os.copy_file_range(a, b, 100),
    "splice": lambda a, b: [os.splice(a, (ends := os.pipe())[1], 100), os.splice(ends[0], b, 100)],
    "dup": lambda a, b: os.write(os.dup(b), os.read(os.dup(a), 100)),
    "pwrite": lambda a, b: os.pwrite(b, os.pread(a, 100, 0), 0),
    "writev": lambda a, b: os.writev(b, [os.read(a, 5), os.read(a, 100)]),
}
# A process for each, or what one has read would be an origin of what the next one writes.
for name, call in calls.items():
    if os.fork() == 0:
        call(os.open("a", os.O_RDONLY), os.open(name, os.O_WRONLY | os.O_CREAT))
        os._exit(0)
    os.wait()
"""


def test_each_way_to_copy_goes_back_to_what_was_copied(tmp_path: Path) -> None:
    python(tmp_path, COPIES)
    for name in ("sendfile", "copy_file_range", "splice", "dup", "pwrite", "writev"):
        assert (tmp_path / name).read_text() == "content of a\n", name
        (first, *_) = lineage(tmp_path, name).splitlines()
        assert re.fullmatch(rf"{name} was written by python.*, which read a(\W.*)?", first), first


def test_a_shared_mapping_brings_what_is_read_into_the_file(tmp_path: Path) -> None:
    traced = python(
        tmp_path,
        """
import mmap, os
content = open("a", "rb").read()
with open("b", "w+b") as b:
    b.truncate(len(content))
    with mmap.mmap(b.fileno(), 0) as mapping:
        mapping[:] = content
        os.read(os.open("a", os.O_RDONLY), 1)
""",
    )
    assert types_of(traced, Relation.MMAP) == {("file", "task")}
    assert types_of(traced, Relation.SH_WRITE) == {("process_memory", "file")}


def test_locks_and_identities(tmp_path: Path) -> None:
    traced = python(
        tmp_path,
        """
import fcntl, os
a = open("a")
fcntl.flock(a, fcntl.LOCK_SH)
fcntl.lockf(open("b", "w"), fcntl.LOCK_EX)
os.setpgid(0, 0)
os.setgid(65534)
os.setuid(65534)
a.read(1)
""",
    )
    assert types_of(traced, Relation.FILE_LOCK) == {("task", "file")}
    assert traced.count(Relation.FILE_LOCK) == 2
    assert traced.count(Relation.SETPGID) == 1
    assert types_of(traced, Relation.SETUID) == {("task", "process_memory")}
    users = {
        vertex.attributes.get("cf:uid")
        for vertex in traced.document.vertices.values()
        if vertex.type is VertexType.PROCESS_MEMORY
    }
    assert {0, 65534} <= users


def test_calls_that_fail_leave_nothing(tmp_path: Path) -> None:
    traced = python(
        tmp_path,
        """
import os
for call, descriptor in ((os.read, os.open("b", os.O_WRONLY | os.O_CREAT)), (os.read, 1000)):
    try:
        call(descriptor, 10)
    except OSError:
        pass
    else:
        raise SystemExit(9)
try:
    os.open("absent", os.O_RDONLY)
except FileNotFoundError:
    pass
""",
    )
    b = [path for path in traced.paths() if path.endswith("/b")]
    assert b and not any(path.endswith("/absent") for path in traced.paths())
    named = {
        edge.receiver
        for edge in traced.document.edges
        if edge.relation is Relation.NAMED
        and str(traced.document.vertices[edge.sender].attributes.get("cf:pathname", "")).endswith(
            "/b"
        )
    }
    objects = {name.rpartition(".")[0] for name in named}
    readers = {
        edge.sender.rpartition(".")[0]
        for edge in traced.document.edges
        if edge.relation is Relation.READ
    }
    assert objects and not objects & readers


def test_what_the_mode_never_sees_is_said_in_the_document(tmp_path: Path) -> None:
    traced = python(tmp_path, "pass")
    (machine,) = (
        vertex
        for vertex in traced.document.vertices.values()
        if vertex.type is VertexType.MACHINE and "hw:mode" in vertex.attributes
    )
    unseen = str(machine.attributes["hw:unseen"]).split()
    assert "rename" in unseen
    assert not set(unseen) & {edge.relation.camflow for edge in traced.document.edges}
