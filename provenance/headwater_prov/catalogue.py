# SPDX-License-Identifier: Apache-2.0
"""What the objects of a document are: their paths, their programs, who wrote them.

Why: a graph of ids answers nobody. A file is known by its path, a task by the program that its
process was running at that version; both are said by edges that came earlier in the stream.

Who calls it: :mod:`headwater_prov.lineage` and :mod:`headwater_prov.picture`; the next step is
:mod:`headwater_prov.relevance`, which decides what is worth showing.

A *program* is one memory of one process: ``exec`` makes a new one, threads share one. It is named
by the number of the memory's object, or of the task if a task's memory never shows.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict

from headwater_prov.display import printable
from headwater_prov.document import NO_ATTRIBUTES, Attributes, Document
from headwater_prov.escaping import ESCAPED_ATTRIBUTE, unescape
from headwater_prov.graph import Graph
from headwater_prov.identifiers import parse_vertex_name
from headwater_prov.vocabulary import INODES, VERSION_STEPS, Relation, VertexType

PATH_ATTRIBUTE = "cf:pathname"

METADATA_RELATIONS = frozenset(
    {
        Relation.NAMED,
        Relation.RAN_ON,
        Relation.ARG,
        Relation.ENV,
        Relation.OPEN,
        Relation.PERM_CHECK,
        Relation.SEARCH,
        Relation.GETATTR,
        Relation.SETATTR,
        Relation.SETATTR_INODE,
        Relation.READ_LINK,
        Relation.LISTXATTR,
        Relation.FILE_LOCK,
        Relation.FILE_SIGIO,
        Relation.READ_IOCTL,
        Relation.WRITE_IOCTL,
        Relation.INODE_CREATE,
        Relation.UNLINK,
        Relation.GETPGID,
        Relation.SETPGID,
        Relation.SETUID,
        Relation.SOCKET_CREATE,
        Relation.SOCKET_PAIR_CREATE,
        Relation.BIND,
        Relation.LISTEN,
        Relation.ACCEPT,
        Relation.ACCEPT_SOCKET,
        Relation.CONNECT,
        Relation.CONNECT_UNIX_STREAM,
        Relation.ADDRESSED,
        Relation.SH_ATTACH,
        Relation.SH_CREATE,
    }
)
"""Relations that tell about an object and bring none of its content anywhere."""

_OWN_MEMORY = {Relation.MEMORY_READ, Relation.MEMORY_WRITE, Relation.EXEC_TASK}
_MAPPINGS = {Relation.MMAP, Relation.MMAP_PRIVATE}
_PROT_EXEC = 4
_CONTENT = frozenset(Relation) - METADATA_RELATIONS - VERSION_STEPS


class Catalogue:
    """Looks everything up by the numbers of a graph."""

    def __init__(self, document: Document, graph: Graph) -> None:
        self.document = document
        self.graph = graph
        self.types: list[VertexType | None] = [None] * len(graph.object_numbers)
        """Type of each object; what its relations suggest if it is not declared, or None."""
        self.paths: dict[int, list[bytes]] = defaultdict(list)
        """All paths of an object, in the order in which it was named."""
        self.named: dict[bytes, list[int]] = defaultdict(list)
        """All vertices that a path was given to, in that order."""
        self.written: set[int] = set()
        """Objects that something flowed into."""
        self.executed: set[tuple[int, int]] = set()
        """Pairs of a task and an inode that the task called ``exec`` on."""
        self.text: set[tuple[int, int]] = set()
        """Pairs of a task and an inode that the task mapped to run what is in it."""
        self.executing: dict[int, int] = {}
        """The task that called ``exec``, by the memory that came of it."""
        self._attributes: dict[int, list[tuple[int, Attributes]]] = defaultdict(list)
        self._memories: dict[int, list[tuple[int, int]]] = defaultdict(list)
        self._arguments: dict[int, list[str]] = defaultdict(list)
        self._read_vertices()
        self._read_edges()

    def path(self, object_: int) -> bytes | None:
        """The path that the object was given last."""
        paths = self.paths.get(object_)
        return paths[-1] if paths else None

    def attributes(self, object_: int, version: int | None = None) -> Attributes:
        """What is known of the object at a version; of all its versions if None."""
        merged: dict[str, object] = {}
        for declared, attributes in self._attributes.get(object_, ()):
            if version is None or declared <= version:
                merged.update(attributes)
        return merged or NO_ATTRIBUTES  # type: ignore[return-value]

    def program(self, vertex: int) -> int | None:
        """The program that a task or process memory belongs to; None for other vertices."""
        object_ = self.graph.objects[vertex]
        if self.types[object_] is not VertexType.TASK:
            return object_ if self.types[object_] is VertexType.PROCESS_MEMORY else None
        memories = self._memories.get(object_)
        if not memories:
            return object_
        place = bisect_right(memories, self.graph.versions[vertex], key=lambda known: known[0])
        return memories[max(place - 1, 0)][1]

    def successor(self, program: int) -> int | None:
        """The program that ``exec`` put in the place of this one."""
        return self._successors.get(program)

    def program_name(self, program: int) -> str:
        """The name of a program's command."""
        name = self.attributes(program).get("cf:name")
        return printable(str(name)) if name is not None else "process"

    def program_pid(self, program: int) -> int | None:
        """The process id of a program, in the initial namespace."""
        attributes = self.attributes(program)
        pid = attributes.get("cf:tgid", attributes.get("cf:pid"))
        return pid if isinstance(pid, int) else None

    def program_arguments(self, program: int) -> list[str]:
        """The command line of a program, if arguments are recorded."""
        return self._arguments.get(program, [])

    def _read_vertices(self) -> None:
        for vertex in self.document.vertices.values():
            object_id, version = parse_vertex_name(vertex.name)
            number = self.graph.object_numbers.get(object_id)
            if number is None:
                continue
            self.types[number] = vertex.type
            if vertex.attributes:
                self._attributes[number].append((version, vertex.attributes))

    def _read_edges(self) -> None:
        graph, types = self.graph, self.types
        self._successors: dict[int, int] = {}
        executed: dict[int, list[int]] = defaultdict(list)
        relations = [None, *Relation]
        for edge, code in enumerate(graph.relations):
            relation = relations[code]
            sender, receiver = graph.senders[edge], graph.receivers[edge]
            sent, received = graph.objects[sender], graph.objects[receiver]
            if relation is None:
                continue
            if types[sent] is None:
                types[sent] = _suggested(relation.senders)
            if types[received] is None:
                types[received] = _suggested(relation.receivers)
            if relation is Relation.NAMED:
                self._name(sent, receiver)
            elif relation is Relation.ARG:
                self._arguments[received].append(printable(str(self._value(sent))))
            elif relation in _OWN_MEMORY:
                self._own(relation, sender, receiver)
            elif relation is Relation.EXEC:
                executed[received].append(sent)
            elif relation in _MAPPINGS and self._is_to_run(edge):
                self.text.add((received, sent))
            if relation is Relation.EXEC_TASK:
                self.executing[received] = sent
                self.executed.update((sent, inode) for inode in executed[received])
            if types[received] in INODES and relation in _CONTENT:
                self.written.add(received)

    def _name(self, path: int, receiver: int) -> None:
        attributes = self.attributes(path)
        text = attributes.get(PATH_ATTRIBUTE)
        if not isinstance(text, str):
            return
        try:
            raw = unescape(text, attributes.get(ESCAPED_ATTRIBUTE) is True)
        except ValueError:
            raw = text.encode()
        self.paths[self.graph.objects[receiver]].append(raw)
        self.named[raw].append(receiver)

    def _is_to_run(self, edge: int) -> bool:
        flags = self.document.edges[edge].attributes.get("cf:flags")
        try:
            return isinstance(flags, str) and bool(int(flags, 16) & _PROT_EXEC)
        except ValueError:
            return False

    def _value(self, argument: int) -> object:
        return self.attributes(argument).get("cf:value", "?")

    def _own(self, relation: Relation, sender: int, receiver: int) -> None:
        graph = self.graph
        task, memory = (
            (receiver, sender) if relation is Relation.MEMORY_READ else (sender, receiver)
        )
        version, program = graph.versions[task], graph.objects[memory]
        known = self._memories[graph.objects[task]]
        if relation is Relation.EXEC_TASK:
            # The version that calls exec still belongs to the program before.
            version += 1
            if known and known[-1][1] != program:
                self._successors[known[-1][1]] = program
        if not known or known[-1][1] != program:
            known.append((version, program))


def _suggested(types: frozenset[VertexType]) -> VertexType | None:
    if len(types) == 1:
        return next(iter(types))
    return VertexType.INODE_UNKNOWN if types <= INODES else None
