# SPDX-License-Identifier: Apache-2.0
"""One connection with one pull consumer on it, from its making to its first trouble.

Why: after a restart of the server, a deleted consumer or an expired token there is no telling what
was on its way; so a session never mends itself. It ends, and `stream.TenantStream` makes the next
from the message after the last one seen: nothing is missed, nothing comes twice. Promise: G3.
"""

import asyncio
import contextlib
import datetime
import json
import logging
import secrets
import ssl
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import nats.errors
import nats.js.errors
from headwater_prov.stream import STREAM_NAME
from nats.aio.client import Client, RawCredentials
from nats.aio.msg import Msg
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

log = logging.getLogger(__name__)

Credentials = str | Path | Callable[[], str]
"""Path of a `.creds` file, or a function that returns the text of one; read at each connection."""

_CONNECT_TIMEOUT_S = 5
_ABANDON_S = 1.0
"""How long a client whose connection failed may take to close."""

_PING_INTERVAL_S = 10
_REQUEST_MESSAGES = 256
_REQUEST_BYTES = 16 * 1024 * 1024
"""Of one request: above the largest message, or that would never come."""

_REQUEST_ENDS = ("Batch Completed", "Message Size Exceeds MaxBytes")
"""Descriptions of status 409 that end a request and not the consumer: there may be more to ask."""

_STORED_REPLY = "$JS.ACK."
_REPLY_TOKENS = 9
_WAIT_S = 10.0
_HEARTBEAT_S = 3.0
_SILENCE_S = 8.0
_LEAVE_TIMEOUT_S = 1.0
"""For the courtesy of a deletion; the server forgets an idle consumer by itself."""

_ACK_WAIT_S = 300.0
"""For one document of a durable consumer; after that, without an end of the session, it comes
again."""

_IDLE_CONSUMER_S = 60.0

_Answer = TypeVar("_Answer")

TROUBLE = (nats.errors.Error, nats.js.errors.Error, OSError, TimeoutError)
"""What a session can end with; the caller begins another."""


class Place(NamedTuple):
    """Where a message of the stream stands, from the subject that it is to be acknowledged to."""

    stream: int
    """Its number in the stream."""

    consumer: int
    """Its number for the consumer."""

    time_ns: int
    """When it was stored, nanoseconds since 1970."""


def place_of(reply: str) -> Place:
    """Read what the client library would make several objects of, and round the time in.

    Args:
        reply: of a message of the stream: nine tokens, or, with a domain, twelve.
    """
    tokens = reply.split(".")
    at = 5 if len(tokens) == _REPLY_TOKENS else 7
    return Place(int(tokens[at]), int(tokens[at + 1]), int(tokens[at + 2]))


class SessionLostError(nats.errors.Error):
    """The session is over: the connection, the consumer or the server's sign of life is gone."""


@dataclass(frozen=True, slots=True)
class Start:
    """Where in the stream to begin."""

    sequence: int = 0
    """First stream sequence; 0: the stream's first message, or `time`."""

    time: datetime.datetime | None = None
    """Messages stored at this time (with a zone) or later."""


