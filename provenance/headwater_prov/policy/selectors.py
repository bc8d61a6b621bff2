# SPDX-License-Identifier: Apache-2.0
"""One form for every selector that selects the same pods.

Why: a compiled policy is known by its hash, so `matchLabels: {app: shop}` and `app In [shop]` have
to come out equal. Called by `compiled`. Per label key there are four things that any set of
requirements can amount to: one of some values; present and none of some values; absent or none of
some values; absent. Or nothing at all, then no pod can match.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator

from headwater_prov.policy.model import Operator, PodSelector, Requirement


def normalise_selector(selector: PodSelector) -> PodSelector | None:
    """The selector in its one form, sorted, or None if no labels can satisfy it."""
    by_key: defaultdict[str, list[Requirement]] = defaultdict(list)
    for requirement in selector.requirements:
        by_key[requirement.key].append(requirement)
    normal: list[Requirement] = []
    for key in sorted(by_key):
        simplest = _simplest(key, by_key[key])
        if simplest is None:
            return None
        normal.extend(simplest)
    return PodSelector(tuple(normal))


def _simplest(key: str, requirements: list[Requirement]) -> list[Requirement] | None:
    operators = {requirement.operator for requirement in requirements}
    excluded = frozenset(_values(requirements, Operator.NOT_IN))
    if Operator.DOES_NOT_EXIST in operators:
        if operators & {Operator.IN, Operator.EXISTS}:
            return None
        return [Requirement(key, Operator.DOES_NOT_EXIST)]
    if Operator.IN in operators:
        sets = [r.values for r in requirements if r.operator is Operator.IN]
        allowed = frozenset.intersection(*sets) - excluded
        return [Requirement(key, Operator.IN, allowed)] if allowed else None
    simplest = []
    if Operator.EXISTS in operators:
        simplest.append(Requirement(key, Operator.EXISTS))
    if excluded:
        simplest.append(Requirement(key, Operator.NOT_IN, excluded))
    return simplest


def _values(requirements: Iterable[Requirement], operator: Operator) -> Iterator[str]:
    for requirement in requirements:
        if requirement.operator is operator:
            yield from requirement.values
