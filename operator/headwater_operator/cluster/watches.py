# SPDX-License-Identifier: Apache-2.0
"""kopf's watches, from which the model gets every change.

Why: kopf keeps watches alive (bookmarks, inactivity, relists), which is hard to get right, and is
given nothing else to do: no handler progress, no annotation and no finalizer on anybody's object,
so a kind can be deleted while the operator is down. Next: `observed`.
"""

import asyncio
import logging
import os
from pathlib import Path
from typing import Any

import kopf

from headwater_operator.cluster.connection import is_in_cluster
from headwater_operator.cluster.kinds import READ, Kind
from headwater_operator.cluster.observed import Cluster, observe

log = logging.getLogger(__name__)


def take(cluster: Cluster, kind: Kind, event: kopf.RawEvent) -> None:
    """Bring one event of a watch into the model."""
    body: Any = event["object"]
    try:
        one = observe(kind, body)
    except (KeyError, ValueError, TypeError) as error:
        log.warning("an event about a %s cannot be read and is left out: %r", kind.name, error)
        return
    if event["type"] == "DELETED":
        cluster.remove(kind, one.key, one.uid)
    else:
        cluster.put(one)


def make_registry(cluster: Cluster) -> kopf.OperatorRegistry:
    """What kopf watches and whom it tells."""
    registry = kopf.OperatorRegistry()
    for kind in READ:
        kopf.on.event(kind.group, kind.version, kind.plural, registry=registry, id=kind.plural)(
            _handler(cluster, kind)
        )
    kopf.on.login(registry=registry, id="login", errors=kopf.ErrorsMode.TEMPORARY, backoff=5)(
        _login
    )
    kopf.on.startup(registry=registry, id="settings")(_configure)
    return registry


def _handler(cluster: Cluster, kind: Kind) -> Any:
    async def seen(event: kopf.RawEvent, **_: Any) -> None:
        take(cluster, kind, event)

    return seen


def _login(**arguments: Any) -> Any:
    # Not by a client library: that would import one more of them, 20 MB.
    if is_in_cluster() and not os.environ.get("KUBECONFIG"):
        return kopf.login_with_service_account(**arguments)
    return kopf.login_with_kubeconfig(**arguments)


def _configure(settings: kopf.OperatorSettings, **_: Any) -> None:
    settings.posting.enabled = False  # Events are `events`' own, on transitions
    settings.scanning.disabled = True  # the kinds are installed before; no right to list them all
    settings.watching.server_timeout = 600
    settings.watching.connect_timeout = 10
    settings.watching.inactivity_timeout = 70
    settings.watching.chunk_size = 500
    settings.networking.request_timeout = 60
    settings.networking.enforce_retry_after = True
    # Keeps one task for each object that changes; of 5,000 nodes those that just did.
    settings.queueing.idle_timeout = 1.0
    settings.process.ultimate_exiting_timeout = 10


async def watch(cluster: Cluster, stop: asyncio.Event, kubeconfig: Path | None = None) -> None:
    """Watch every kind until `stop` is set, or SIGTERM or SIGINT comes.

    Args:
        cluster: the model.
        stop: ends the watches.
        kubeconfig: instead of the pod's service account.
    """
    if kubeconfig is not None:
        os.environ["KUBECONFIG"] = str(kubeconfig)
    # What kopf says of each event is nothing that a person wants to read.
    logging.getLogger("kopf.objects").setLevel(logging.WARNING)
    await kopf.operator(
        registry=make_registry(cluster), clusterwide=True, standalone=True, stop_flag=stop
    )
