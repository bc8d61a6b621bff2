# SPDX-License-Identifier: Apache-2.0
"""Whether a stream keeps what the record format promises (G2, G4).

Why: an auditor that walks the graph in one pass, or drops a vertex once its successor came, relies
on the order of the stream. Each rule here is one sentence of ``docs/record-format.md``.

Who calls it: tests on everything that is captured, and whoever doubts a stream. Documents are fed
in the order of the stream; memory grows with the objects alive in it, not with its records. What
JSON, the W3C's schema and the names allow is checked before, by :mod:`headwater_prov.reading`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from headwater_prov.balance import Balance, Ledger
from headwater_prov.document import Document, Edge, Vertex
from headwater_prov.graph import Graph
from headwater_prov.identifiers import parse_relation_key, parse_vertex_name
from headwater_prov.stream import SequenceRange
from headwater_prov.vocabulary import LATE_RELATIONS, VERSION_STEPS, VertexType

RESUMED_ATTRIBUTE = "hw:resumed"
"""Marks a vertex of which the agent knows no more, or did not learn the beginning."""


class Rule(StrEnum):
    """The rules of the format; the value is how a problem with it is called."""

    ENDPOINT_TYPE = "endpoint type"
    """A relation joins types of vertex that the vocabulary lets it join."""
    UNDECLARED = "undeclared"
    """A vertex is declared in the document that mentions it or before, in the same epoch."""
    TYPE_CHANGED = "type changed"
    """An object keeps its type, unless it was unknown: an ``inode_unknown``, or ``hw:resumed``."""
    VERSION_JUMP = "version jump"
    """The versions of an object begin at 0 and have no holes, unless it is ``hw:resumed``."""
    VERSION_STEP = "version step"
    """A new version is first mentioned by a step from the version before."""
    IN_AFTER_OUT = "in-edge after out-edge"
    """Once a vertex has sent, nothing flows into it."""
    CYCLE = "cycle"
    """No information flows back into the vertex that it came from."""
    REPEATED_KEY = "repeated key"
    """Relation keys rise within an origin, so none comes twice."""
    SEQUENCE = "sequence"
    """The numbers of an origin are contiguous: delivered, or declared lost."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One place where a rule is broken."""

    rule: Rule
    place: str
    """Name of the relation, vertex or origin."""
    text: str

    def __str__(self) -> str:
        return f"{self.rule}: {self.place}: {self.text}"


@dataclass(slots=True)
class _Object:
    type: VertexType
    first_declared: int
    last_declared: int
    epoch: str
    is_guess: bool
    """Whether the type is what the relation that mentioned the object suggested."""
    reached: int = -1
    """The highest version that an edge has mentioned."""
    sent: int = -1
    """The highest version that information has flowed from."""


