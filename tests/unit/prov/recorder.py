# SPDX-License-Identifier: Apache-2.0
"""A kernel for tests: applies the versioning rule to flows that a test names, in plain Python.

What it records is what the agent would send, so tests state a story ("python reads data.csv") and
get documents whose versions, keys and times are right.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from headwater_prov.document import NO_ATTRIBUTES, Attributes, Document, Edge, Gap, Literal, Vertex
from headwater_prov.identifiers import gap_key, path_id, relation_key
from headwater_prov.stream import SequenceRange
from headwater_prov.vocabulary import GapReason, Prov, Relation, VertexType

_NO_VERSION = (Relation.NAMED, Relation.ADDRESSED)
ORIGIN = "x65lx32fkvgm7ig4-2021222324252627"
START_NS = 1_795_240_800_000_000_000


@dataclass(eq=False)
class Thing:
    """An object with its current version."""

    id: str
    type: VertexType
    attributes: Attributes
    version: int = 0
    has_sent: bool = False

    @property
    def name(self) -> str:
        return f"hw:{self.id}.{self.version}"


@dataclass(eq=False)
class Process:
    """A task and its memory; ``exec`` gives it a new memory."""

    task: Thing
    memory: Thing


@dataclass
class Batch:
    """One document and the numbers of the records in it."""

    document: Document
    range: SequenceRange


@dataclass
class Recorder:
    """Turns flows into batches."""

    origin: str = ORIGIN
    batches: list[Batch] = field(default_factory=list)
    sequence: int = 0
    _count: int = 0
    _first: int = 1
    _vertices: dict[str, Vertex] = field(default_factory=dict)
    _edges: list[Edge] = field(default_factory=list)
    _declared: set[str] = field(default_factory=set)
    _flags: str = ""
    _joined: dict[str, str | bool] = field(default_factory=dict)

    def thing(self, type_: VertexType, **attributes: str | int | bool) -> Thing:
        self._count += 1
        named = {f"cf:{name}": value for name, value in attributes.items()}
        return Thing(f"-object{self._count:015}", type_, named or NO_ATTRIBUTES)

    def file(self, path: str | None, type_: VertexType = VertexType.FILE) -> Thing:
        inode = self.thing(type_, ino=self._count + 100)
        if path is not None:
            self.name(inode, path)
        return inode

    def name(self, thing: Thing, path: str) -> None:
        id_ = path_id(bytes(32), bytes(16), path.encode())
        self.record((Relation.NAMED, Thing(id_, VertexType.PATH, {"cf:pathname": path}), thing))

    def process(self, comm: str, pid: int) -> Process:
        return Process(
            self.thing(VertexType.TASK, pid=pid, vpid=pid, name=comm),
            self.thing(VertexType.PROCESS_MEMORY, tgid=pid, name=comm),
        )

    def fork(self, parent: Process, pid: int) -> Process:
        comm = str(parent.memory.attributes["cf:name"])
        child = self.process(comm, pid)
        self.record(
            (Relation.MEMORY_READ, parent.memory, parent.task),
            (Relation.CLONE_MEM, parent.task, child.memory),
        )
        self.record((Relation.CLONE, parent.task, child.task))
        return child

    def thread(self, process: Process, pid: int) -> Process:
        comm = str(process.memory.attributes["cf:name"])
        task = self.thing(VertexType.TASK, pid=pid, vpid=pid, name=comm)
        self.record((Relation.CLONE, process.task, task))
        return Process(task, process.memory)

    def exec(self, process: Process, program: Thing, comm: str, *arguments: str) -> None:
        pid = process.memory.attributes["cf:tgid"]
        assert isinstance(pid, int)
        memory = self.thing(VertexType.PROCESS_MEMORY, tgid=pid, name=comm)
        self.record((Relation.EXEC, program, memory))
        for index, argument in enumerate(arguments):
            value = Thing(f"argv{memory.id}-{index}", VertexType.ARGV, {"cf:value": argument})
            self.record((Relation.ARG, value, memory))
        self.record((Relation.EXEC_TASK, process.task, memory))
        process.memory = memory

    def used(self, relation: Relation, thing: Thing, by: Process, flags: str = "") -> None:
        self._flags = flags
        self.record((relation, thing, by.task), (Relation.MEMORY_WRITE, by.task, by.memory))
        self._flags = ""

    def load(self, program: Thing, by: Process) -> None:
        """Map a program or library to run it."""
        self.used(Relation.MMAP_PRIVATE, program, by, flags="0x5")

    def generated(self, relation: Relation, by: Process, thing: Thing) -> None:
        self.record((Relation.MEMORY_READ, by.memory, by.task), (relation, by.task, thing))

    def read(self, thing: Thing, by: Process) -> None:
        self.used(Relation.READ, thing, by)

    def write(self, by: Process, thing: Thing) -> None:
        self.generated(Relation.WRITE, by, thing)

    def record(self, *flows: tuple[Relation, Thing, Thing]) -> None:
        """One captured record: each flow bumps its receiver's version if that has sent."""
        self.sequence += 1
        index = 0
        for relation, sender, receiver in flows:
            if relation not in _NO_VERSION and receiver.has_sent:
                before = receiver.name
                self._declare(receiver)
                receiver.version += 1
                receiver.has_sent = False
                is_task = receiver.type.prov is Prov.ACTIVITY
                step = Relation.VERSION_ACTIVITY if is_task else Relation.VERSION_ENTITY
                self._edge(index, step, before, receiver)
                index += 1
            self._declare(sender)
            sender.has_sent = True
            self._edge(index, relation, sender.name, receiver)
            index += 1

    def join(self, socket: Thing, flow: str) -> None:
        """Tell which connection a socket is an end of."""
        address = self.thing(VertexType.ADDRESS, host="192.0.2.1", service=80)
        self._joined = {"hw:peer": True, "hw:flow": flow}
        self.record((Relation.ADDRESSED, address, socket))
        self._joined = {}

    def terminate(self, process: Process) -> None:
        self.sequence += 1
        before = process.task.name
        process.task.version += 1
        self._edge(0, Relation.TERMINATE_TASK, before, process.task)

    def cut(self) -> Batch:
        """End the batch."""
        document = Document(self._vertices, tuple(self._edges))
        batch = Batch(document, SequenceRange(self._first, self.sequence))
        self.batches.append(batch)
        self._vertices, self._edges = {}, []
        self._first = self.sequence + 1
        return batch

    def lose(self, count: int, reason: GapReason = GapReason.RING) -> Batch:
        """A gap of so many records."""
        first = self.sequence + 1
        self.sequence += count
        gap = Gap(gap_key(self.origin, first), first, self.sequence, reason, START_NS, START_NS + 1)
        batch = Batch(Document(gaps=(gap,)), SequenceRange(first, self.sequence))
        self.batches.append(batch)
        self._first = self.sequence + 1
        return batch

    @property
    def documents(self) -> list[Document]:
        if self._edges or self._vertices:
            self.cut()
        return [batch.document for batch in self.batches]

    def _declare(self, thing: Thing) -> None:
        if thing.name in self._declared:
            return
        is_first = f"hw:{thing.id}" not in self._declared
        self._declared |= {thing.name, f"hw:{thing.id}"}
        attributes = thing.attributes if is_first else NO_ATTRIBUTES
        self._vertices[thing.name] = Vertex(thing.name, thing.type, attributes)

    def _edge(self, index: int, relation: Relation, sender: str, receiver: Thing) -> None:
        self._declare(receiver)
        key = relation_key(self.origin, self.sequence, index)
        time_ns = START_NS + self.sequence * 1_000_000
        told = {"cf:flags": self._flags} if self._flags else {}
        attributes = {**told, **self._joined} or NO_ATTRIBUTES
        self._edges.append(Edge(key, relation, sender, receiver.name, time_ns, attributes))


