# SPDX-License-Identifier: Apache-2.0
"""Which auditors of a tenant are served, and with what.

Why: pure, so that every refusal can be tried without a server. A consumer's filter is what an
auditor may read, and its name is the user's name, by which the account pins what the user may do;
so a name belongs to one auditor of the tenant, the oldest. Called by `provisioner`; next, the
consumer (`accounts.consumers`) and the Secret (`auditor_secrets`). Promise: G5.
"""

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from headwater_prov.policy.quantities import parse_seconds
from headwater_prov.stream import SUBJECT_ROOT
from headwater_prov.vocabulary import RecordClass

from headwater_operator.cluster.observed import Observed
from headwater_operator.cluster.provisioned import AuditorReason, AuditorState
from headwater_operator.provisioning.records import AuditorRecord, TenantRecord, TimedKey

RENEW_AT: Final = 2 / 3
"""Part of its life after which a credential is replaced: a third is left for an operator that is
away, and for the minute that a mounted Secret takes to change."""

_NAMES_SHOWN: Final = 5

_CLASSES: Final = frozenset(
    {RecordClass.GRAPH, RecordClass.GAP, RecordClass.MACHINE, RecordClass.DISCLOSED}
)
"""Those that a filter can name, and names unless it says otherwise."""


@dataclass(frozen=True, slots=True)
class WantedAuditor:
    """An auditor that is to be served."""

    uid: str
    namespace: str
    name: str
    consumer: str
    secret: str
    subjects: tuple[str, ...]
    """What it may read; never empty."""

    life_s: int
    generation: int
    """Of the object that says so."""

    policies: tuple[str, ...] = ()
    """Of which its program is to show records, as "namespace/name"; none: of all."""

    remark: str = ""
    """What its owner should know, though it is served."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What becomes of a tenant's auditors."""

    served: tuple[WantedAuditor, ...]
    refused: Mapping[str, AuditorState]
    """By uid, those that are not served, with the reason."""


_KEPT: Final = (AuditorReason.NODES_UNKNOWN, AuditorReason.TENANT_SUSPENDED)
"""Refusals that may end by themselves: what such an auditor has, its place in the stream above all,
it keeps."""


def decide(
    auditors: Iterable[Observed],
    *,
    maximum: int,
    is_suspended: bool,
    node_tokens: Mapping[str, str],
) -> Decision:
    """Decide which auditors of one tenant are served.

    Args:
        auditors: all of the tenant, of all its namespaces.
        maximum: how many it may have.
        is_suspended: whether the tenant is switched off.
        node_tokens: by name of the node, what subjects call it.
    """
    if is_suspended:
        state = AuditorState(
            AuditorReason.TENANT_SUSPENDED, "the platform team has switched the tenant off; ask it"
        )
        return Decision((), {one.uid: state for one in auditors})
    served: dict[str, WantedAuditor] = {}
    refused: dict[str, AuditorState] = {}
    count = 0
    for auditor in sorted(auditors, key=lambda one: (one.created, one.uid)):
        consumer = consumer_name(auditor)
        count += 1
        if count > maximum:
            refused[auditor.uid] = AuditorState(
                AuditorReason.TOO_MANY_AUDITORS,
                f"the tenant may have {maximum} auditors, and older ones have these places; delete "
                "one, or ask the platform team for a larger quotas.auditors",
            )
        elif consumer in served:
            other = served[consumer]
            count -= 1
            refused[auditor.uid] = AuditorState(
                AuditorReason.CONSUMER_TAKEN,
                f'consumer "{consumer}" is that of the older ProvenanceAuditor '
                f"{other.namespace}/{other.name}; create one with another spec.durable",
            )
        else:
            outcome = _wanted(auditor, consumer, node_tokens)
            if isinstance(outcome, AuditorState):
                refused[auditor.uid] = outcome
            else:
                served[consumer] = outcome
    return Decision(tuple(served.values()), refused)


def ended(record: TenantRecord, decision: Decision) -> set[str]:
    """Uids of the auditors that had something and are to have it no more."""
    stay = {one.uid for one in decision.served}
    stay |= {uid for uid, state in decision.refused.items() if state.reason in _KEPT}
    return record.auditors.keys() - stay


