# SPDX-License-Identifier: Apache-2.0
"""What a captured behaviour adds to the graph, as lines that a test can state.

Why: an independent oracle. The expansion of records to edges is written down a second time here,
from the contract in bpf/headwater/layout.h, so that the agent's renderer does not vouch for itself.

A line is ``relation sender.version -> receiver.version``, in the order of the ring, followed by the
flags (hexadecimal) and ``@offset`` where they are not 0. Versions count from where the object stood
when the behaviour began. Objects are called by their first name, below the working directory
without it; those without a name by their type, numbered from the second on.
"""

import os
import socket
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from headwater_agent.decode import AnyRecord, FlowRecord, TextRecord, VertexRecord
from headwater_agent.layout import FLOW_ENDS, Mark, RecordKind, TextMark
from headwater_prov.vocabulary import ProvClass, Relation, VertexType

EPHEMERAL_PORT = 32768

Node = tuple[int, int]
"""Serial and version."""


@dataclass(frozen=True, slots=True)
class Edge:
    """One edge of the graph; `text` stands for the sender where that is a path or an argument."""

    relation: Relation
    sender: Node
    receiver: Node
    flags: int = 0
    offset: int = 0
    text: str = ""


def path_of(record: TextRecord) -> str:
    """The path in a name record; bytes that are no UTF-8 as surrogates."""
    components = record.data.split(b"\0")[:-1]
    return "/" + os.fsdecode(b"/".join(reversed(components)))


def arguments_of(record: TextRecord) -> list[str]:
    return [os.fsdecode(word) for word in record.data.split(b"\0")[:-1]]


def address_of(record: TextRecord) -> str:
    """The address in an address record; a port that the kernel chose is not told."""
    data = record.data
    if TextMark.FLOW in record.marks:
        data = data[FLOW_ENDS.itemsize :]
    family = int.from_bytes(data[:2], "little")
    port = int.from_bytes(data[2:4], "big")
    told = str(port) if port < EPHEMERAL_PORT else "*"
    if family == socket.AF_INET:
        return f"{socket.inet_ntop(family, data[4:8])}:{told}"
    if family == socket.AF_INET6:
        return f"[{socket.inet_ntop(family, data[8:24])}]:{told}"
    if family == socket.AF_UNIX:
        return repr(os.fsdecode(data[2:].rstrip(b"\0")))
    return f"{family}:{data[2:].hex()}"


def _step(edges: list[Edge], relation: Relation, node: Node) -> None:
    edges.append(Edge(relation, (node[0], node[1] - 1), node))


def expand(record: FlowRecord) -> list[Edge]:
    """The edges that a flow record stands for, see struct hw_flow in layout.h."""
    a, b, c = (
        (record.a, record.a_version),
        (record.b, record.b_version),
        (record.c, record.c_version),
    )
    edges: list[Edge] = []
    main = Edge(record.relation, a, b, record.flags, record.offset)
    match record.relation.prov_class:
        case ProvClass.USED:
            if Mark.NEW_B in record.marks:
                _step(edges, Relation.VERSION_ACTIVITY, b)
            edges.append(main)
            if Mark.NEW_C in record.marks:
                _step(edges, Relation.VERSION_ENTITY, c)
            if Mark.MEMORY in record.marks:
                edges.append(Edge(Relation.MEMORY_WRITE, b, c))
        case ProvClass.GENERATED:
            if Mark.NEW_B in record.marks:
                _step(edges, Relation.VERSION_ACTIVITY, b)
            if Mark.MEMORY in record.marks:
                edges.append(Edge(Relation.MEMORY_READ, c, b))
            if Mark.NEW_A in record.marks:
                _step(edges, Relation.VERSION_ENTITY, a)
            edges.append(Edge(record.relation, b, a, record.flags, record.offset))
        case ProvClass.DERIVED:
            if Mark.NEW_B in record.marks:
                _step(edges, Relation.VERSION_ENTITY, b)
            edges.append(main)
        case ProvClass.INFORMED:
            if Mark.NEW_B in record.marks:
                _step(edges, Relation.VERSION_ACTIVITY, b)
            edges.append(main)
        case _:
            edges.append(main)
    assert Mark.MAIN in record.marks
    return edges


