# SPDX-License-Identifier: Apache-2.0
"""What a script of system calls adds to the graph, predicted from the model alone, in plain Python.

Why: the expected graphs of the other tests are written by hand, a few calls each; what goes wrong
comes from combinations. The model is CamFlow's rule (CCS'18, section 4.1) and the relations of each
call, and knows nothing of BPF. Two things it leaves open, because the kernel may: a flow that is in
the receiver already may be recorded again (what is remembered of flows is bounded), and nothing is
said of numbers, only of steps.

:class:`Model` turns a script into :class:`Expected` flows one by one, and is told which of the
optional ones have come; :mod:`tests.kernel.test_scripts` holds the kernel's records against them.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random

from headwater_prov.vocabulary import ProvClass, Relation, VertexType


@dataclass(slots=True)
class Thing:
    """A file, pipe, task or memory."""

    name: str
    type: VertexType
    version: int = 0
    has_sent: bool = False

    def receive(self, compress: bool) -> bool:
        """Take something in; tell whether that is a new version."""
        is_new = self.has_sent or not compress
        self.version += is_new
        self.has_sent = False
        return is_new


@dataclass(slots=True)
class Process:
    """One process of one thread."""

    task: Thing
    memory: Thing
    read_at: int = -1
    """Version of the memory that was in the task last; -1 before any."""

    used: set[tuple[str, int, Relation]] = field(default_factory=set)
    generated: set[tuple[str, int, Relation]] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Expected:
    """One flow record: the two ends as (thing, version), and what comes along."""

    relation: Relation
    sender: tuple[Thing, int]
    receiver: tuple[Thing, int]
    memory: tuple[Thing, int] | None
    """The process memory's version of memory_read or memory_write."""

    new: frozenset[str]
    """Which of the things, by name, have a version that this flow made."""


@dataclass(frozen=True, slots=True)
class Rules:
    """A policy, as far as the model reads it."""

    compress_nodes: bool
    compress_edges: bool
    off: frozenset[Relation]
    types_off: frozenset[VertexType]


class Model:
    """The state of everything that a script touches."""

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self.things: dict[str, Thing] = {"here": Thing("here", VertexType.DIRECTORY)}
        self._processes = 0
        self.process = self.new_process()
        # The mark before the script: a use of the process's own memory.
        self.process.task.has_sent = True

    def new_process(self) -> Process:
        self._processes += 1
        number = self._processes
        return Process(
            Thing(f"task {number}", VertexType.TASK),
            Thing(f"memory {number}", VertexType.PROCESS_MEMORY),
        )

    def thing(self, name: str, kind: VertexType = VertexType.FILE) -> Thing:
        return self.things.setdefault(name, Thing(name, kind))

    def is_off(self, relation: Relation, thing: Thing) -> bool:
        return relation in self.rules.off or thing.type in self.rules.types_off

    def may_repeat(self, process: Process, relation: Relation, thing: Thing) -> bool:
        """Whether the flow is in its receiver already, so that nothing is due."""
        if not self.rules.compress_edges:
            return False
        if relation.prov_class is ProvClass.USED:
            return (thing.name, thing.version, relation) in process.used
        return (thing.name, process.task.version, relation) in process.generated and (
            Relation.MEMORY_READ in self.rules.off or process.read_at == process.memory.version
        )

    def record(self, process: Process, relation: Relation, thing: Thing) -> Expected:
        """The flow comes: make its versions."""
        if relation.prov_class is ProvClass.USED:
            return self._use(process, relation, thing)
        return self._generate(process, relation, thing)

    def _use(self, process: Process, relation: Relation, thing: Thing) -> Expected:
        compress, new = self.rules.compress_nodes, set()
        sender = (thing, thing.version)
        thing.has_sent = True
        task, memory = process.task, process.memory
        with_memory = Relation.MEMORY_WRITE not in self.rules.off
        if task.receive(compress):
            new.add(task.name)
        at = None
        if with_memory:
            task.has_sent = True
            if memory.receive(compress):
                new.add(memory.name)
            at = (memory, memory.version)
        process.used.add((thing.name, sender[1], relation))
        return Expected(relation, sender, (task, task.version), at, frozenset(new))

    def _generate(self, process: Process, relation: Relation, thing: Thing) -> Expected:
        compress, new = self.rules.compress_nodes, set()
        task, memory = process.task, process.memory
        at = None
        is_known = self.rules.compress_edges and process.read_at == memory.version
        if Relation.MEMORY_READ not in self.rules.off and not is_known:
            memory.has_sent = True
            process.read_at = memory.version
            at = (memory, memory.version)
            if task.receive(compress):
                new.add(task.name)
        if thing.receive(compress):
            new.add(thing.name)
        task.has_sent = True
        process.generated.add((thing.name, task.version, relation))
        return Expected(relation, (task, task.version), (thing, thing.version), at, frozenset(new))


