# SPDX-License-Identifier: Apache-2.0
"""Policies, tenants and selectors as the rest of Headwater holds them.

Why: past the loader nothing is text any more and nothing changes any more. Made by `building`, held
by agent, operator and command line, compiled by `compiled`. Promise: the tenant of a namespace is
decided here and nowhere else, so no two tenants are ever mixed up (G5).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from headwater_prov.policy.problems import Place
from headwater_prov.redaction import Redaction
from headwater_prov.vocabulary import Relation, VertexType


class Operator(StrEnum):
    """How a requirement holds a pod's label against its values."""

    IN = "In"
    NOT_IN = "NotIn"
    EXISTS = "Exists"
    DOES_NOT_EXIST = "DoesNotExist"


@dataclass(frozen=True, slots=True)
class Requirement:
    """One requirement on one label."""

    key: str
    operator: Operator
    values: frozenset[str] = frozenset()

    def holds(self, labels: Mapping[str, str]) -> bool:
        """Whether a pod with these labels meets the requirement."""
        value = labels.get(self.key)
        match self.operator:
            case Operator.IN:
                return value is not None and value in self.values
            case Operator.NOT_IN:
                return value is None or value not in self.values
            case Operator.EXISTS:
                return value is not None
            case Operator.DOES_NOT_EXIST:
                return value is None


@dataclass(frozen=True, slots=True)
class PodSelector:
    """Pods, or namespaces or nodes, by their labels: all requirements have to hold.

    None at all selects everything.
    """

    requirements: tuple[Requirement, ...] = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether what has these labels is selected."""
        return all(requirement.holds(labels) for requirement in self.requirements)


@dataclass(frozen=True, slots=True)
class Filters:
    """What is not recorded, as the policy says it."""

    nodes: frozenset[VertexType]
    relations: frozenset[Relation]


@dataclass(frozen=True, slots=True)
class Compression:
    """How repetition is kept out of the stream; CamFlow's three switches."""

    nodes: bool
    edges: bool
    duplicate: bool


@dataclass(frozen=True, slots=True)
class ProcessRules:
    """Which processes a policy records, by patterns of the programs that they execute.

    Args:
        is_selective: only those that `track` names, and their children; else all.
        track: patterns of absolute paths, see `automaton`.
        opaque: likewise, of programs that are not recorded.
    """

    is_selective: bool
    track: frozenset[str]
    opaque: frozenset[str]


@dataclass(frozen=True, slots=True)
class Policy:
    """A ProvenancePolicy with its defaults; `place` is where it was read and no part of it."""

    namespace: str
    name: str
    selector: PodSelector
    filters: Filters
    processes: ProcessRules
    compression: Compression
    arguments: bool
    environment: bool
    program_text_bytes: int
    redaction: Redaction
    records_per_second: int | None
    suspend: bool
    place: Place = field(compare=False)


@dataclass(frozen=True, slots=True)
class ClusterPolicy:
    """A ClusterProvenancePolicy with its defaults; `place` is where it was read and no part of it.

    Args:
        namespaces: selects the namespaces of whose pods `selector` speaks.
        nodes: selects the nodes that are told of the policy.
    """

    name: str
    namespaces: PodSelector
    nodes: PodSelector
    selector: PodSelector
    filters: Filters
    processes: ProcessRules
    compression: Compression
    arguments: bool
    environment: bool
    program_text_bytes: int
    redaction: Redaction
    records_per_second: int | None
    suspend: bool
    place: Place = field(compare=False)


@dataclass(frozen=True, slots=True)
class Quotas:
    """What a tenant's stream may hold."""

    stream_bytes: int
    stream_age_s: int


@dataclass(frozen=True, slots=True)
class Tenant:
    """A ProvenanceTenant, or the tenant that a namespace is by itself. The name is a DNS label.

    Args:
        namespaces: those that it lists.
        namespace_selector: claims further ones by their labels; None claims none.
    """

    name: str
    namespaces: frozenset[str]
    quotas: Quotas
    place: Place = field(compare=False)
    namespace_selector: PodSelector | None = None

    def claims(self, namespace: str, labels: Mapping[str, str]) -> bool:
        """Whether the tenant lists a namespace or selects it by these labels of it."""
        if namespace in self.namespaces:
            return True
        return self.namespace_selector is not None and self.namespace_selector.matches(labels)


class NamespaceWithoutTenant(LookupError):  # noqa: N818  # the state, as LookupError names one
    """A namespace belongs to no tenant, and its own name is the name of a foreign one.

    Args:
        namespace: the namespace.
    """

    def __init__(self, namespace: str) -> None:
        super().__init__(
            f'namespace "{namespace}" is listed by no tenant, and cannot be a tenant of its own '
            f'because ProvenanceTenant "{namespace}" owns other namespaces; list it in '
            "spec.namespaces of the tenant that it belongs to"
        )
        self.namespace = namespace


@dataclass(frozen=True, slots=True)
class PolicySet:
    """All policies and tenants of one directory or file.

    Args:
        policies: sorted by namespace and name, which are unique together.
        tenants: sorted by name, which is unique; no two list the same namespace.
        default_quotas: of namespaces that no tenant lists.
    """

    policies: tuple[Policy, ...]
    tenants: tuple[Tenant, ...]
    default_quotas: Quotas

    def tenant_of(self, namespace: str) -> Tenant:
        """The tenant that owns a namespace; one that nobody lists is a tenant of its own.

        Raises:
            NamespaceWithoutTenant: its name is that of a tenant which does not list it. Its
                records would end up in a foreign stream.
        """
        for tenant in self.tenants:
            if namespace in tenant.namespaces:
                return tenant
        if any(tenant.name == namespace for tenant in self.tenants):
            raise NamespaceWithoutTenant(namespace)
        return Tenant(namespace, frozenset({namespace}), self.default_quotas, Place(""))

    def select(self, namespace: str, labels: Mapping[str, str]) -> list[Policy]:
        """The policies of a namespace that select a pod with these labels, sorted by name."""
        return [
            policy
            for policy in self.policies
            if policy.namespace == namespace and policy.selector.matches(labels)
        ]
