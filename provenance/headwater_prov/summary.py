# SPDX-License-Identifier: Apache-2.0
"""A graph of versions folded into one of programs and things.

Why: people think of "python3 read data.csv twice", not of nine versions of a task, its memory and a
file. All versions of an object become one node, the tasks and the memory of a program another one.
A shell that forks and becomes python3 at once is part of python3.

Who calls it: :mod:`headwater_prov.lineage` for the table, :mod:`headwater_prov.picture` to draw.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable

from headwater_prov.catalogue import Catalogue
from headwater_prov.display import printable_path
from headwater_prov.vocabulary import VERSION_STEPS, Relation, VertexType

_FAMILIES = {"1": "unix", "2": "IPv4", "10": "IPv6", "16": "netlink"}


class Summary:
    """Nodes are the numbers of objects; a program's is that of its memory.

    Args:
        edges: numbers of the edges to fold.
    """

    def __init__(self, catalogue: Catalogue, edges: Iterable[int]) -> None:
        self._catalogue = catalogue
        self.flows: dict[tuple[int, int], Counter[Relation]] = defaultdict(Counter)
        """How often information flowed between two nodes, by relation; from, to."""
        self.programs: set[int] = set()
        """The nodes that are programs."""
        self._fold(edges)
        self._join_stubs()
        self.senders: dict[int, list[int]] = defaultdict(list)
        """The nodes from which a node received, in the order of the edges."""
        self.receivers: dict[int, list[int]] = defaultdict(list)
        """The nodes to which a node sent, in the order of the edges."""
        for sender, receiver in self.flows:
            self.senders[receiver].append(sender)
            self.receivers[sender].append(receiver)

    @property
    def nodes(self) -> list[int]:
        """All nodes, in the order of the edges."""
        return list(dict.fromkeys(node for flow in self.flows for node in flow))

    def things_read(self, program: int) -> list[int]:
        """What is not a program and flowed into this one."""
        return [node for node in self.senders[program] if node not in self.programs]

    def things_written(self, program: int) -> list[int]:
        """What is not a program and this one flowed into."""
        return [node for node in self.receivers[program] if node not in self.programs]

    def starters(self, program: int) -> list[int]:
        """The programs that started this one, or told it something."""
        return [node for node in self.senders[program] if node in self.programs]

    def started(self, program: int) -> list[int]:
        """The programs that this one started, or told something."""
        return [node for node in self.receivers[program] if node in self.programs]

    def label(self, node: int) -> str:
        """What people call the node: a path, a command with its process id, a kind of object."""
        catalogue = self._catalogue
        if node in self.programs:
            pid = catalogue.program_pid(node)
            name = catalogue.program_name(node)
            return name if pid is None else f"{name} (pid {pid})"
        path = catalogue.path(node)
        if path is not None:
            return printable_path(path)
        type_ = catalogue.types[node]
        attributes = catalogue.attributes(node)
        text = "object" if type_ is None else type_.camflow.replace("_", " ")
        for attribute in ("cf:pathname", "cf:value", "cf:u_nodename", "hw:node"):
            if attribute in attributes:
                return f"{text} {printable_path(str(attributes[attribute]).encode())}"
        if type_ is VertexType.SOCKET:
            family = _FAMILIES.get(str(attributes.get("hw:family")))
            text = f"{family} {text}" if family else text
        if attributes.get("cf:ino"):  # the kernel numbers a socket after it was made
            return f"{text}:[{attributes['cf:ino']}]"
        return f"foreign {text}" if attributes.get("hw:foreign") is True else text

    def _fold(self, edges: Iterable[int]) -> None:
        catalogue, graph = self._catalogue, self._catalogue.graph
        nodes: dict[int, int] = {}
        for edge in edges:
            ends = []
            for vertex in (graph.senders[edge], graph.receivers[edge]):
                node = nodes.get(vertex)
                if node is None:
                    program = catalogue.program(vertex)
                    node = nodes[vertex] = graph.objects[vertex] if program is None else program
                    if program is not None:
                        self.programs.add(program)
                ends.append(node)
            relation = Relation(graph.relations[edge])
            if ends[0] != ends[1] and relation not in VERSION_STEPS:
                self.flows[ends[0], ends[1]][relation] += 1

    def _join_stubs(self) -> None:
        busy = {
            node
            for flow in self.flows
            if flow[0] not in self.programs or flow[1] not in self.programs
            for node in flow
        }
        became: dict[int, int] = {}
        for program in self.programs - busy:
            # A document that makes no sense may lead round in a circle.
            seen = {program}
            successor = program
            while successor not in busy:
                follower = self._catalogue.successor(successor)
                if follower is None or follower in seen:
                    break
                seen.add(follower)
                successor = follower
            if successor != program and successor in self.programs:
                became[program] = successor
        self.programs -= became.keys()
        folded: dict[tuple[int, int], Counter[Relation]] = defaultdict(Counter)
        for (sender, receiver), counts in self.flows.items():
            ends = became.get(sender, sender), became.get(receiver, receiver)
            if ends[0] != ends[1]:
                folded[ends].update(counts)
        self.flows = folded
