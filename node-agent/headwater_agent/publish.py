# SPDX-License-Identifier: Apache-2.0
"""Acknowledged publishing with a bound in bytes, over connections that come and go.

Why: the library's asynchronous publishing never resolves what the server refused or what was in
flight at a disconnect, and bounds its window in messages; with ours every message gets exactly one
answer (stored, refused, unknown), in bounded time and memory, and it is faster
(docs/decisions/0003-own-publish-window.md). `delivery.DeliveryQueue` hands batches to `put` and
decides what to do with the answers; next comes the tenant's stream. Promises: G3, G8.

A token is renewed by a second connection made before the first one's end: new messages go over the
new one, the old one is closed when its last answer is in.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Final

from headwater_prov.stream import subject
from headwater_prov.vocabulary import RecordClass

from headwater_agent.batch import Batch
from headwater_agent.delivery import Answered, Fate
from headwater_agent.latency import LatencyHistogram
from headwater_agent.publish_link import ConnectionOptions, Link, Sent, UserToken

__all__ = ["ConnectionOptions", "PublishStatistics", "PublishWindow", "UserToken"]

log = logging.getLogger(__name__)

RENEW_AT: Final = 2 / 3
"""Part of a token's life after which the next one is fetched: leaves a third for retries."""

_HEADER_BYTES = 1024
"""What a message costs beside its payload, generously."""

_RECONNECT_S = (0.05, 0.1, 0.25, 0.5, 1.0, 2.0)
_REAP_S = 0.25


@dataclass(slots=True)
class PublishStatistics:
    """Counts since the start; monotonic but `pending_*` and `connected`."""

    stored: int = 0
    """Messages acknowledged, duplicates included."""

    duplicates: int = 0
    """Of them, those the stream had already: sent again because the first answer was lost."""

    refused: int = 0
    """Messages that the server certainly did not store."""

    unknown: int = 0
    """Messages that may or may not be stored: no answer, or the connection broke."""

    pending_messages: int = 0
    """In flight now."""

    pending_bytes: int = 0
    """Bytes in flight now; at most the window's bound, or one message."""

    connections: int = 0
    """Connections made, the first one, renewals and repairs."""

    connected: bool = False
    """Whether messages can be sent now."""

    latency: LatencyHistogram = field(default_factory=LatencyHistogram)
    """From a message's sending to its being stored."""

    last_error: str = ""
    """Why the last connection failed or ended, or the last message was not stored."""