class Validator:
    """Checks a stream document by document.

    Args:
        from_start: whether the stream is whole. If older documents are gone, as with a limit on
            age, an object may begin at any version and an origin at any number.
    """

    def __init__(self, *, from_start: bool = True) -> None:
        self.problems: list[Problem] = []
        """What was found so far, in the order of the stream."""
        self._from_start = from_start
        self._objects: dict[str, _Object] = {}
        self._ledgers: dict[str, Ledger] = {}
        self._last_keys: dict[str, tuple[int, int]] = {}

    def feed(
        self,
        document: Document,
        *,
        origin: str = "",
        numbers: SequenceRange | None = None,
        epoch: str = "",
    ) -> None:
        """Check the next document.

        Args:
            origin: node and load that the document came from, see
                :func:`headwater_prov.identifiers.origin_token`.
            numbers: its ``Hw-Seq``, if there is one.
            epoch: its ``Hw-Epoch``, if there is one.
        """
        self._check_numbers(document, origin, numbers)
        for vertex in sorted(document.vertices.values(), key=lambda v: v.version):
            self._declare(vertex, f"{origin} {epoch}")
        for edge in document.edges:
            self._check_key(edge, numbers)
            self._check_edge(edge, f"{origin} {epoch}")

    def finish(self) -> list[Problem]:
        """All problems, with those that only the end of the stream shows."""
        for origin, account in self.balances().items():
            if account.missing:
                self._add(Rule.SEQUENCE, origin, f"missing {', '.join(map(str, account.missing))}")
            if account.repeated:
                self._add(Rule.SEQUENCE, origin, f"{account.repeated} numbers came more than once")
        return self.problems

    def balances(self) -> dict[str, Balance]:
        """The account of each origin that has one."""
        return {origin: ledger.balance() for origin, ledger in self._ledgers.items()}

    def _add(self, rule: Rule, place: str, text: str) -> None:
        self.problems.append(Problem(rule, place, text))

    def _check_numbers(
        self, document: Document, origin: str, numbers: SequenceRange | None
    ) -> None:
        if numbers is None:
            return
        ledger = self._ledgers.get(origin)
        if ledger is None:
            ledger = self._ledgers[origin] = Ledger()
            if not self._from_start and numbers.first > 1:
                ledger.add(SequenceRange(1, numbers.first - 1))
        ledger.add(numbers, is_gap=bool(document.gaps))
        declared = [(gap.first, gap.last) for gap in document.gaps]
        if declared and declared != [(numbers.first, numbers.last)]:
            self._add(
                Rule.SEQUENCE,
                document.gaps[0].key,
                f"declares {declared}, but its numbers are {numbers}",
            )

    def _declare(self, vertex: Vertex, epoch: str) -> None:
        object_, version = parse_vertex_name(vertex.name)
        resumed = vertex.attributes.get(RESUMED_ATTRIBUTE) is True
        known = self._objects.get(object_)
        if known is None:
            self._objects[object_] = _Object(vertex.type, version, version, epoch, resumed)
            if version and self._from_start and not resumed:
                self._add(Rule.VERSION_JUMP, vertex.name, "is the first of its object, not 0")
            return
        if known.type is not vertex.type:
            if not known.is_guess and known.type is not VertexType.INODE_UNKNOWN:
                self._add(
                    Rule.TYPE_CHANGED,
                    vertex.name,
                    f"is {vertex.type.camflow}, its object was {known.type.camflow}",
                )
            known.type = vertex.type
        if resumed:
            known.reached = max(known.reached, version)
        elif version > known.last_declared + 1:
            self._add(Rule.VERSION_JUMP, vertex.name, f"follows version {known.last_declared}")
        known.is_guess = resumed or (known.is_guess and not vertex.attributes)
        known.last_declared = max(known.last_declared, version)
        known.epoch = epoch

    def _check_key(self, edge: Edge, numbers: SequenceRange | None) -> None:
        try:
            origin, sequence, index = parse_relation_key(edge.key)
        except ValueError:
            return
        if (sequence, index) <= self._last_keys.get(origin, (0, -1)):
            last = ".".join(map(str, self._last_keys[origin]))
            self._add(Rule.REPEATED_KEY, edge.key, f"does not come after {last}")
        else:
            self._last_keys[origin] = sequence, index
        if numbers is not None and not numbers.first <= sequence <= numbers.last:
            self._add(Rule.SEQUENCE, edge.key, f"lies outside the numbers {numbers} of its batch")

    def _check_edge(self, edge: Edge, epoch: str) -> None:
        relation = edge.relation
        sender_id, sent = parse_vertex_name(edge.sender)
        receiver_id, received = parse_vertex_name(edge.receiver)
        sender = self._endpoint(edge, edge.sender, sender_id, sent, epoch, relation.senders)
        receiver = self._endpoint(
            edge, edge.receiver, receiver_id, received, epoch, relation.receivers
        )
        is_step = relation in VERSION_STEPS
        if is_step and (sender_id != receiver_id or received != sent + 1):
            self._add(
                Rule.VERSION_STEP,
                edge.key,
                f"{relation.camflow} leads from {edge.sender} to {edge.receiver}",
            )
        if sender is not None:
            self._reach(edge, sender, edge.sender, sent, is_step=False)
            sender.sent = max(sender.sent, sent)
        if receiver is not None:
            if received <= receiver.sent and relation not in LATE_RELATIONS:
                self._add(
                    Rule.IN_AFTER_OUT,
                    edge.key,
                    f"{relation.camflow} into {edge.receiver}, which has sent before",
                )
            self._reach(edge, receiver, edge.receiver, received, is_step=is_step)

    def _endpoint(
        self,
        edge: Edge,
        name: str,
        object_: str,
        version: int,
        epoch: str,
        types: frozenset[VertexType],
    ) -> _Object | None:
        known = self._objects.get(object_)
        if known is None or not known.first_declared <= version <= known.last_declared:
            self._add(Rule.UNDECLARED, edge.key, f"{name} is not declared")
            return known
        if known.epoch != epoch:
            self._add(Rule.UNDECLARED, edge.key, f"{name} is not declared in this epoch")
        if known.type not in types and not known.is_guess:
            allowed = ", ".join(t.camflow for t in sorted(types))
            self._add(
                Rule.ENDPOINT_TYPE,
                edge.key,
                f"{edge.relation.camflow} joins {name}, a {known.type.camflow}; allowed: {allowed}",
            )
        return known

    def _reach(self, edge: Edge, known: _Object, name: str, version: int, *, is_step: bool) -> None:
        if version <= known.reached:
            return
        if known.reached >= 0 and not (is_step and version == known.reached + 1):
            self._add(
                Rule.VERSION_STEP,
                edge.key,
                f"{edge.relation.camflow} is the first relation of {name}, "
                f"without a step from version {known.reached}",
            )
        known.reached = version


def validate(documents: Iterable[Document], *, from_start: bool = True) -> list[Problem]:
    """Check documents that are at hand, in the order of the stream.

    The rules of order leave no room for a cycle; here one is searched all the same.

    Args:
        from_start: see :class:`Validator`.
    """
    documents = list(documents)
    validator = Validator(from_start=from_start)
    for document in documents:
        validator.feed(document)
    problems = validator.finish()
    cycle = Graph(edge for document in documents for edge in document.edges).find_cycle()
    if cycle:
        problems.append(Problem(Rule.CYCLE, cycle[0], " -> ".join([*cycle, cycle[0]])))
    return problems