class Session:
    """A live consumer. Use `connect`, `begin`, `pull` until it raises, `close`."""

    def __init__(self, client: Client, durable: str | None) -> None:
        self.client = client
        self.durable = durable
        self._consumer = durable or f"hw-{secrets.token_hex(8)}"
        self._inbox = client.new_inbox()
        self._arrived: asyncio.Queue[Msg | None] = asyncio.Queue()
        self._ended = asyncio.Event()
        self._delivered = 0
        self._has_consumer = False
        self._request = 0
        self._unfinished: dict[str, None] = {}
        self._open = 0
        """Messages that the open request may still bring; 0: there is no open request."""

    @classmethod
    async def connect(
        cls,
        *,
        servers: Sequence[str],
        credentials: Credentials,
        name: str,
        durable: str | None,
        inbox_prefix: str = "_INBOX",
        authority: str = "",
    ) -> "Session":
        """Connect as one tenant's auditor.

        Raises:
            nats.errors.Error, OSError, TimeoutError: it cannot be done now.
        """
        text = _read(credentials)
        client = Client()
        session: list[Session] = []

        async def closed() -> None:
            for each in session:
                each._arrived.put_nowait(None)
                each._ended.set()

        complaints: list[str] = []

        async def failed(error: Exception) -> None:
            complaints.append(str(error) or repr(error))
            log.debug("nats: %r", error)

        try:
            await client.connect(
                list(servers),
                name=name,
                allow_reconnect=False,
                max_reconnect_attempts=1,  # to each server, also before the first connection
                reconnect_time_wait=0,
                connect_timeout=_CONNECT_TIMEOUT_S,
                ping_interval=_PING_INTERVAL_S,
                user_credentials=RawCredentials(text),
                inbox_prefix=inbox_prefix,
                tls=ssl.create_default_context(cadata=authority) if authority else None,
                closed_cb=closed,
                error_cb=failed,
            )
        except nats.errors.NoServersError as error:
            raise ConnectionError(complaints[-1] if complaints else str(error)) from error
        except BaseException:
            # A failed `connect` leaves its socket open. After a certificate that is not trusted the
            # client waits for the end of a TLS session that never began, and would for ever.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_ABANDON_S):
                    await client.close()
            raise
        session.append(cls(client, durable))
        return session[0]

    async def begin(self, start: Start, subjects: list[str]) -> None:
        """Make the consumer, or take up the durable one where it stands.

        Args:
            start: where a new consumer begins.
            subjects: what it gets; none: everything.

        Raises:
            nats.errors.Error, nats.js.errors.Error, OSError, TimeoutError: it cannot be done now.
        """
        await self.client.subscribe(
            f"{self._inbox}.*", cb=self._receive, pending_msgs_limit=-1, pending_bytes_limit=-1
        )
        config = ConsumerConfig(
            name=self._consumer,
            durable_name=self.durable,
            ack_policy=AckPolicy.EXPLICIT if self.durable else AckPolicy.NONE,
            ack_wait=_ACK_WAIT_S if self.durable else None,
            max_ack_pending=2 * _REQUEST_MESSAGES if self.durable else None,
            inactive_threshold=None if self.durable else _IDLE_CONSUMER_S,
        )
        if start.sequence:
            config.deliver_policy = DeliverPolicy.BY_START_SEQUENCE
            config.opt_start_seq = start.sequence
        elif start.time is not None:
            config.deliver_policy = DeliverPolicy.BY_START_TIME
            config.opt_start_time = start.time
        if len(subjects) == 1:
            config.filter_subject = subjects[0]
        elif subjects:
            config.filter_subjects = subjects
        manager = self.client.jsm()
        if self.durable:
            # Its place in the stream is the server's to remember; where to start is for the first.
            with contextlib.suppress(nats.js.errors.NotFoundError):
                await self._answer(manager.consumer_info(STREAM_NAME, self.durable))
                self._has_consumer = True
                return
        await self._answer(manager.add_consumer(STREAM_NAME, config))
        self._has_consumer = True

    async def last_sequence(self) -> int:
        """Return the stream sequence of the newest message."""
        info = await self._answer(self.client.jsm().stream_info(STREAM_NAME))
        return info.state.last_seq

    async def pull(self, *, wait: bool) -> list[Msg]:
        """Return the next messages, in the order of the stream.

        Args:
            wait: whether to wait some seconds for a message if there is none.

        Returns:
            At least one message, or none if there is none (yet).

        Raises:
            SessionLostError: the session is over.
        """
        messages: list[Msg] = []
        asked = False
        while True:
            if not self._open:
                if messages or asked:
                    return messages
                await self._ask(wait)
                asked = True
            self._take(await self._next(), messages)
            # What came is not held back until the request is full; the next call goes on with it.
            if messages and self._arrived.empty():
                return messages

    async def _ask(self, wait: bool) -> None:
        """Open a request; there is never more than one, and each has its own inbox."""
        request: dict[str, object] = {"batch": _REQUEST_MESSAGES, "max_bytes": _REQUEST_BYTES}
        if wait:
            request["expires"] = int(_WAIT_S * 1e9)
            request["idle_heartbeat"] = int(_HEARTBEAT_S * 1e9)
        else:
            request["no_wait"] = True
        self._open = _REQUEST_MESSAGES
        self._request += 1
        await self.client.publish(
            f"$JS.API.CONSUMER.MSG.NEXT.{STREAM_NAME}.{self._consumer}",
            json.dumps(request).encode(),
            reply=f"{self._inbox}.{self._request}",
        )

    def _take(self, message: Msg, messages: list[Msg]) -> None:
        """Sort one answer: a message of the stream, a sign of life, or the end of the request."""
        headers = message.headers or {}
        # What is stored has a subject to acknowledge it to; its headers may say anything.
        if message.reply.startswith(_STORED_REPLY):
            self._check_contiguous(message)
            self._open -= 1
            if self.durable:
                self._unfinished[message.reply] = None
            messages.append(message)
            return
        status = headers.get("Status")
        if status == "100" or message.subject != f"{self._inbox}.{self._request}":
            return  # a sign of life, or the end of a request that had brought all it could
        if status in ("404", "408") or headers.get("Description") in _REQUEST_ENDS:
            self._open = 0
        else:
            reason = headers.get("Description", "")
            raise SessionLostError(f"the consumer ended: {status} {reason}")

    async def finish(self, message: Msg) -> None:
        """Tell the server that the auditor is done with a message."""
        if self._unfinished.pop(message.reply, self) is None:
            await self.client.publish(message.reply, b"+ACK")

    async def close(self) -> None:
        """Close the connection; an ephemeral consumer is taken away with it."""
        with contextlib.suppress(*TROUBLE):
            if self._has_consumer and self.client.is_connected:
                await self._take_leave()
        await self.client.close()

    async def _take_leave(self) -> None:
        """Leave the server nothing to wait for: no consumer of ours, no unfinished message."""
        if not self.durable:
            manager = self.client.jsm(timeout=_LEAVE_TIMEOUT_S)
            await self._answer(manager.delete_consumer(STREAM_NAME, self._consumer))
            return
        while not self._arrived.empty():
            message = self._arrived.get_nowait()
            if message is not None and message.reply:
                self._unfinished[message.reply] = None
        for reply in self._unfinished:
            await self.client.publish(reply, b"-NAK")
        self._unfinished.clear()
        await self.client.flush()

    async def _receive(self, message: Msg) -> None:
        self._arrived.put_nowait(message)

    async def _answer(self, call: Coroutine[Any, Any, _Answer]) -> _Answer:
        """Await a request's answer for as long as the connection lasts.

        A connection ends with its token, also between a request and its answer; nats-py would then
        wait out the request's timeout of five seconds.

        Raises:
            SessionLostError: the connection ended first.
        """
        asking, ended = asyncio.create_task(call), asyncio.create_task(self._ended.wait())
        try:
            await asyncio.wait({asking, ended}, return_when=asyncio.FIRST_COMPLETED)
            if asking.done():
                return asking.result()
            raise SessionLostError("the connection ended")
        finally:
            for task in (asking, ended):
                task.cancel()
            await asyncio.gather(asking, ended, return_exceptions=True)

    async def _next(self) -> Msg:
        if not self._arrived.empty():  # a timer for each message would be a tenth of reading it
            message = self._arrived.get_nowait()
        else:
            try:
                message = await asyncio.wait_for(self._arrived.get(), _SILENCE_S)
            except TimeoutError:
                raise SessionLostError("the server gave no sign of life") from None
        if message is None:
            raise SessionLostError("the connection ended")
        return message

    def _check_contiguous(self, message: Msg) -> None:
        delivered = place_of(message.reply).consumer
        if self._delivered and not self.durable and delivered != self._delivered + 1:
            raise SessionLostError(f"message {self._delivered + 1} of the consumer did not arrive")
        self._delivered = delivered


def _read(credentials: Credentials) -> str:
    if callable(credentials):
        return credentials()
    return Path(credentials).read_text(encoding="ascii")