class PublishWindow:
    """Sends batches to tenants' streams and tells what became of each.

    All methods belong to one event loop.
    """

    def __init__(
        self,
        options: ConnectionOptions,
        *,
        node: str,
        max_bytes: int = 8 * 1024 * 1024,
        answer_timeout_s: float = 5.0,
    ) -> None:
        """Describe the window; `start` connects.

        Args:
            options: how to reach NATS as this node.
            node: the node token, the only one the server lets these options publish as.
            max_bytes: bound of what is sent and not answered.
            answer_timeout_s: after this long without an answer a message's fate is unknown.
        """
        self._options = options
        self._node = node
        self._max_bytes = max_bytes
        self._answer_timeout_s = answer_timeout_s
        self._link: Link | None = None
        self._retired: set[asyncio.Task[None]] = set()
        self._pending_by_tenant: dict[str, int] = {}
        self._links = 0
        self._room = asyncio.Event()
        self._usable = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._old: list[Link] = []
        self.statistics = PublishStatistics()

    async def start(self) -> None:
        """Begin to connect, and to connect again for ever; returns at once."""
        self._tasks = [
            asyncio.create_task(self._keep_connected(), name="nats-connection"),
            asyncio.create_task(self._reap(), name="nats-answers"),
        ]

    async def wait_connected(self, timeout_s: float) -> bool:
        """Wait until messages can be sent; tell whether they can."""
        try:
            await asyncio.wait_for(self._usable.wait(), timeout_s)
        except TimeoutError:
            return False
        return True

    async def put(self, batch: Batch, answered: Answered) -> None:
        """Send a batch once there is room in the window and a connection.

        Args:
            batch: what to send; its headers hold the message id.
            answered: called exactly once with its fate, from this event loop. A stored duplicate
                counts as stored.
        """
        size = len(batch.payload) + _HEADER_BYTES
        link = await self._reserve(batch.tenant, size)
        sent_s = time.monotonic()
        await link.send(
            f"t.{batch.tenant}.{subject(self._node, RecordClass(batch.klass))}",
            batch.payload,
            batch.headers,
            Sent(
                lambda fate, words: self._count(batch.tenant, size, sent_s, fate, words, answered),
                sent_s + self._answer_timeout_s,
            ),
        )

    async def drain(self, timeout_s: float) -> bool:
        """Wait until everything sent is answered; tell whether it is."""
        until = time.monotonic() + timeout_s
        while self.statistics.pending_messages:
            self._room.clear()
            try:
                await asyncio.wait_for(self._room.wait(), until - time.monotonic())
            except TimeoutError:
                return False
        return True

    async def stop(self) -> None:
        """Close the connections; what is still in flight is answered as unknown."""
        for task in self._tasks:
            task.cancel()
        for task in self._tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await task
        for link in self._old:
            link.end("the connection was closed")  # now its own task closes it
        if self._link is not None:
            self._in_background(self._link.close())
        self._set_link(None)
        await asyncio.gather(*self._retired)

    # -- the window ------------------------------------------------------------------------------

    async def _reserve(self, tenant: str, size: int) -> Link:
        """Wait for room and a link, take the room."""
        statistics, pending = self.statistics, self._pending_by_tenant
        while True:
            if self._link is None or self._link.ended.is_set():
                self._usable.clear()
                await self._usable.wait()
                continue
            # A tenant that is never answered must leave room: each may take one part of as many as
            # there are tenants in flight, and one more. One message is always let through, however
            # large: the server says what is too large.
            own = pending.get(tenant, 0)
            share = self._max_bytes // (len(pending) + 1)
            is_full = statistics.pending_bytes + size > self._max_bytes
            if (own and own + size > share) or (statistics.pending_bytes and is_full):
                self._room.clear()
                await self._room.wait()
                continue
            statistics.pending_messages += 1
            statistics.pending_bytes += size
            pending[tenant] = own + size
            return self._link

    def _count(
        self, tenant: str, size: int, sent_s: float, fate: Fate, words: str, answered: Answered
    ) -> None:
        statistics = self.statistics
        statistics.pending_messages -= 1
        statistics.pending_bytes -= size
        self._pending_by_tenant[tenant] -= size
        if not self._pending_by_tenant[tenant]:
            del self._pending_by_tenant[tenant]
        self._room.set()
        if fate is Fate.STORED:
            statistics.stored += 1
            statistics.duplicates += words == "duplicate"
            statistics.latency.add(time.monotonic() - sent_s)
        else:
            statistics.last_error = words
            if fate is Fate.REFUSED:
                statistics.refused += 1
            else:
                statistics.unknown += 1
        answered(fate, words)

    async def _reap(self) -> None:
        while True:
            await asyncio.sleep(_REAP_S)
            now = time.monotonic()
            for link in (*self._old, *([self._link] if self._link else [])):
                link.expire(now)

    # -- connections -----------------------------------------------------------------------------

    async def _keep_connected(self) -> None:
        failures = 0
        while True:
            self._links += 1
            try:
                link = await Link.open(
                    self._options,
                    name=f"headwater agent {self._node}",
                    number=self._links,
                )
            except Exception as error:
                # Whatever fetching a token or connecting can raise is tried again for ever: the
                # records wait, and the reason is in the statistics.
                self.statistics.last_error = f"cannot connect: {error!r}"
                log.debug("cannot connect to NATS", exc_info=True)
                await self._pause(_RECONNECT_S[min(failures, len(_RECONNECT_S) - 1)])
                failures += 1
                continue
            failures = 0
            self.statistics.connections += 1
            self._retire(self._link)
            self._set_link(link)
            await self._until_renewal(link)
            if link.ended.is_set():
                self.statistics.last_error = link.last_error or "the connection ended"
                self._in_background(link.close())
                await asyncio.sleep(_RECONNECT_S[0])

    async def _pause(self, seconds: float) -> None:
        """Wait before the next try, but notice when the link in use ends meanwhile."""
        await asyncio.sleep(seconds)
        if self._link is not None and self._link.ended.is_set():
            self._set_link(None)

    async def _until_renewal(self, link: Link) -> None:
        """Wait until the link has ended or its token is old."""
        try:
            await asyncio.wait_for(link.ended.wait(), link.lifetime_s * RENEW_AT)
        except TimeoutError:
            return
        self._set_link(None)

    def _set_link(self, link: Link | None) -> None:
        self._link = link
        self.statistics.connected = link is not None
        if link is None:
            self._usable.clear()
        else:
            self._usable.set()

    def _retire(self, link: Link | None) -> None:
        """Close a replaced link when its last answer is in."""
        if link is None or link.ended.is_set():
            return
        self._old.append(link)
        self._in_background(self._close_when_answered(link))

    def _in_background(self, closing: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(closing, name="nats-old-connection")
        self._retired.add(task)
        task.add_done_callback(self._retired.discard)

    async def _close_when_answered(self, link: Link) -> None:
        await link.wait_answered()
        self._old.remove(link)
        await link.close()
