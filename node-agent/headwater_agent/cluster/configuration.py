# SPDX-License-Identifier: Apache-2.0
"""What is in force on this node, and what is not and why.

Why: the resolver makes it, placing applies it, the status repeats it; it is one value, so that no
one of them sees half of a change. Pure.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from headwater_prov.policy import CompiledPolicy, PolicyReference, combine


class FailureReason(StrEnum):
    """Why something that the node was told is not in force."""

    UNREACHABLE = "Unreachable"
    """The API server did not answer; it is asked again."""

    NOT_FOUND = "NotFound"
    """The API server has no such compiled policy; it is asked again."""

    HASH_MISMATCH = "HashMismatch"
    """The content is not what the name says; it is fetched again."""

    UNREADABLE = "Unreadable"
    """This version of the agent cannot apply the content."""

    SLOTS_EXHAUSTED = "SlotsExhausted"
    """The kernel's maps are full."""

    SCOPE_FULL = "ScopeFull"
    """The kernel's map of cgroups is full."""

    NO_TENANT_KEY = "NoTenantKey"
    """The agent does not have the key that the tenant's ids are made with."""

    TENANTS_OVERLAP = "TenantsOverlap"
    """A pod's records go to one tenant, and another one's policy selects it, too."""


@dataclass(frozen=True, slots=True, order=True)
class Failure:
    """One thing that is not in force as the node was told."""

    namespace: str
    """Of the policy; empty for a platform's policy and for a set."""

    name: str
    """Of the policy, or of the set where that cannot be had."""

    hash: str
    """Of the compiled policy or the set."""

    reason: FailureReason
    message: str = field(compare=False)
    """Why, and what stays in force instead."""


@dataclass(frozen=True, slots=True)
class Configuration:
    """Everything that pods are held against."""

    generation: int = 0
    """Of the ProvenanceNode that this follows."""

    sets: Mapping[str, tuple[PolicyReference, ...]] = field(default_factory=dict)
    """References by the name of the set that is in force. A set that failed is represented by the
    ones that were in force before it."""

    policies: Mapping[str, CompiledPolicy] = field(default_factory=dict)
    """By hash: those that `in_force` names."""

    in_force: Mapping[PolicyReference, str] = field(default_factory=dict)
    """By reference, the hash of what is in force for it: its own, or that of the last good version
    of the policy. A policy that no pod here can need is not in it."""

    failures: tuple[Failure, ...] = ()

    _of_namespace: dict[str, tuple[tuple[PolicyReference, CompiledPolicy], ...]] = field(
        default_factory=dict, compare=False, repr=False
    )
    _combined: dict[tuple[str, ...], CompiledPolicy] = field(
        default_factory=dict, compare=False, repr=False
    )

    def of_namespace(self, namespace: str) -> tuple[tuple[PolicyReference, CompiledPolicy], ...]:
        """The policies that pods of a namespace are held against; found once for all pods of it."""
        found = self._of_namespace.get(namespace)
        if found is None:
            found = self._of_namespace[namespace] = tuple(
                (reference, self.policies[digest])
                for reference, digest in self.in_force.items()
                if reference.applies_to(namespace)
            )
        return found

    def combined(self, policies: Iterable[CompiledPolicy]) -> CompiledPolicy:
        """What several policies amount to; computed once for all pods that they select."""
        members = tuple(policies)
        key = tuple(sorted(policy.hash for policy in members))
        found = self._combined.get(key)
        if found is None:
            found = self._combined[key] = combine(members)
        return found

    def contents(self) -> Iterable[str]:
        """Names of everything that the cache has to keep for it."""
        yield from self.sets
        yield from self.policies
