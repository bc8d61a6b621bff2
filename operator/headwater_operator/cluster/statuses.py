# SPDX-License-Identifier: Apache-2.0
"""What kubectl shows of policies, tenants and auditors.

Why: a tenant sees nothing of nodes and agents but this. Pure: from judgements and `reports` to the
whole status of each object; next, `reconciler` writes what is new in it. Nothing that a policy's
status says depends on what another tenant does (G5).
"""

from collections.abc import Mapping
from typing import Any, Final

from headwater_prov.conditions import Condition, written_conditions
from headwater_prov.policy import PLATFORM_TENANT
from headwater_prov.stream import STREAM_NAME, STREAM_SUBJECTS

from headwater_operator.cluster.judging import Judgement
from headwater_operator.cluster.observed import Observed
from headwater_operator.cluster.provisioned import (
    AccountReason,
    AccountState,
    AuditorReason,
    AuditorState,
)
from headwater_operator.cluster.reports import Counts
from headwater_operator.cluster.tenancy import Ownership

NAMESPACES_SHOWN: Final = 64
CONFLICTS_SHOWN: Final = 5
MESSAGE_MAX: Final = 1024
"""Longest message that is written; the schema allows more, people read less."""


def policy_status(
    judgement: Judgement,
    counts: Counts,
    lost: int,
    *,
    is_left_out: bool,
    before: Mapping[str, Any],
    now: str,
) -> dict[str, Any]:
    """The status of a policy of either kind.

    Args:
        judgement: what became of it.
        counts: it on all nodes.
        lost: records declared lost in its tenant's stream.
        is_left_out: its namespace's set has no room for it.
        before: the status as it is.
        now: RFC 3339.
    """
    policy = judgement.policy
    accepted = Condition("Accepted", judgement.is_accepted, judgement.reason, judgement.message)
    if is_left_out:
        accepted = Condition(
            "Accepted",
            False,
            "TooManyPolicies",
            "the set of policies that it belongs to is full, and older policies stay; delete "
            "policies, say with one what several say, or let a policy of the platform select fewer "
            "namespaces",
        )
    status: dict[str, Any] = {
        "observedGeneration": policy.generation,
        "nodes": {
            "desired": counts.desired,
            "programmed": counts.programmed,
            "failed": counts.failed,
            "unsupported": counts.unsupported,
        },
        "conditions": written_conditions(
            [accepted, _programmed(judgement, counts, accepted)],
            generation=policy.generation,
            before=before,
            now=now,
        ),
    }
    if judgement.tenant:
        status |= {
            "tenant": judgement.tenant,
            "stream": STREAM_NAME,
            "subject": STREAM_SUBJECTS,
            "lost": lost,
        }
    if judgement.compiled is not None:
        status["hash"] = judgement.compiled.hash
    if counts.failures:
        status["failingNodes"] = [
            {"node": one.node, "reason": one.reason, "message": one.message}
            for one in counts.failures
        ]
    return status


def _programmed(judgement: Judgement, counts: Counts, accepted: Condition) -> Condition:
    def so(holds: bool, reason: str, message: str) -> Condition:
        return Condition("Programmed", holds, reason, message[:MESSAGE_MAX])

    if not accepted.is_true or judgement.reference is None:
        reason = "Suspended" if judgement.reason == "Suspended" else "NotAccepted"
        return so(False, reason, "no node is told of it: see condition Accepted")
    if not counts.desired:
        return so(False, "NoNodes", "there is no node that it applies to")
    share = f"{counts.programmed} of {counts.desired} nodes"
    if counts.failed:
        first = counts.failures[0] if counts.failures else None
        why = f"; {first.node}: {first.message}" if first else ""
        return so(False, "NodesFailing", f"{share}, {counts.failed} failing{why}")
    if counts.unsupported == counts.desired:
        return so(
            False,
            "NoNodeSupported",
            "no node can capture; see kubectl get provenancenodes for the reason",
        )
    if counts.programmed + counts.unsupported < counts.desired:
        return so(False, "Programming", share)
    if counts.unsupported:
        return so(True, "Programmed", f"{share}; {counts.unsupported} cannot capture at all")
    return so(True, "Programmed", share)


def tenant_status(
    tenant: Observed, ownership: Ownership, account: AccountState, now: str
) -> dict[str, Any]:
    """The status of a tenant: what it owns, what it claims but an older one has, its account.

    Args:
        tenant: as observed.
        ownership: who owns which namespace.
        account: what has become of it in NATS.
        now: RFC 3339.
    """
    owned = ownership.owned.get(tenant.name, ())
    is_ready = account.reason is AccountReason.READY
    ready = Condition("AccountReady", is_ready, account.reason, account.message[:MESSAGE_MAX])
    made = {
        "account": account.account,
        "reservedBytes": account.reserved_bytes,
        "auditors": account.auditors,
    }
    return {
        **(made if account.account else {}),
        "observedGeneration": tenant.generation,
        "namespaceCount": len(owned),
        "namespaces": list(owned[:NAMESPACES_SHOWN]),
        "conditions": [
            *written_conditions(
                [_accepted(tenant, ownership)],
                generation=tenant.generation,
                before=tenant.status,
                now=now,
            ),
            # NATS is a moment behind: what is said is about the spec that was looked at there.
            *written_conditions(
                [ready],
                generation=_looked_at(account.generation, tenant),
                before=tenant.status,
                now=now,
            ),
        ],
    }


def auditor_status(auditor: Observed, state: AuditorState, now: str) -> dict[str, Any]:
    """The status of an auditor: its consumer and its Secret, or why it has none.

    Args:
        auditor: as observed.
        state: what has become of it in NATS.
        now: RFC 3339.
    """
    is_ready = state.reason is AuditorReason.READY
    ready = Condition("Ready", is_ready, state.reason, state.message[:MESSAGE_MAX])
    made = {"consumer": state.consumer, "secret": state.secret, "expires": state.expires}
    return {
        **(made if is_ready else {}),
        "observedGeneration": auditor.generation,
        "conditions": written_conditions(
            [ready],
            generation=_looked_at(state.generation, auditor),
            before=auditor.status,
            now=now,
        ),
    }


def _looked_at(generation: int | None, about: Observed) -> int:
    return about.generation if generation is None else generation


def _accepted(tenant: Observed, ownership: Ownership) -> Condition:
    if tenant.name == PLATFORM_TENANT:
        return Condition(
            "Accepted",
            False,
            "ReservedName",
            f'"{PLATFORM_TENANT}" is the platform\'s own account; give the tenant another name',
        )
    conflicts = ownership.conflicts.get(tenant.name, ())
    if not conflicts:
        return Condition("Accepted", True, "Accepted", "in order")
    listed = ", ".join(f"{name} ({owner})" for name, owner in conflicts[:CONFLICTS_SHOWN])
    more = (
        f" and {len(conflicts) - CONFLICTS_SHOWN} more" if len(conflicts) > CONFLICTS_SHOWN else ""
    )
    return Condition(
        "Accepted",
        False,
        "NamespaceConflict",
        f"older tenants own {listed}{more} and keep them; take them out of one of the two. "
        "The tenant's other namespaces are its own",
    )


def is_urgent(before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    """Whether a status says something new beside its counts: those may wait for a quiet moment."""

    def essence(status: Mapping[str, Any]) -> object:
        conditions = [
            (one.get("type"), one.get("status"), one.get("reason"), one.get("observedGeneration"))
            for one in status.get("conditions") or ()
        ]
        named = ("hash", "tenant", "namespaces", "account", "expires")
        return conditions, [status.get(name) for name in named]

    return essence(before) != essence(after)
