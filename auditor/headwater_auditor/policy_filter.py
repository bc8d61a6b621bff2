# SPDX-License-Identifier: Apache-2.0
"""Only what was recorded under some policies, out of a stream that has those of all.

Why here and not on the server: a document holds the records of all of a tenant's pods on a node, in
one sequence and one chain, so no subject can tell policies apart (docs/decisions/0018). What tells
them apart is the task that acts: it is declared with the names of the policies that select its pod.
Called by `stream.TenantStream`; it changes documents, never what is counted (G2).
"""

from collections.abc import Iterable
from itertools import groupby
from typing import Final

from headwater_prov.document import Document, Edge
from headwater_prov.identifiers import parse_relation_key, parse_vertex_name
from headwater_prov.vocabulary import Prov, Relation, VertexType

ATTRIBUTE: Final = "hw:policies"
TASK_KEY: Final = "cf:task_id"
TASKS_MAX: Final = 300_000
"""As many as an agent remembers objects; of more, those that were declared longest ago are
forgotten, and what they do is kept until they are declared again."""


class PolicyFilter:
    """Leaves out of documents the relations of records that only other policies asked for.

    A captured record may stand for several relations; they stay or go together. It goes when a task
    acts in it, and the policies of all its tasks are known and not among those that are wanted. So
    what no task does (names, arguments, addresses, the end of an object) stays, and so does what is
    in doubt. Declarations stay: a later relation may need them.

    Args:
        policies: names that are wanted, as "namespace/name".
    """

    def __init__(self, policies: Iterable[str]) -> None:
        self._wanted = frozenset(policies)
        self._of_task: dict[str, frozenset[str]] = {}
        self._sets: dict[str, frozenset[str]] = {}

    def apply(self, document: Document) -> Document:
        """Return the document without the relations of other policies.

        Args:
            document: the next one of the stream, whole.
        """
        for vertex in document.vertices.values():
            names = vertex.attributes.get(ATTRIBUTE)
            if vertex.type is VertexType.TASK and isinstance(names, str):
                self._learn(vertex.object, names)
        kept: list[Edge] = []
        ended: list[str] = []
        for _, group in groupby(document.edges, _record):
            record = list(group)
            tasks = set(_tasks(record))
            if self._is_wanted(tasks):
                kept += record
            ended += (
                parse_vertex_name(edge.sender)[0]
                for edge in record
                if edge.relation is Relation.TERMINATE_TASK
            )
        for task in ended:
            self._of_task.pop(task, None)
        if len(kept) == len(document.edges):
            return document
        return Document(
            document.vertices, tuple(kept), document.gaps, document.prefixes, document.checkpoints
        )

    def _learn(self, task: str, names: str) -> None:
        # The same few texts come with every task: they share one set.
        policies = self._sets.get(names)
        if policies is None:
            policies = self._sets[names] = frozenset(names.split())
        self._of_task.pop(task, None)
        self._of_task[task] = policies
        if len(self._of_task) > TASKS_MAX:
            del self._of_task[next(iter(self._of_task))]

    def _is_wanted(self, tasks: set[str]) -> bool:
        known = [self._of_task.get(task) for task in tasks]
        return not known or any(each is None or each & self._wanted for each in known)


def _record(edge: Edge) -> tuple[str, int]:
    """Which captured record a relation stands in."""
    origin, sequence, _ = parse_relation_key(edge.key)
    return origin, sequence


def _tasks(record: list[Edge]) -> Iterable[str]:
    """The objects of the tasks that act in a record."""
    for edge in record:
        prov_class = edge.relation.prov_class
        if prov_class.sender is Prov.ACTIVITY:
            yield parse_vertex_name(edge.sender)[0]
        if prov_class.receiver is Prov.ACTIVITY:
            yield parse_vertex_name(edge.receiver)[0]
        acting = edge.attributes.get(TASK_KEY)
        if isinstance(acting, str):
            yield parse_vertex_name(acting)[0]