def edges_of(record: AnyRecord) -> list[Edge]:
    match record:
        case FlowRecord():
            return expand(record)
        case TextRecord(kind=RecordKind.NAME):
            node = (record.object, record.version)
            return [Edge(Relation.NAMED, (0, 0), node, text=path_of(record))]
        case TextRecord(kind=RecordKind.ADDRESS):
            node = (record.object, record.version)
            peer = " peer" if TextMark.PEER in record.marks else ""
            peer += " joined" if TextMark.FLOW in record.marks else ""
            return [Edge(Relation.ADDRESSED, (0, 0), node, text=address_of(record) + peer)]
        case TextRecord():
            node = (record.object, record.version)
            words = arguments_of(record)
            relation = Relation.ARG if record.kind is RecordKind.ARGUMENTS else Relation.ENV
            return [Edge(relation, (0, 0), node, text=repr(word)) for word in words]
    return []


def marks_in(records: Sequence[AnyRecord]) -> list[int]:
    """Where the behaviour asked for its process group."""
    return [
        at
        for at, record in enumerate(records)
        if isinstance(record, FlowRecord) and record.relation is Relation.GETPGID
    ]


@dataclass(slots=True)
class Labels:
    """What the objects of some records are called."""

    directory: Path
    """The working directory of the behaviour."""
    types: dict[int, VertexType] = field(default_factory=dict)
    names: dict[int, str] = field(default_factory=dict)
    by_inode: dict[int, str] = field(default_factory=dict)
    _given: dict[int, str] = field(default_factory=dict)
    _numbers: Counter[str] = field(default_factory=Counter)

    def learn(self, records: Iterable[AnyRecord]) -> None:
        for record in records:
            if isinstance(record, VertexRecord):
                self.types.setdefault(record.object, record.type)
                name = self.by_inode.get(int(record.body.get("ino", 0) or 0))
                inode = record.type not in (VertexType.SOCKET, VertexType.PIPE)
                if name is not None and inode:
                    self.names.setdefault(record.object, name)
            elif isinstance(record, TextRecord) and record.kind is RecordKind.NAME:
                kind = self.types.get(record.object)
                if kind is not VertexType.PROCESS_MEMORY:
                    self.names.setdefault(record.object, self.short(path_of(record)))

    def look_at(self) -> None:
        """Learn what lies in the working directory and above it, for what has no name record."""
        for path in self.directory.iterdir():
            if not path.is_socket():
                self.by_inode.setdefault(path.lstat().st_ino, path.name)
        self.by_inode[self.directory.stat().st_ino] = "here"

    def short(self, path: str) -> str:
        own = str(self.directory)
        return "here" if path == own else path.removeprefix(own + "/")

    def of(self, serial: int) -> str:
        if serial in self.names:
            return self.names[serial]
        if serial not in self._given:
            kind = self.types[serial].name.lower().replace("process_memory", "memory")
            self._numbers[kind] += 1
            number = self._numbers[kind]
            self._given[serial] = kind if number == 1 else f"{kind}{number}"
        return self._given[serial]


def lines_of(records: Sequence[AnyRecord], labels: Labels) -> list[str]:
    """The graph between the first and the last mark.

    Asserts on the way that every object is declared before it is mentioned.
    """
    marks = marks_in(records)
    assert len(marks) >= 2, "the behaviour did not come to its end"
    begin, end = marks[0], marks[-1]
    labels.learn(records)
    declared = {r.object for r in records[:begin] if isinstance(r, VertexRecord)}
    base: dict[int, int] = {}
    lines = []
    for at, record in enumerate(records[begin:end], begin):
        if isinstance(record, VertexRecord):
            declared.add(record.object)
        for edge in edges_of(record):
            words = []
            for serial, version in (edge.sender, edge.receiver):
                if edge.text and serial == 0:
                    is_path = edge.relation is Relation.NAMED
                    words.append(labels.short(edge.text) if is_path else edge.text)
                    continue
                if serial == 0 and edge.relation.prov_class is ProvClass.INFLUENCED:
                    words.append("machine")
                    continue
                assert serial in declared, f"{serial:#x} is not declared before {record}"
                if serial not in base or at == begin:
                    base[serial] = version
                words.append(f"{labels.of(serial)}.{version - base[serial]}")
            line = f"{edge.relation.name.lower()} {words[0]} -> {words[1]}"
            line += f" {edge.flags:#x}" if edge.flags else ""
            line += f" @{edge.offset}" if edge.offset else ""
            if at > begin:
                lines.append(line)
    return lines


def graph(text: str) -> list[str]:
    """An expected graph as a test writes it: one edge a line."""
    return [line.strip() for line in text.strip().splitlines() if line.strip()]
