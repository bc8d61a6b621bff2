# SPDX-License-Identifier: Apache-2.0
"""Standard conditions, and the smallest patch from one status to the next.

Why: `lastTransitionTime` must move when a condition's status does and at no other time, and a
status that says nothing new must not be written at all. Pure; used by `statuses`, read by `events`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

MESSAGE_MAX: Final = 1024
"""Longest message that is written; the schema allows more, people read less."""


@dataclass(frozen=True, slots=True)
class Condition:
    """One aspect of an object's state (`metav1.Condition`).

    Args:
        type: which aspect, CamelCase.
        holds: whether it holds; None: not known.
        reason: why, one CamelCase word.
        message: why, for people, with the remedy.
    """

    type: str
    holds: bool | None
    reason: str
    message: str

    @property
    def status(self) -> str:
        """As Kubernetes writes it."""
        return "Unknown" if self.holds is None else str(self.holds)


def written(
    conditions: Sequence[Condition], generation: int, before: Mapping[str, Any], now: str
) -> list[dict[str, Any]]:
    """Conditions as a status holds them.

    Args:
        conditions: what holds now.
        generation: of the spec that they judge.
        before: the status as it was.
        now: RFC 3339, for those whose status changed.
    """
    old = {one.get("type"): one for one in before.get("conditions") or ()}
    return [
        {
            "type": one.type,
            "status": one.status,
            "observedGeneration": generation,
            "lastTransitionTime": (
                old[one.type]["lastTransitionTime"]
                if one.type in old and old[one.type].get("status") == one.status
                else now
            ),
            "reason": one.reason,
            "message": one.message[:MESSAGE_MAX],
        }
        for one in conditions
    ]


def merge_patch(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """The smallest JSON merge patch (RFC 7386) from one object to another; empty for equal ones."""
    patch: dict[str, Any] = {key: None for key in before if key not in after}
    for key, value in after.items():
        old = before.get(key)
        if old == value:
            continue
        if isinstance(old, Mapping) and isinstance(value, Mapping):
            patch[key] = merge_patch(old, value)
        else:
            patch[key] = value
    return patch
