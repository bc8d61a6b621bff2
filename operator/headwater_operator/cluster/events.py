# SPDX-License-Identifier: Apache-2.0
"""Kubernetes Events, on transitions only.

Why: `kubectl describe` shows what happened to a policy, once each time that it happens; a status
that is written again says nothing new. Events are a courtesy: what cannot be sent is dropped, the
log says so, and nothing waits for it. Called by `reconciler` after a status was written.
"""

import asyncio
import logging
import os
import secrets
import socket
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from headwater_operator.cluster.api import ApiError
from headwater_operator.cluster.observed import Observed
from headwater_operator.cluster.provisioned import AccountReason, AuditorReason

log = logging.getLogger(__name__)

CONTROLLER: Final = "headwater.dev/operator"
WAITING_MAX: Final = 1_000
RATE_PER_S: Final = 20.0
NOTE_MAX: Final = 1_024
"""The API's own bound."""

_NOT_WORTH_TELLING: Final = {
    "Programming",
    "NotAccepted",
    "Suspended",
    AccountReason.PROVISIONING,
    AccountReason.NATS_NOT_CONFIGURED,
    AuditorReason.TENANT_NOT_READY,
}
"""Reasons that say no more than another condition does, or only that it is under way."""


@dataclass(frozen=True, slots=True)
class Transition:
    """One thing that happened to one object."""

    about: Observed
    is_warning: bool
    reason: str
    note: str


def transitions(about: Observed, after: Mapping[str, Any]) -> Iterator[Transition]:
    """What happened between an object's status and the next one.

    Args:
        about: the object with its status before.
        after: its status now.
    """
    before = {one.get("type"): one for one in about.status.get("conditions") or ()}
    for condition in after.get("conditions") or ():
        old = before.get(condition["type"], {})
        if (old.get("status"), old.get("reason")) == (condition["status"], condition["reason"]):
            continue
        if condition["reason"] in _NOT_WORTH_TELLING:
            continue
        holds = condition["status"] == "True"
        if holds and condition["type"] == "Accepted" and not old:
            continue  # a new policy in order: `Programmed` is what its owner waits for
        yield Transition(about, not holds, condition["reason"], condition["message"])


def as_event(transition: Transition) -> tuple[str, dict[str, Any]]:
    """An Event of `events.k8s.io/v1` and its namespace (`default` for objects of none)."""
    about = transition.about
    namespace = about.namespace or "default"
    regarding = {
        "apiVersion": about.kind.api_version,
        "kind": about.kind.name,
        "name": about.name,
        "uid": about.uid,
    }
    if about.namespace:
        regarding["namespace"] = about.namespace
    return namespace, {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"name": f"{about.name}.{secrets.token_hex(8)}", "namespace": namespace},
        "eventTime": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "reportingController": CONTROLLER,
        "reportingInstance": f"{socket.gethostname()}-{os.getpid()}"[:128],
        "action": "Reconcile",
        "reason": transition.reason[:128],
        "note": transition.note[:NOTE_MAX],
        "type": "Warning" if transition.is_warning else "Normal",
        "regarding": regarding,
    }


class Transitions:
    """Sends Events at a bounded rate, from a bounded queue.

    Args:
        emit: sends one.
    """

    def __init__(self, emit: Callable[[str, Mapping[str, Any]], Awaitable[None]]) -> None:
        self._emit = emit
        self._waiting: deque[Transition] = deque(maxlen=WAITING_MAX)
        self._ready = asyncio.Event()

    def note(self, about: Observed, after: Mapping[str, Any]) -> None:
        """Send what happened between an object's status and the next one, some time soon."""
        for transition in transitions(about, after):
            self._waiting.append(transition)
            self._ready.set()

    async def run(self) -> None:
        """Send until cancelled."""
        while True:
            await self._ready.wait()
            while self._waiting:
                namespace, body = as_event(self._waiting.popleft())
                try:
                    await self._emit(namespace, body)
                except ApiError as error:
                    log.info("an Event about %s was not sent: %s", body["regarding"]["name"], error)
                await asyncio.sleep(1 / RATE_PER_S)
            self._ready.clear()
