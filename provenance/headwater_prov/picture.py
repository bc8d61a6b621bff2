# SPDX-License-Identifier: Apache-2.0
"""What a picture of a document shows: few nodes with names that people know.

Why: drawn as it is, a shell pipeline has 300 vertices. By default programs and things are drawn,
one node each, as :mod:`headwater_prov.summary` folds them; asked for versions, every vertex is.

Who calls it: the writers ``dot``, ``svg`` and ``html``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from posixpath import commonpath, dirname, splitext

from headwater_prov.catalogue import Catalogue
from headwater_prov.display import listing, shortened
from headwater_prov.document import Document
from headwater_prov.graph import Graph
from headwater_prov.relevance import Relevance
from headwater_prov.summary import Summary
from headwater_prov.vocabulary import Prov, Relation, VertexType

_RELATIONS_SHOWN = 3
_PATH_PARTS_SHOWN = 3
_CROWD = 8
"""From so many things on that have the same neighbours, one node stands for them."""
_NAMES_IN_TOOLTIP = 40


@dataclass(frozen=True, slots=True)
class Node:
    """A program, a thing, or one version of either."""

    id: str
    kind: Prov
    label: str
    """Lines of text; nothing in it is markup."""
    tooltip: str
    is_target: bool = False


@dataclass(frozen=True, slots=True)
class Arrow:
    """Information flowed from one node to another."""

    tail: str
    head: str
    label: str
    is_version_step: bool = False


@dataclass(frozen=True, slots=True)
class Picture:
    """Nodes and arrows, and what was left out to keep them few."""

    nodes: tuple[Node, ...]
    arrows: tuple[Arrow, ...]
    left_out: int
    """How many relations of the document are not drawn and not folded into what is."""


def draw(
    document: Document,
    *,
    versions: bool = False,
    everything: bool = False,
    target: str = "",
) -> Picture:
    """Choose what to show of a document.

    Args:
        versions: one node for each version of each object.
        everything: also what :mod:`headwater_prov.relevance` leaves out.
        target: id of the object that the document is about, to be marked.
    """
    graph = Graph(document.edges)
    catalogue = Catalogue(document, graph)
    asked = frozenset({graph.object_numbers[target]} if target in graph.object_numbers else ())
    relevance = Relevance(catalogue, everything=everything, asked=asked)
    edges = [edge for edge in range(len(document.edges)) if relevance.keeps(edge)]
    drawer = _Drawer(catalogue, Summary(catalogue, edges), asked)
    nodes, arrows = drawer.versions(edges) if versions else drawer.objects(fold=not everything)
    return Picture(tuple(nodes), tuple(arrows), len(document.edges) - len(edges))


class _Drawer:
    def __init__(self, catalogue: Catalogue, summary: Summary, asked: frozenset[int]) -> None:
        self._catalogue = catalogue
        self._summary = summary
        self._asked = asked

    def objects(self, *, fold: bool) -> tuple[list[Node], list[Arrow]]:
        summary = self._summary
        crowds = self._crowds() if fold else []
        place = {node: crowd[0] for crowd in crowds for node in crowd}
        nodes = [
            self._node(f"n{node}", node) for node in summary.nodes if place.get(node, node) == node
        ]
        folded = {f"n{crowd[0]}": self._crowd(crowd) for crowd in crowds}
        flows: dict[tuple[int, int], Counter[Relation]] = {}
        for (tail, head), counts in summary.flows.items():
            ends = place.get(tail, tail), place.get(head, head)
            flows.setdefault(ends, Counter()).update(counts)
        arrows = [
            Arrow(f"n{tail}", f"n{head}", relations_label(counts))
            for (tail, head), counts in flows.items()
        ]
        return [folded.get(node.id, node) for node in nodes], arrows

    def _crowds(self) -> list[list[int]]:
        """Things of one kind that the same programs read and wrote, where there are many."""
        summary = self._summary
        alike: dict[tuple[frozenset[int], frozenset[int], str, str], list[int]] = {}
        for node in summary.nodes:
            if node not in summary.programs and node not in self._asked:
                neighbours = (
                    frozenset(summary.senders.get(node, ())),
                    frozenset(summary.receivers.get(node, ())),
                    *_place_and_suffix(summary.label(node)),
                )
                alike.setdefault(neighbours, []).append(node)
        return [nodes for nodes in alike.values() if len(nodes) >= _CROWD]

    def _crowd(self, nodes: list[int]) -> Node:
        names = [self._summary.label(node) for node in nodes]
        label = f"{len(nodes)} things"
        if all(name.startswith("/") for name in names):
            kind = _place_and_suffix(names[0])[1]
            directory = _last_parts(commonpath(map(dirname, names)))
            label = f"{len(nodes)} files{kind and f' *{kind}'} in\n{directory}"
        return Node(f"n{nodes[0]}", Prov.ENTITY, label, listing(names, _NAMES_IN_TOOLTIP))

    def versions(self, edges: Iterable[int]) -> tuple[list[Node], list[Arrow]]:
        graph = self._catalogue.graph
        nodes: dict[int, Node] = {}
        flows: dict[tuple[int, int], Counter[Relation]] = {}
        for edge in edges:
            ends = graph.senders[edge], graph.receivers[edge]
            for vertex in ends:
                if vertex not in nodes:
                    nodes[vertex] = self._node(
                        f"v{vertex}", graph.objects[vertex], graph.versions[vertex]
                    )
            flows.setdefault(ends, Counter())[Relation(graph.relations[edge])] += 1
        arrows = [
            Arrow(
                f"v{tail}",
                f"v{head}",
                relations_label(counts),
                all(relation.is_version_step for relation in counts),
            )
            for (tail, head), counts in flows.items()
        ]
        return list(nodes.values()), arrows

    def _node(self, id_: str, object_: int, version: int | None = None) -> Node:
        type_ = self._catalogue.types[object_]
        name = self._summary.label(object_)
        if object_ in self._summary.programs and version is None:
            kind = Prov.ACTIVITY
            label = name.replace(" (pid", "\n(pid")
            tooltip = shortened(" ".join(self._catalogue.program_arguments(object_))) or name
        else:
            kind = Prov.ENTITY if type_ is None else type_.prov
            label = _last_parts(name)
            tooltip = name
            if version is not None:
                tooltip = f"{'' if type_ is None else type_.camflow} {name}".strip()
                memory = "memory of " if type_ is VertexType.PROCESS_MEMORY else ""
                label = f"{memory}{label}\nversion {version}"
        return Node(id_, kind, label, tooltip, object_ in self._asked)


def relations_label(counts: Counter[Relation]) -> str:
    """Relations with their counts, the most frequent first, e.g. ``read \u00d73, mmap``."""
    if counts[Relation.CLONE]:
        # The memory comes with the process.
        counts = Counter({r: n for r, n in counts.items() if r is not Relation.CLONE_MEM})
    shown = [
        relation.camflow.replace("_", " ") + (f" \u00d7{count}" if count > 1 else "")
        for relation, count in counts.most_common(_RELATIONS_SHOWN)
    ]
    more = len(counts) - len(shown)
    return ", ".join(shown) + (f", {more} more" if more > 0 else "")


def _last_parts(name: str) -> str:
    parts = name.split("/")
    if not name.startswith("/") or len(parts) <= _PATH_PARTS_SHOWN + 1:
        return name
    return "\u2026/" + "/".join(parts[-_PATH_PARTS_SHOWN:])


def _place_and_suffix(name: str) -> tuple[str, str]:
    """What files have in common that are one crowd: where they lie, how their names end."""
    return "/".join(name.split("/")[:3]), splitext(name)[1]
