# SPDX-License-Identifier: Apache-2.0
"""Standard conditions (`metav1.Condition`), as the statuses of Headwater's kinds hold them.

Why: `lastTransitionTime` must move when a condition's status does and at no other time, whoever
writes it: the operator for policies and tenants, the agent for its node. Pure; times are text.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Condition:
    """One aspect of an object's state.

    Args:
        type: which aspect, CamelCase.
        is_true: whether it holds.
        reason: why, one CamelCase word.
        message: why, for people, with the remedy.
    """

    type: str
    is_true: bool
    reason: str
    message: str


def written_conditions(
    conditions: Iterable[Condition],
    *,
    generation: int,
    before: Mapping[str, Any],
    now: str,
) -> list[dict[str, Any]]:
    """Conditions as a status holds them.

    Args:
        conditions: what holds now.
        generation: of the spec that they judge.
        before: the status as it was; whatever else than conditions it has there counts for nothing.
        now: RFC 3339, for those whose status changed.
    """
    earlier = before.get("conditions")
    known = {
        each.get("type"): each
        for each in (earlier if isinstance(earlier, list) else [])
        if isinstance(each, Mapping)
    }
    found = []
    for condition in conditions:
        status = str(condition.is_true)
        old = known.get(condition.type, {})
        since = old.get("lastTransitionTime") if old.get("status") == status else None
        found.append(
            {
                "type": str(condition.type),
                "status": status,
                "observedGeneration": generation,
                "lastTransitionTime": since if isinstance(since, str) else now,
                "reason": condition.reason,
                "message": condition.message,
            }
        )
    return found