def consumer_name(auditor: Observed) -> str:
    """Name of an auditor's consumer: no token of a subject may hold a dot."""
    return str(auditor.spec.get("durable") or auditor.name.replace(".", "_"))


def _wanted(
    auditor: Observed, consumer: str, node_tokens: Mapping[str, str]
) -> WantedAuditor | AuditorState:
    wish = auditor.spec.get("filter") or {}
    named = wish.get("nodes") or ()
    unknown = sorted(name for name in named if name not in node_tokens)
    nodes = ["*"] if not named else sorted(node_tokens[n] for n in named if n in node_tokens)
    listed = ", ".join(unknown[:_NAMES_SHOWN]) + (", ..." if len(unknown) > _NAMES_SHOWN else "")
    if not nodes:
        return AuditorState(
            AuditorReason.NODES_UNKNOWN,
            f"no node is there of those in spec.filter.nodes: {listed}; write names as "
            '"kubectl get nodes" does',
        )
    classes = set(wish.get("classes") or _CLASSES)
    # Whoever gets all that is recorded gets the checkpoints too, by which it can be verified.
    parts = [">"] if classes >= _CLASSES else sorted(classes)
    policies = tuple(sorted(f"{auditor.namespace}/{one}" for one in wish.get("policies") or ()))
    remarks = [f"; not there are the nodes {listed}"] if unknown else []
    if policies:
        remarks.append("; policies are told apart by the program, not by NATS")
    return WantedAuditor(
        uid=auditor.uid,
        namespace=auditor.namespace,
        name=auditor.name,
        consumer=consumer,
        secret=str(auditor.spec["secretName"]),
        subjects=tuple(f"{SUBJECT_ROOT}.{node}.{each}" for node in nodes for each in parts),
        life_s=parse_seconds(auditor.spec.get("credentialLife", "1h")),
        generation=auditor.generation,
        policies=policies,
        remark="".join(remarks),
    )


def is_due(wanted: WantedAuditor, record: AuditorRecord | None, signer: str, now: int) -> bool:
    """Whether an auditor is to get new credentials now.

    Args:
        wanted: the auditor.
        record: what it has.
        signer: public key of the tenant's scoped key.
        now: seconds since 1970.
    """
    if record is None or not record.users or record.signer != signer:
        return True
    newest = record.users[-1]
    life_s = newest.until - newest.at
    # Of a life that was made shorter the old one is too long.
    return now >= newest.at + min(life_s, wanted.life_s) * RENEW_AT


def given(record: TenantRecord, wanted: WantedAuditor, user: TimedKey, now: int) -> TenantRecord:
    """What is to be remembered after an auditor was given a user.

    Args:
        record: of the tenant.
        wanted: the auditor.
        user: its new user.
        now: seconds since 1970.
    """
    old = record.auditors.get(wanted.uid)
    users = tuple(one for one in old.users if one.until > now) if old is not None else ()
    new = AuditorRecord(
        namespace=wanted.namespace,
        name=wanted.name,
        consumer=wanted.consumer,
        secret=wanted.secret,
        users=(*users, user),
        signer=record.account.auditor.public,
    )
    return dataclasses.replace(record, auditors={**record.auditors, wanted.uid: new})


def without(record: TenantRecord, uids: Iterable[str], now: int) -> TenantRecord:
    """What is to be remembered after auditors have ended: none of their tokens is good any more.

    Their consumers go when the tenant's are held against what is wanted.
    """
    ended = set(uids)
    void = [
        TimedKey(user.public, user.until, at=now)
        for uid in sorted(ended)
        for user in record.auditors[uid].users
        if user.until > now
    ]
    if not ended:
        return record
    kept = {uid: one for uid, one in record.auditors.items() if uid not in ended}
    return dataclasses.replace(record, auditors=kept, revoked=(*record.revoked, *void))


def served_state(wanted: WantedAuditor, until: int) -> AuditorState:
    """What an auditor's status says when all is done.

    Args:
        wanted: the auditor.
        until: seconds since 1970 at which its credentials end.
    """
    return AuditorState(
        AuditorReason.READY,
        f"consumer and Secret are there{wanted.remark}",
        consumer=wanted.consumer,
        secret=wanted.secret,
        expires=datetime.fromtimestamp(until, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        generation=wanted.generation,
    )
