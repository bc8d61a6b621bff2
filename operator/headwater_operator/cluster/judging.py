# SPDX-License-Identifier: Apache-2.0
"""What becomes of each policy: a reference that nodes are told, or the reason why not.

Why: admission has judged a policy by itself; what it means among tenants and namespaces is only
known here. Pure: from policies and `tenancy.Ownership`; next, `sets` for the nodes and `statuses`
for the policy's owner. A policy is compiled once for each generation.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson
from headwater_prov.policy import (
    NOTHING,
    PLATFORM_TENANT,
    CompiledPolicy,
    Place,
    PodSelector,
    PolicyProblem,
    PolicyReference,
    compile_policy,
)
from headwater_prov.policy.building import build_policy, build_selector
from headwater_prov.policy.checking import check
from headwater_prov.policy.schema import resource_kinds
from headwater_prov.policy.yaml_source import decode, documents

from headwater_operator.cluster.kinds import CLUSTER_POLICIES
from headwater_operator.cluster.observed import Key, Observed
from headwater_operator.cluster.tenancy import Ownership

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
        self.compilations = 0
        """How many policies were compiled so far."""

    def judge(
        self,
        policies: Iterable[Observed],
        ownership: Ownership,
        namespaces: Mapping[Key, Observed],
    ) -> dict[str, Judgement]:
        """Judge all policies of both kinds.

        Args:
            policies: as observed.
            ownership: who owns which namespace.
            namespaces: for the selectors of the platform's policies.

        Returns:
            A judgement by each policy's uid.
        """
        judged: dict[str, tuple[object, Judgement]] = {}
        for policy in policies:
            if policy.is_leaving:
                continue  # its end is its deletion; nothing of ours holds it up
            tenant, where = self._place(policy, ownership, namespaces)
            # A status changes the object, but nothing that is judged.
            basis = (policy.generation, tenant, where)
            known = self._memory.get(policy.uid)
            if known is None or known[0] != basis:
                known = (basis, self._judge(policy, tenant, where))
            judged[policy.uid] = known
        self._memory = judged
        return {uid: judgement for uid, (_, judgement) in judged.items()}

    def _place(
        self, policy: Observed, ownership: Ownership, namespaces: Mapping[Key, Observed]
    ) -> tuple[str, tuple[str, ...]]:
        """Whose stream a policy fills, and of the platform's the namespaces that it applies to."""
        if policy.kind is not CLUSTER_POLICIES:
            return ownership.tenant_of.get(policy.namespace, ""), ()
        selector = build_selector(policy.spec.get("namespaceSelector") or {})
        where = sorted(one.name for one in namespaces.values() if selector.matches(one.labels))
        return PLATFORM_TENANT, tuple(where)

    def _judge(self, policy: Observed, tenant: str, where: tuple[str, ...]) -> Judgement:
        def refused(reason: str, message: str) -> Judgement:
            return Judgement(policy, tenant, None, None, EVERY_NODE, reason, message)

        is_platforms = policy.kind is CLUSTER_POLICIES
        if not tenant:
            return refused(
                "NoTenant",
                f'no ProvenanceTenant owns namespace "{policy.namespace}", so there is no stream '
                "for its records; ask the platform team to list it in spec.namespaces of a tenant",
            )
        document = {
            "metadata": {"namespace": policy.namespace, "name": policy.name},
            "spec": policy.spec,
        }
        self.compilations += 1
        try:
            compiled = compile_policy(build_policy(document, Place(policy.name)))
            nodes = build_selector(policy.spec.get("nodeSelector") or {})
        except (LookupError, TypeError, ValueError):
            return refused("Invalid", _why_invalid(policy))
        if policy.spec.get("suspend"):
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
