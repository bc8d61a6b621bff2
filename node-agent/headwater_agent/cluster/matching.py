# SPDX-License-Identifier: Apache-2.0
"""Which policies select a pod, and what that amounts to.

Why: it is the same question for a new pod, a pod whose labels changed and a policy edit, and the
answer must depend on nothing but the pod and the configuration. A tenant's policies never select a
pod of a namespace that is not its own: references are held against the pod's namespace first (G5).
Called by :mod:`.placing`. Pure.
"""

from dataclasses import dataclass

from headwater_prov.policy import PolicyReference

from headwater_agent.cluster.configuration import Configuration, Failure, FailureReason
from headwater_agent.cluster.pods import Pod
from headwater_agent.slots import Placement


@dataclass(frozen=True, slots=True)
class Match:
    """What the configuration says about one pod."""

    placement: Placement | None
    """None: no policy selects it, or all that do record nothing."""

    references: tuple[PolicyReference, ...] = ()
    """The selecting policies whose tenant gets the records."""

    failures: tuple[Failure, ...] = ()


def match(pod: Pod, configuration: Configuration) -> Match:
    """Return what `configuration` says about `pod`."""
    selecting = [
        (reference, policy)
        for reference, policy in configuration.of_namespace(pod.namespace)
        if policy.selector is not None and policy.selector.matches(pod.labels)
    ]
    if not selecting:
        return Match(None)
    # The namespace's own tenant goes before the platform.
    tenant = min((ref.namespace is None, ref.tenant) for ref, _ in selecting)[1]
    own = [(reference, policy) for reference, policy in selecting if reference.tenant == tenant]
    failures = tuple(
        Failure(
            reference.namespace or "",
            reference.name,
            reference.hash,
            FailureReason.TENANTS_OVERLAP,
            f"pods of namespace {pod.namespace} are captured for tenant {tenant}, and a pod's "
            "records go to one tenant",
        )
        for reference, _ in selecting
        if reference.tenant != tenant
    )
    placement = Placement(
        tenant=tenant,
        policies=tuple(sorted(policy_name(reference) for reference, _ in own)),
        compiled=configuration.combined(policy for _, policy in own),
    )
    return Match(placement, tuple(reference for reference, _ in own), failures)


def policy_name(reference: PolicyReference) -> str:
    """A policy's name as slots have it: "namespace/name", the platform's without a namespace."""
    return f"{reference.namespace or ''}/{reference.name}"
