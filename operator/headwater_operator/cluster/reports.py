# SPDX-License-Identifier: Apache-2.0
"""What all nodes together report of each policy.

Why: a status that lists nodes per policy would be 10 million entries in a large cluster. Nodes say
which sets they apply, so it is enough to count nodes by set and to go through each set once. Pure:
from ProvenanceNodes; next, `statuses`. Promise: a policy's counts move only with its own policy,
not with another tenant's edit, which makes a new set that holds the same reference (G5).
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

from headwater_prov.policy import PolicyReference

from headwater_operator.cluster.observed import Observed
from headwater_operator.cluster.sets import References

LATE_AFTER_S: Final = 60.0
"""A node that has not applied what it was told so long ago is reported as failing."""

FAILING_NODES: Final = 10
"""Most nodes that a policy's status names."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why one node does not have one policy."""

    node: str
    reason: str
    message: str


@dataclass(slots=True)
class Counts:
    """One policy on all nodes."""

    desired: int = 0
    programmed: int = 0
    failed: int = 0
    unsupported: int = 0
    failures: list[Failure] = field(default_factory=list)
    """At most `FAILING_NODES`, by node."""


@dataclass(slots=True)
class _Late:
    """Late nodes that apply the same sets."""

    references: frozenset[PolicyReference]
    nodes: list[Failure] = field(default_factory=list)


@dataclass(slots=True)
class Reports:
    """What all nodes report, ready to be asked for each policy."""

    programmed: Counter[PolicyReference] = field(default_factory=Counter)
    unsupported: Counter[PolicyReference] = field(default_factory=Counter)
    refused: dict[tuple[str, str, str], list[Failure]] = field(
        default_factory=lambda: defaultdict(list)
    )
    late: list[_Late] = field(default_factory=list)
    lost: Counter[str] = field(default_factory=Counter)
    """Records declared lost, by tenant."""

    def of(self, reference: PolicyReference, desired: int) -> Counts:
        """The counts of one policy.

        Args:
            reference: what nodes were told of it.
            desired: how many nodes were.
        """
        key = (reference.namespace or "", reference.name, reference.hash)
        refused = self.refused.get(key, [])
        counts = Counts(
            desired=desired,
            programmed=max(0, self.programmed[reference] - len(refused)),
            unsupported=self.unsupported[reference],
            failed=len(refused),
            failures=refused[:FAILING_NODES],
        )
        said = {one.node for one in refused}
        for group in self.late:
            if reference in group.references:
                continue  # late with something else
            late = [one for one in group.nodes if one.node not in said]
            counts.failed += len(late)
            counts.failures += islice(late, FAILING_NODES - len(counts.failures))
        # A node that was never told has nothing to be late with; counts are of those told.
        counts.failed = min(counts.failed, max(0, desired - counts.programmed - counts.unsupported))
        counts.failures.sort(key=lambda one: one.node)
        return counts


def collect(
    nodes: Iterable[Observed],
    told: Mapping[str, Sequence[str]],
    sets: Mapping[str, References],
    since: Mapping[str, float],
    unreachable: frozenset[str],
    now: float,
) -> Reports:
    """Go through the nodes' statuses once.

    Args:
        nodes: ProvenanceNodes.
        told: names of sets that each node is to have.
        sets: references of every set that may still be applied somewhere.
        since: when each node was last told something else, monotonic seconds.
        unreachable: nodes that Kubernetes itself does not reach.
        now: monotonic seconds.
    """
    reports = Reports()
    applied_by: Counter[tuple[str, ...]] = Counter()
    told_by: Counter[tuple[str, ...]] = Counter()
    late: dict[tuple[str, ...], list[Failure]] = defaultdict(list)
    for node in sorted(nodes, key=lambda one: one.name):
        status = node.status
        wanted = tuple(told.get(node.name, ()))
        if status.get("captureMode") == "unsupported":
            told_by[wanted] += 1
            continue
        applied = tuple(status.get("policySets") or ())
        applied_by[applied] += 1
        for failure in status.get("failures") or ():
            key = (failure.get("namespace") or "", failure["name"], failure.get("hash") or "")
            reports.refused[key].append(
                Failure(node.name, failure["reason"], failure.get("message") or "")
            )
        for one in (status.get("lost") or {}).get("byTenant") or ():
            reports.lost[one["tenant"]] += one["count"]
        if sorted(applied) != sorted(wanted) and now - since.get(node.name, now) > LATE_AFTER_S:
            late[applied].append(_why_late(node, node.name in unreachable))
    for names, count in applied_by.items():
        for reference in _union(names, sets):
            reports.programmed[reference] += count
    for names, count in told_by.items():
        for reference in _union(names, sets):
            reports.unsupported[reference] += count
    reports.late = [_Late(_union(names, sets), failures) for names, failures in late.items()]
    return reports


def _union(names: Iterable[str], sets: Mapping[str, References]) -> frozenset[PolicyReference]:
    return frozenset(reference for name in names for reference in sets.get(name, ()))


def _why_late(node: Observed, is_unreachable: bool) -> Failure:
    if is_unreachable:
        return Failure(
            node.name,
            "NodeUnreachable",
            "Kubernetes does not reach the node; see kubectl get nodes",
        )
    if not node.status.get("lastReported"):
        return Failure(
            node.name,
            "NoAgent",
            "no agent has reported; see whether the agent's pod runs on the node",
        )
    reported = node.status["lastReported"]
    return Failure(
        node.name,
        "NotApplied",
        f"the agent does not have it yet and last reported at {reported}; see its log",
    )
