# SPDX-License-Identifier: Apache-2.0
"""Which sets of references each node is told (decision 9).

Why: a node's spec stays within 4 KB whatever the number of policies, and an edit changes one set.
Pure: from judgements and nodes; next, `reconciler` writes it. A set's references all go to the same
nodes: those of the namespaces to every node, those of the platform's policies to the nodes of one
class, which is the same choice of policies by `nodeSelector`.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from headwater_prov.policy import (
    REFERENCE_SETS,
    REFERENCES_MAX,
    CompiledPolicy,
    PolicyReference,
    reference_set_index,
    reference_set_name,
    sorted_references,
)

from headwater_operator.cluster.judging import Judgement
from headwater_operator.cluster.observed import Observed

References = tuple[PolicyReference, ...]

NAMESPACES_MAX: Final = 12_000
"""Most namespaces that a set's references may list together: 0.8 MB of what etcd takes, 1.5 MB."""


@dataclass(frozen=True, slots=True)
class Desired:
    """What nodes are to be told.

    Args:
        policies: compiled policies by hash.
        sets: references by the name of their set.
        nodes: sorted names of sets, by node.
        told: how many nodes are to have a policy, by its uid.
        left_out: uids of policies for which their set has no room.
    """

    policies: Mapping[str, CompiledPolicy] = field(default_factory=dict)
    sets: Mapping[str, References] = field(default_factory=dict)
    nodes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    told: Mapping[str, int] = field(default_factory=dict)
    left_out: frozenset[str] = frozenset()


def _room(members: list[Judgement]) -> int:
    """How many of the policies, in their order, fit into one set."""
    left = NAMESPACES_MAX
    for number, one in enumerate(members[:REFERENCES_MAX]):
        left -= len(one.reference.namespaces) if one.reference else 0
        if left < 0:
            return number
    return min(len(members), REFERENCES_MAX)


def _at_once(_place: object, references: References) -> References:
    return references


def divide(
    judgements: Iterable[Judgement],
    nodes: Collection[Observed],
    pace: Callable[[object, References], References] = _at_once,
) -> Desired:
    """Divide the references of accepted policies into sets, and the sets among the nodes.

    Args:
        judgements: of all policies.
        nodes: Nodes of the cluster.
        pace: takes a place (which set it is, whatever is in it) and what is to be in it; returns
            what is in it for now.
    """
    policies: dict[str, CompiledPolicy] = {}
    by_place: dict[int, list[Judgement]] = defaultdict(list)
    platforms: list[Judgement] = []
    told: dict[str, int] = {}
    for one in judgements:
        if one.reference is None or one.compiled is None:
            continue
        policies[one.compiled.hash] = one.compiled
        if one.reference.namespace is None:
            platforms.append(one)
            told[one.policy.uid] = 0
        else:
            by_place[reference_set_index(one.reference.namespace)].append(one)
            told[one.policy.uid] = len(nodes)
    by_class: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for node in nodes:
        chosen = [one.policy.uid for one in platforms if one.nodes.matches(node.labels)]
        by_class[tuple(sorted(chosen))].append(node.name)
        for uid in chosen:
            told[uid] += 1

    sets: dict[str, References] = {}
    left_out: set[str] = set()

    def add(place: object, members: list[Judgement]) -> list[str]:
        # The oldest stay in, so that nobody is crowded out by what came later.
        members = sorted(members, key=lambda one: (one.policy.created, one.policy.uid))
        room = _room(members)
        left_out.update(one.policy.uid for one in members[room:])
        references = pace(
            place, sorted_references(one.reference for one in members[:room] if one.reference)
        )
        if not references:
            return []
        name = reference_set_name(references)
        sets[name] = references
        return [name]

    # Every place, so that one which becomes empty keeps its pace, too.
    everywhere = [
        name for place in range(REFERENCE_SETS - 1) for name in add(place, by_place.get(place, []))
    ]
    names: dict[str, tuple[str, ...]] = {}
    for uids, members in by_class.items():
        own = [one for one in platforms if one.policy.uid in uids]
        of_class = tuple(sorted(everywhere + (add(uids, own) if own else [])))
        names.update((name, of_class) for name in members)
    return Desired(policies, sets, names, told, frozenset(left_out))