@dataclass(frozen=True, slots=True)
class Step:
    """A line of a script, and the flows that it asks for."""

    line: str
    flows: tuple[tuple[Relation, str], ...] = ()
    """Relation and name of the thing."""


@dataclass(slots=True)
class _Files:
    """What a process has open, by descriptor: name of the thing, whether it reads and writes."""

    open: dict[int, tuple[str, bool, bool]] = field(default_factory=dict)

    def which(self, *, reads: bool = False, writes: bool = False) -> list[int]:
        return [
            fd
            for fd, (_, can_read, can_write) in self.open.items()
            if (can_read or not reads) and (can_write or not writes)
        ]


class Script:
    """A random script that does nothing which would wait or fail."""

    FILES = ("a", "b")
    """There before; by these names the things are called, whatever they are renamed to."""

    def __init__(self, seed: int, steps: int) -> None:
        self._random = Random(seed)
        self._left = steps
        self._names = {name: name for name in self.FILES}
        self._held: dict[str, int] = {}
        self._next_fd, self._next_name = 10, 0
        self.steps = list(self._block(_Files(), depth=0))

    def text(self) -> str:
        return "".join(f"{step.line}\n" for step in self.steps)

    def _block(self, files: _Files, depth: int) -> Iterator[Step]:
        while self._left > 0:
            self._left -= 1
            if depth and self._random.random() < 0.15:
                return
            if depth < 2 and self._random.random() < 0.08:
                yield Step("F")
                yield from self._block(_Files(dict(files.open)), depth + 1)
                yield Step("E")
                continue
            yield self._step(files, depth)

    def _step(self, files: _Files, depth: int) -> Step:
        random = self._random
        readable, writable, any_ = files.which(reads=True), files.which(writes=True), files.which()
        ready = [fd for fd in readable if self._held.get(files.open[fd][0], 1)]
        plain = [fd for fd in any_ if not files.open[fd][0].startswith("pipe")]
        choices = ["o", "o", "c", "p", "L", "N"]
        choices += ["r"] * 4 * bool(ready) + ["w"] * 4 * bool(writable) + ["g"] * bool(any_)
        choices += ["l", "x"] * bool(plain)
        match random.choice(choices):
            case "o":
                name = random.choice(sorted(self._names))
                flags = random.choice((0, 1, 2))
                fd = self._fd()
                thing = self._names[name]
                files.open[fd] = (thing, flags != 1, flags != 0)
                return Step(f"o {fd} {flags} {name}", ((Relation.OPEN, thing),))
            case "c":
                fd, name = self._fd(), self._name()
                self._names[name] = name
                files.open[fd] = (name, False, True)
                flows = ((Relation.INODE_CREATE, "here"), (Relation.OPEN, name))
                return Step(f"c {fd} {name}", flows)
            case "p":
                reads, writes, name = self._fd(), self._fd(), f"pipe {self._next_fd}"
                self._held[name] = 0
                files.open[reads], files.open[writes] = (name, True, False), (name, False, True)
                return Step(f"p {reads} {writes}")
            case "L":
                name, other = random.choice(sorted(self._names)), self._name()
                self._names[other] = self._names[name]
                return Step(f"L {name} {other}", ((Relation.LINK, self._names[name]),))
            case "N":
                name, other = random.choice(sorted(self._names)), self._name()
                self._names[other] = self._names.pop(name)
                return Step(f"N {name} {other}", ((Relation.RENAME, self._names[other]),))
            case "r":
                fd = random.choice(ready)
                thing = files.open[fd][0]
                if thing in self._held:
                    self._held[thing] -= 1
                return Step(f"r {fd}", ((Relation.READ, thing),))
            case "w":
                fd = random.choice(writable)
                thing = files.open[fd][0]
                if thing in self._held:
                    self._held[thing] += 1
                return Step(f"w {fd}", ((Relation.WRITE, thing),))
            case "g":
                fd = random.choice(any_)
                return Step(f"g {fd}", ((Relation.GETATTR, files.open[fd][0]),))
            case "l":
                fd = random.choice(plain)
                return Step(f"l {fd}", ((Relation.FILE_LOCK, files.open[fd][0]),))
            case _:
                fd = random.choice(plain)
                del files.open[fd]
                return Step(f"x {fd}")

    def _fd(self) -> int:
        self._next_fd += 1
        return self._next_fd

    def _name(self) -> str:
        self._next_name += 1
        return f"n{self._next_name}"
