# SPDX-License-Identifier: Apache-2.0
"""What a node says of itself: `ProvenanceNode.status`, as the contract has it and within 4 KB.

Why: 5,000 of these are in the API server's memory and in every list of the operator's, so each is
bounded, whatever goes wrong on the node. What does not fit is left out from where it is missed
least; a set with a failure that is not listed is not listed either, so that the operator never
counts a node as programmed that has not said so.
Called by :mod:`.reporter`. Pure: times come as arguments.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final

import orjson
from headwater_prov.conditions import Condition, written_conditions

from headwater_agent.attach_points import CaptureMode
from headwater_agent.cluster.configuration import Configuration, Failure
from headwater_agent.precision import unseen

STATUS_MAX_BYTES: Final = 4096
FAILURES_MAX: Final = 16
REASONS_MAX: Final = 16
TENANTS_MAX: Final = 32

_STEPS: Final = (
    (FAILURES_MAX, 256, TENANTS_MAX),
    (FAILURES_MAX, 80, TENANTS_MAX),
    (FAILURES_MAX, 80, 8),
    (8, 80, 8),
    (4, 80, 4),
    (1, 80, 1),
    (0, 40, 0),
)
"""Most failures, characters of a message and tenants, until it fits."""

_NAME_MAX: Final = 16
"""Characters of an LSM's name; the longest that there is has 10."""

_LSMS_MAX: Final = 16


class ConditionType(StrEnum):
    """What a node says yes or no to."""

    READY = "Ready"
    """It captures, and all else here is true."""

    PROGRAMMED = "Programmed"
    """All that the node was told is in force."""

    DELIVERING = "Delivering"
    """Records reach NATS."""

    PODS_KNOWN = "PodsKnown"
    """The API server has told of every pod that has cgroups on the node."""


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """What does not change while the agent runs."""

    capture_mode: CaptureMode
    kernel: str
    lsm: tuple[str, ...]
    machine_id: str
    boot_id: str
    agent_version: str
    started_at: datetime


@dataclass(frozen=True, slots=True)
class Losses:
    """Records that streams do not have, as far as they are counted."""

    by_reason: Mapping[str, int] = field(default_factory=dict)
    by_tenant: Mapping[str, int] = field(default_factory=dict)

    @property
    def total(self) -> int:
        """Of all tenants."""
        return sum(self.by_reason.values())


@dataclass(frozen=True, slots=True)
class NodeState:
    """What changes."""

    configuration: Configuration = field(default_factory=Configuration)
    failures: tuple[Failure, ...] = ()
    """Of the configuration and of placing it."""

    epoch: int = 0
    scoped_cgroups: int = 0
    losses: Losses = field(default_factory=Losses)
    conditions: tuple[Condition, ...] = ()


def build_status(
    facts: NodeFacts,
    state: NodeState,
    before: Mapping[str, Any],
    now: datetime,
) -> dict[str, Any]:
    """Return the whole status.

    Args:
        facts: what stays.
        state: what changes.
        before: the status that is there, for the times of conditions that stay.
        now: with a time zone.
    """
    status: dict[str, Any] = {}
    for failures_max, message_max, tenants_max in _STEPS:
        listed = state.failures[:failures_max]
        status = _status(
            facts,
            replace(state, failures=tuple(_shortened(each, message_max) for each in listed)),
            _sets(state.configuration, state.failures[failures_max:]),
            tenants_max,
            written_conditions(
                [
                    replace(each, message=_cut(each.message, message_max))
                    for each in state.conditions
                ],
                generation=state.configuration.generation,
                before=before,
                now=format_time(now),
            ),
            now,
        )
        if len(orjson.dumps(status)) <= STATUS_MAX_BYTES:
            return status
    return {**status, "policySets": []}


def is_same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two statuses differ in no more than counts and the time of the report."""
    counts = {"lastReported", "lost", "scopedCgroups"}
    return {k: v for k, v in one.items() if k not in counts} == {
        k: v for k, v in other.items() if k not in counts
    }


def has_same_counts(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two statuses have the same counts."""
    return all(one.get(key) == other.get(key) for key in ("lost", "scopedCgroups"))


def format_time(moment: datetime) -> str:
    """As metav1.Time has it: seconds, UTC."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _status(
    facts: NodeFacts,
    state: NodeState,
    sets: Sequence[str],
    tenants_max: int,
    conditions: list[dict[str, Any]],
    now: datetime,
) -> dict[str, Any]:
    return {
        "observedGeneration": state.configuration.generation,
        "captureMode": facts.capture_mode.value,
        "unseenRelations": sorted(relation.camflow for relation in unseen(facts.capture_mode)),
        "kernel": facts.kernel[:128],
        "lsm": [name[:_NAME_MAX] for name in facts.lsm[:_LSMS_MAX]],
        "machineId": facts.machine_id,
        "bootId": facts.boot_id,
        "agentVersion": facts.agent_version,
        "epoch": state.epoch,
        "policySets": list(sets),
        "scopedCgroups": state.scoped_cgroups,
        "lost": {
            "total": state.losses.total,
            "byReason": _largest("reason", state.losses.by_reason, REASONS_MAX),
            "byTenant": _largest("tenant", state.losses.by_tenant, tenants_max),
        },
        "failures": [_failure(each) for each in state.failures],
        "startedAt": format_time(facts.started_at),
        "lastReported": format_time(now),
        "conditions": conditions,
    }


def _sets(configuration: Configuration, unlisted: Iterable[Failure]) -> list[str]:
    """The sets in force, without those that have a failure which is not listed."""
    hashes = {failure.hash for failure in unlisted}
    return sorted(
        name
        for name, references in configuration.sets.items()
        if name not in hashes and not any(reference.hash in hashes for reference in references)
    )


def _largest(name: str, counts: Mapping[str, int], most: int) -> list[dict[str, Any]]:
    found = sorted(((count, key) for key, count in counts.items() if count), reverse=True)
    return [{name: key, "count": count} for count, key in found[:most]]


def _shortened(failure: Failure, most: int) -> Failure:
    return replace(failure, message=_cut(failure.message, most))


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 3]}..."


def _failure(failure: Failure) -> dict[str, Any]:
    found = {
        "namespace": failure.namespace,
        "name": failure.name,
        "hash": failure.hash,
        "reason": failure.reason.value,
        "message": failure.message,
    }
    return {key: value for key, value in found.items() if value}
