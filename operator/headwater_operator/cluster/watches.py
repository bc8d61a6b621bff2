# SPDX-License-Identifier: Apache-2.0
"""kopf's watches, from which the model gets every change.

Why: kopf keeps watches alive (bookmarks, inactivity, relists), which is hard to get right, and is
given nothing else to do: no handler progress, no annotation and no finalizer on anybody's object,
so a kind can be deleted while the operator is down. It has a thread and a loop of its own, because
at its end it cancels whatever else runs in its loop. Next: `observed`.
"""

import asyncio
import itertools
import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any, Final, cast

import kopf

from headwater_operator.cluster.connection import Address, is_in_cluster
from headwater_operator.cluster.kinds import READ, Kind
from headwater_operator.cluster.observed import Cluster, observe

log = logging.getLogger(__name__)

GATHER_S: Final = 0.02
"""How long events are gathered before the model is told."""


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


Tell = Callable[[Kind, kopf.RawEvent], None]


class Handover:
    """Brings events from kopf's thread to the model's, many at a time.

    Why: waking the other thread gives the interpreter away, and to get it back takes 5 ms while the
    other one computes. With a waking for each event, 5,000 nodes' reports would take half a minute.

    Args:
        cluster: the model.
        loop: in whose thread the model is.
    """

    def __init__(self, cluster: Cluster, loop: asyncio.AbstractEventLoop) -> None:
        self._cluster = cluster
        self._loop = loop
        self._waiting: list[tuple[Kind, kopf.RawEvent]] = []

    def tell(self, kind: Kind, event: kopf.RawEvent) -> None:
        """Hand over one event, soon; called in kopf's thread."""
        self._waiting.append((kind, event))
        if len(self._waiting) == 1:
            asyncio.get_running_loop().call_later(GATHER_S, self._flush)

    def _flush(self) -> None:
        events, self._waiting = self._waiting, []
        self._loop.call_soon_threadsafe(self._take, events)

    def _take(self, events: list[tuple[Kind, kopf.RawEvent]]) -> None:
        for kind, event in events:
            take(self._cluster, kind, event)


def make_registry(tell: Tell, address: Address) -> kopf.OperatorRegistry:
    """What kopf watches, whom it tells, and how it reaches the API server."""
    registry = kopf.OperatorRegistry()
    for kind in READ:
        kopf.on.event(kind.group, kind.version, kind.plural, registry=registry, id=kind.plural)(
            _handler(tell, kind)
        )

    def login(**arguments: Any) -> kopf.ConnectionInfo | None:
        if is_in_cluster():
            return kopf.login_with_service_account(**arguments)  # reads the token again
        return kopf.ConnectionInfo(
            server=address.server,
            ca_path=address.ca_file,
            certificate_path=address.certificate_file,
            private_key_path=address.key_file,
            scheme="Bearer" if address.token else None,
            token=address.token,
        )

    kopf.on.login(registry=registry, id="login", errors=kopf.ErrorsMode.TEMPORARY, backoff=5)(login)
    kopf.on.startup(registry=registry, id="settings")(_configure)
    return registry


def _handler(tell: Tell, kind: Kind) -> Any:
    async def seen(event: kopf.RawEvent, **_: Any) -> None:
        tell(kind, event)

    return seen


class Backoffs:
    """Seconds between one attempt and the next: the operator waits for an API server without end.

    By default kopf gives up after a minute, and waits for 21 s in the end.
    """

    def __iter__(self) -> Iterator[float]:
        yield from (0.5, 1.0, 2.0)
        yield from itertools.repeat(5.0)


def _configure(settings: kopf.OperatorSettings, **_: Any) -> None:
    settings.posting.enabled = False  # Events are `events`' own, on transitions
    settings.scanning.disabled = True  # the kinds are installed before; no right to list them all
    settings.watching.server_timeout = 600
    settings.watching.connect_timeout = 10
    settings.watching.inactivity_timeout = 70
    settings.watching.chunk_size = 500
    settings.networking.request_timeout = 60
    settings.networking.enforce_retry_after = True
    settings.networking.error_backoffs = Backoffs()
    # Keeps one task for each object that changes; of 5,000 nodes those that just did.
    settings.queueing.idle_timeout = 1.0
    settings.process.ultimate_exiting_timeout = 10


async def watch(cluster: Cluster, address: Address, stop: threading.Event) -> None:
    """Watch every kind until `stop` is set. To be awaited to its end, not cancelled.

    Args:
        cluster: the model.
        address: of the API server.
        stop: ends the watches.
    """
    # What kopf says of each event is nothing that a person wants to read; nor that it does not take
    # signals outside the main thread: `main` does.
    logging.getLogger("kopf").setLevel(logging.WARNING)
    logging.getLogger("kopf._core.reactor.running").setLevel(logging.ERROR)
    handover = Handover(cluster, asyncio.get_running_loop())

    def run() -> None:
        registry = make_registry(handover.tell, address)
        asyncio.run(
            kopf.operator(
                # Else kopf asks for the user's name, and a uid that a cluster gives a pod has none.
                identity=cast(Any, "headwater-operator"),
                registry=registry,
                clusterwide=True,
                standalone=True,
                stop_flag=stop,
            )
        )

    await asyncio.to_thread(run)
