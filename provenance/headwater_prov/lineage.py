# SPDX-License-Identifier: Apache-2.0
"""Where a file came from, and what was made of it: the question that provenance is for.

Why: the graph holds the answer as a walk over versions. A version receives nothing after it has
sent, so the walk meets only what really flowed before (or after): a file that a program read once
its result was written is no origin of the result.

Who calls it: ``headwater lineage``, the demonstration, whoever has a merged document. The answer
is a sentence, a table (:class:`Row`) and the part of the document that proves it, for the writers.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from enum import StrEnum

from headwater_prov.answer import Answer, Direction, answer
from headwater_prov.catalogue import Catalogue
from headwater_prov.connections import joined
from headwater_prov.display import printable_path
from headwater_prov.document import Document, Vertex
from headwater_prov.graph import Graph
from headwater_prov.relevance import Relevance
from headwater_prov.vocabulary import INODES, Relation

__all__ = ["Answer", "Direction", "Lineage", "PathError", "PathProblem"]

_CANDIDATES_MAX = 10


class PathProblem(StrEnum):
    """Why a path names no file of the document."""

    ABSENT = "absent"
    AMBIGUOUS = "ambiguous"


class PathError(LookupError):
    """A path names no file of the document, or several.

    Attributes:
        path: what was asked for.
        candidates: paths that could have been meant, at most ten.
    """

    def __init__(self, path: str, problem: PathProblem, candidates: Iterable[bytes]) -> None:
        self.path = path
        self.problem = problem
        self.candidates = [printable_path(candidate) for candidate in candidates]
        shown = "".join(f"\n  {candidate}" for candidate in self.candidates[:_CANDIDATES_MAX])
        asked = printable_path(os.fsencode(path))
        if problem is PathProblem.AMBIGUOUS:
            text = f'"{asked}" is the end of several paths; give more of the one that is meant:'
        elif shown:
            text = f'no captured program touched "{asked}"; paths with a similar name:'
        else:
            text = f'no captured program touched "{asked}", nor a path with a similar name'
        super().__init__(text + shown)


@dataclass(frozen=True, slots=True)
class _Walk:
    edges: list[int]
    vertices: bytearray


class Lineage:
    """Answers questions about one document.

    Args:
        document: all that is known, as :func:`headwater_prov.document.merge` makes it.
        everything: follow all relations and files, also those that :mod:`headwater_prov.relevance`
            leaves out.
        setup: follow what a container runtime did to set a container up.
    """

    def __init__(
        self, document: Document, *, everything: bool = False, setup: bool = False
    ) -> None:
        document = joined(document)
        self._document = document
        self._everything = everything
        self._setup = setup
        self._graph = Graph(document.edges)
        self._catalogue = Catalogue(document, self._graph)

    def paths(self) -> list[str]:
        """All paths of files that the document names, as they are shown."""
        return sorted(printable_path(path) for path in self._files())

    def origins(self, path: str) -> Answer:
        """Where the file came from.

        Args:
            path: the whole path of a file, or the end of one from a component on. If several files
                had it one after the other, the one that had it last is meant.

        Raises:
            PathError: if no file has the path, or several paths end in it.
        """
        return self._answer(path, Direction.ORIGINS)

    def uses(self, path: str) -> Answer:
        """What the file was used for.

        Args:
            path: see :meth:`origins`.

        Raises:
            PathError: see :meth:`origins`.
        """
        return self._answer(path, Direction.USES)

    def _answer(self, path: str, direction: Direction) -> Answer:
        found = self._find(path)
        named = [v for v in self._catalogue.named[found] if self._is_file(v)]
        target = self._graph.objects[named[-1]]
        asked = frozenset({target})
        relevance = Relevance(
            self._catalogue, everything=self._everything, setup=self._setup, asked=asked
        )
        versions = [
            vertex for vertex, object_ in enumerate(self._graph.objects) if object_ == target
        ]
        walk = self._walk(versions, direction, relevance)
        return answer(
            path=printable_path(found),
            direction=direction,
            target=target,
            catalogue=self._catalogue,
            edges=walk.edges,
            left_out=self._left_out(relevance, walk),
            document=self._part(walk),
            earlier=len({self._graph.objects[v] for v in named}) - 1,
        )

    def _files(self) -> list[bytes]:
        named = self._catalogue.named
        return [path for path, vertices in named.items() if any(map(self._is_file, vertices))]

    def _is_file(self, vertex: int) -> bool:
        return self._catalogue.types[self._graph.objects[vertex]] in INODES

    def _find(self, path: str) -> bytes:
        asked = os.fsencode(path)
        files = self._files()
        if asked in files:
            return asked
        # As `paths` shows it, which is not how it is written if not all of it can be shown.
        if shown := [known for known in files if printable_path(known) == path]:
            return shown[-1]
        ending = b"/" + asked.removeprefix(b"./").lstrip(b"/")
        found = sorted(known for known in files if known.endswith(ending)) if asked else []
        if len(found) == 1:
            return found[0]
        if found:
            raise PathError(path, PathProblem.AMBIGUOUS, found)
        by_name: dict[str, list[bytes]] = {}
        for known in files:
            by_name.setdefault(os.fsdecode(known.rpartition(b"/")[2]), []).append(known)
        close = get_close_matches(path.rpartition("/")[2], by_name, n=_CANDIDATES_MAX)
        near = [known for name in close for known in by_name[name]]
        raise PathError(path, PathProblem.ABSENT, near[:_CANDIDATES_MAX])

    def _walk(self, start: list[int], direction: Direction, relevance: Relevance) -> _Walk:
        graph = self._graph
        if direction is Direction.ORIGINS:
            adjacency, ends = graph.incoming, graph.senders
        else:
            adjacency, ends = graph.outgoing, graph.receivers
        visited = bytearray(len(graph.numbers))
        edges: list[int] = []
        pending = deque(start)
        for vertex in start:
            visited[vertex] = 1
        while pending:
            for edge in adjacency[pending.popleft()]:
                if not relevance.keeps(edge):
                    continue
                edges.append(edge)
                end = ends[edge]
                if not visited[end]:
                    visited[end] = 1
                    if relevance.passes(end):
                        pending.append(end)
        edges.sort()
        return _Walk(edges, visited)

    def _left_out(self, relevance: Relevance, walk: _Walk) -> dict[int, int]:
        files: dict[int, set[int]] = {}
        for object_, vertex in relevance.left_out:
            program = self._catalogue.program(vertex)
            if program is not None and walk.vertices[vertex]:
                files.setdefault(program, set()).add(object_)
        return {program: len(objects) for program, objects in files.items()}

    def _part(self, walk: _Walk) -> Document:
        """The edges of the walk, with the names and arguments of what they join."""
        graph, document = self._graph, self._document
        kept = bytearray(len(document.edges))
        for edge in walk.edges:
            kept[edge] = 1
        mentioned = bytearray(len(graph.object_numbers))
        for edge in walk.edges:
            mentioned[graph.objects[graph.senders[edge]]] = 1
            mentioned[graph.objects[graph.receivers[edge]]] = 1
        for edge, relation in enumerate(graph.relations):
            if relation in (Relation.NAMED, Relation.ARG):
                kept[edge] |= mentioned[graph.objects[graph.receivers[edge]]]
        edges = tuple(document.edges[edge] for edge, keep in enumerate(kept) if keep)
        vertices: dict[str, Vertex] = {}
        described: set[int] = set()
        for kept_edge in edges:
            for name in (kept_edge.sender, kept_edge.receiver):
                vertex = document.vertices.get(name)
                if vertex is not None and name not in vertices:
                    vertices[name] = self._described(vertex, described)
        return Document(vertices, edges, document.gaps, document.prefixes)

    def _described(self, vertex: Vertex, described: set[int]) -> Vertex:
        # An object is described once, at a version that the part may not hold.
        number = self._graph.numbers[vertex.name]
        object_ = self._graph.objects[number]
        if object_ in described:
            return vertex
        described.add(object_)
        known = self._catalogue.attributes(object_, self._graph.versions[number])
        return Vertex(vertex.name, vertex.type, {**known, **vertex.attributes})
