# SPDX-License-Identifier: Apache-2.0
"""The edges of a document as arrays of numbers, to walk millions of them.

Why: one Python object per neighbour would cost a gigabyte where three arrays cost 20 MB, and a walk
by recursion would end at depth 1,000.

Who calls it: :mod:`headwater_prov.lineage` to walk, :mod:`headwater_prov.validation` to prove that
there is no cycle (G4).
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from functools import cached_property
from itertools import accumulate

from headwater_prov.document import Edge
from headwater_prov.identifiers import parse_vertex_name

_NUMBER = "q"


class Adjacency:
    """For each vertex the edges at one of its ends."""

    def __init__(self, vertices: int, ends: array[int]) -> None:
        counts = array(_NUMBER, bytes(8 * (vertices + 1)))
        for vertex in ends:
            counts[vertex + 1] += 1
        self._offsets = array(_NUMBER, accumulate(counts))
        free = array(_NUMBER, self._offsets)
        self._edges = array(_NUMBER, bytes(8 * len(ends)))
        for edge, vertex in enumerate(ends):
            self._edges[free[vertex]] = edge
            free[vertex] += 1

    def __getitem__(self, vertex: int) -> array[int]:
        """Numbers of the vertex's edges, in the order of the edges."""
        return self._edges[self._offsets[vertex] : self._offsets[vertex + 1]]

    def degree(self, vertex: int) -> int:
        """How many edges the vertex has."""
        return self._offsets[vertex + 1] - self._offsets[vertex]


class Graph:
    """Vertices are numbered by their first edge, objects by their first vertex, edges by place."""

    def __init__(self, edges: Iterable[Edge]) -> None:
        self.numbers: dict[str, int] = {}
        """Number of a vertex by name."""
        self.senders = array(_NUMBER)
        """Number of the sender of each edge."""
        self.receivers = array(_NUMBER)
        """Number of the receiver of each edge."""
        self.relations = bytearray()
        """Code of the relation of each edge."""
        numbers = self.numbers
        for edge in edges:
            self.senders.append(numbers.setdefault(edge.sender, len(numbers)))
            self.receivers.append(numbers.setdefault(edge.receiver, len(numbers)))
            self.relations.append(edge.relation)
        self.object_numbers: dict[str, int] = {}
        """Number of an object by its id."""
        self.objects = array(_NUMBER)
        """Number of the object of each vertex."""
        self.versions = array(_NUMBER)
        """Version of each vertex."""
        objects = self.object_numbers
        for name in numbers:
            object_, version = parse_vertex_name(name)
            self.objects.append(objects.setdefault(object_, len(objects)))
            self.versions.append(version)

    @cached_property
    def names(self) -> list[str]:
        """Name of each vertex."""
        return list(self.numbers)

    @cached_property
    def outgoing(self) -> Adjacency:
        """The edges that each vertex sends."""
        return Adjacency(len(self.numbers), self.senders)

    @cached_property
    def incoming(self) -> Adjacency:
        """The edges that each vertex receives."""
        return Adjacency(len(self.numbers), self.receivers)

    def find_cycle(self) -> list[str]:
        """Names of the vertices of one cycle, in the direction of information; empty if none."""
        pending = array(_NUMBER, map(self.incoming.degree, range(len(self.numbers))))
        ready = [vertex for vertex, count in enumerate(pending) if not count]
        while ready:
            for edge in self.outgoing[ready.pop()]:
                receiver = self.receivers[edge]
                pending[receiver] -= 1
                if not pending[receiver]:
                    ready.append(receiver)
        start = next((vertex for vertex, count in enumerate(pending) if count), None)
        return [] if start is None else [self.names[v] for v in self._cycle(start, pending)]

    def _cycle(self, start: int, pending: array[int]) -> Iterator[int]:
        # Every vertex that is left has a sender that is left, so going back must come round.
        path: dict[int, None] = {}
        vertex = start
        while vertex not in path:
            path[vertex] = None
            senders = (self.senders[edge] for edge in self.incoming[vertex])
            vertex = next(sender for sender in senders if pending[sender])
        walked = list(path)
        return reversed(walked[walked.index(vertex) :])