def report_story(directory: str = "/srv/job") -> Recorder:
    """A shell starts curl, which fetches data.csv, and python3, which makes report.csv of it."""
    recorder = Recorder()
    shell = recorder.process("sh", 90)
    recorder.read(recorder.file(f"{directory}/run.sh"), shell)
    libc = recorder.file("/usr/lib/x86_64-linux-gnu/libc.so.6")

    curl = recorder.fork(shell, 99)
    recorder.exec(curl, recorder.file("/usr/bin/curl"), "curl", "curl", "-o", "data.csv")
    recorder.load(libc, curl)
    server = recorder.file(None, VertexType.SOCKET)
    recorder.used(Relation.RECEIVE_MSG, server, curl)
    data = recorder.file(f"{directory}/data.csv")
    recorder.used(Relation.OPEN, data, curl)
    recorder.write(curl, data)
    recorder.write(curl, data)
    recorder.terminate(curl)

    python = recorder.fork(shell, 123)
    interpreter = recorder.file("/usr/bin/python3.11")
    recorder.exec(python, interpreter, "python3", "python3", "report.py", "é\t\"'")
    recorder.load(libc, python)
    recorder.read(recorder.file(f"{directory}/report.py"), python)
    recorder.read(recorder.file("/usr/lib/python3.11/csv.py"), python)
    recorder.used(Relation.GETATTR, data, python)
    recorder.read(data, python)
    report = recorder.file(f"{directory}/report.csv")
    recorder.write(python, report)
    # What is read after the last write is no origin of the report.
    recorder.read(recorder.file(f"{directory}/later.txt"), python)
    recorder.write(python, recorder.file(f"{directory}/other.log"))
    recorder.terminate(python)
    recorder.cut()
    return recorder


TIME_LITERAL = Literal("2026-11-21T06:00:00Z", "xsd:dateTime")
