# SPDX-License-Identifier: Apache-2.0
"""What becomes of each policy: a reference that nodes are told, or the reason why not.

Why: admission has judged a policy by itself; what it means among tenants and namespaces is only
known here. Pure: from policies and `tenancy.Ownership`; next, `sets` for the nodes and `statuses`
for the policy's owner. A policy is compiled once for each generation.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson
from headwater_prov.policy import (
    NOTHING,
    PLATFORM_TENANT,
    ClusterPolicy,
    CompiledPolicy,
    Place,
    PodSelector,
    Policy,
    PolicyProblem,
    PolicyReference,
    compile_policy,
)
from headwater_prov.policy.building import build_cluster_policy, build_policy
from headwater_prov.policy.checking import check
from headwater_prov.policy.schema import resource_kinds
from headwater_prov.policy.yaml_source import decode, documents

from headwater_operator.cluster.kinds import CLUSTER_POLICIES
from headwater_operator.cluster.observed import Key, Observed
from headwater_operator.cluster.tenancy import Ownership

Built = Policy | ClusterPolicy | None
"""A policy as this version understands it; None where it does not."""

EVERY_NODE: Final = PodSelector()

NAMESPACES_MAX: Final = 4096
"""Most namespaces that a CompiledProvenancePolicy's schema lets one reference list."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """What becomes of one policy.

    Args:
        policy: as observed.
        tenant: whose stream it fills; empty where nobody's.
        reference: what nodes are told; None where nothing is.
        compiled: the compiled policy behind the reference.
        nodes: which nodes are told, by their labels.
        reason: one CamelCase word for the condition `Accepted`.
        message: a sentence for people, with the remedy.
    """

    policy: Observed
    tenant: str
    reference: PolicyReference | None
    compiled: CompiledPolicy | None
    nodes: PodSelector
    reason: str
    message: str

    @property
    def is_accepted(self) -> bool:
        """Whether the policy is in order, suspended or not."""
        return self.reason in ("Accepted", "Suspended")


class Judge:
    """Judges policies; remembers what it compiled, by uid and generation."""

    def __init__(self) -> None:
        self._memory: dict[str, tuple[object, Judgement]] = {}
        self._built: dict[str, tuple[int, Built]] = {}

    def judge(
        self,
        policies: Collection[Observed],
        ownership: Ownership,
        namespaces: Mapping[Key, Observed],
        suspended: Collection[str] = (),
    ) -> dict[str, Judgement]:
        """Judge all policies of both kinds.

        Args:
            policies: as observed.
            ownership: who owns which namespace.
            namespaces: for the selectors of the platform's policies.
            suspended: names of the tenants that are switched off.

        Returns:
            A judgement by each policy's uid.
        """
        judged: dict[str, tuple[object, Judgement]] = {}
        self._built = {
            policy.uid: self._build(policy) for policy in policies if not policy.is_leaving
        }
        for policy in policies:
            if policy.is_leaving:
                continue  # its end is its deletion; nothing of ours holds it up
            built = self._built[policy.uid][1]
            if policy.kind is CLUSTER_POLICIES:
                tenant, where = PLATFORM_TENANT, _where(built, namespaces)
            else:
                tenant, where = ownership.tenant_of.get(policy.namespace, ""), ()
            # A status changes the object, but nothing that is judged.
            is_off = tenant in suspended
            basis = (policy.generation, tenant, where, is_off)
            known = self._memory.get(policy.uid)
            if known is None or known[0] != basis:
                known = (basis, self._judge(policy, built, tenant, where, is_off))
            judged[policy.uid] = known
        self._memory = judged
        return {uid: judgement for uid, (_, judgement) in judged.items()}

    def _build(self, policy: Observed) -> tuple[int, Built]:
        known = self._built.get(policy.uid)
        if known is not None and known[0] == policy.generation:
            return known
        document = {
            "metadata": {"namespace": policy.namespace, "name": policy.name},
            "spec": policy.spec,
        }
        build = build_cluster_policy if policy.kind is CLUSTER_POLICIES else build_policy
        try:
            return (policy.generation, build(document, Place(policy.name)))
        except (LookupError, TypeError, ValueError):
            return (policy.generation, None)

    def _judge(
        self, policy: Observed, built: Built, tenant: str, where: tuple[str, ...], is_off: bool
    ) -> Judgement:
        def refused(reason: str, message: str) -> Judgement:
            return Judgement(policy, tenant, None, None, EVERY_NODE, reason, message)

        if not tenant:
            return refused(
                "NoTenant",
                f'no ProvenanceTenant owns namespace "{policy.namespace}", so there is no stream '
                "for its records; ask the platform team to list it in spec.namespaces of a tenant",
            )
        if built is None:
            return refused("Invalid", _why_invalid(policy))
        if is_off:
            return refused(
                "TenantSuspended",
                "the platform team has switched the tenant off: nothing is captured; ask it",
            )
        is_platforms = isinstance(built, ClusterPolicy)
        nodes = built.nodes if isinstance(built, ClusterPolicy) else EVERY_NODE
        compiled = compile_policy(built)
        if built.suspend:
            return refused("Suspended", "spec.suspend is true: nothing is captured")
        if compiled == NOTHING:
            return refused(
                "RecordsNothing",
                "its filters leave no relation, or its selector can match no pod; "
                "take something out of spec.filters, or suspend the policy",
            )
        if is_platforms and not where:
            return refused(
                "NoNamespace",
                "spec.namespaceSelector matches no namespace; change it, or label a namespace",
            )
        if len(where) > NAMESPACES_MAX:
            return refused(
                "TooManyNamespaces",
                f"spec.namespaceSelector matches {len(where)} namespaces, more than the "
                f"{NAMESPACES_MAX} of one policy; write several that select fewer each",
            )
        reference = PolicyReference(
            namespace=None if is_platforms else policy.namespace,
            namespaces=where,
            name=policy.name,
            tenant=tenant,
            hash=compiled.hash,
        )
        return Judgement(policy, tenant, reference, compiled, nodes, "Accepted", "in order")


def _where(built: Built, namespaces: Mapping[Key, Observed]) -> tuple[str, ...]:
    """The namespaces that a policy of the platform applies to."""
    if not isinstance(built, ClusterPolicy):
        return ()
    return tuple(
        sorted(one.name for one in namespaces.values() if built.namespaces.matches(one.labels))
    )


def _why_invalid(policy: Observed) -> str:
    """What is wrong with a policy that an API server with other definitions let in."""
    document: dict[str, Any] = {
        "apiVersion": policy.kind.api_version,
        "kind": policy.kind.name,
        "metadata": {"name": policy.name},
        "spec": policy.spec,
    }
    if policy.namespace:
        document["metadata"]["namespace"] = policy.namespace
    problems: list[PolicyProblem] = []
    for root in documents(decode(orjson.dumps(document), policy.name), policy.name):
        check(root, resource_kinds()[policy.kind.name].schema, problems)
    if problems:
        return "; ".join(f"{one.field}: {one.message}" for one in problems)[:1024]
    return (
        "was stored under definitions of another version and cannot be compiled by this one; "
        "bring crds/ and the operator to the same version and apply the policy again"
    )
