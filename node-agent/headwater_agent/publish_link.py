# SPDX-License-Identifier: Apache-2.0
"""One connection to NATS, from its first answer to its end, and the promises sent over it.

Why: what was sent over a connection that broke may or may not be stored; so each message belongs to
the link it went out on, and when the link ends, every unanswered one is known to be unknown, at
once. The client library's own reconnecting is not used: it replays buffers of which we would not
know what became, and gives up for ever when a token expires. Links are made by
`publish.PublishWindow`, which replaces one by the next. Promise: G3.
"""

import asyncio
import contextlib
import logging
import ssl
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

import nats
import nats.errors
import orjson
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from headwater_agent.delivery import Answered, Fate

log = logging.getLogger(__name__)

_CONNECT_TIMEOUT_S = 2
_CLOSE_TIMEOUT_S = 1.0
_PING_INTERVAL_S = 5
"""With two pings unanswered a link is dead: ten seconds for a peer that vanished without a word."""

_UNDECIDED = (10158,)
"""Codes of errors that leave it open whether the message will be stored: "duplicate message id is
in process", while the servers of a cluster have not agreed on an earlier offer of it."""

_BUFFER_BYTES = 1 << 30
"""The library's send buffer: never the bound, or it would block and lose count; the window is."""


@dataclass(frozen=True, slots=True)
class UserToken:
    """What a user's identity is worth for a while."""

    text: str
    """The signed JWT."""

    lifetime_s: float
    """Seconds from now until the server cuts a connection that used it."""


@dataclass(frozen=True, slots=True)
class ConnectionOptions:
    """How to reach NATS as this node."""

    servers: tuple[str, ...]
    """URLs; any of them will do."""

    inbox_prefix: str
    """Where this node may receive answers: `_INBOX_<node token>`."""

    fetch_token: Callable[[], Awaitable[UserToken]]
    """Obtains a fresh token; called before each connection. What it raises is tried again."""

    sign_nonce: Callable[[str], bytes]
    """Proves that the token's user key is ours: the base64 signature of the server's challenge."""

    make_tls: Callable[[], ssl.SSLContext | None] = lambda: None
    """Whom to trust, read before each connection; None for the system's authorities, where a URL
    demands TLS."""


@dataclass(slots=True)
class Sent:
    """A message that the server has not answered yet."""

    answered: Answered
    """Called once, with what became of it."""

    due: float
    """Monotonic seconds; without an answer then, its fate is unknown."""


class Link:
    """A live connection and the messages in flight on it.

    Args:
        client: connected.
        inbox: answers come to `<inbox>.<number>`.
        token: what the connection lives on.
    """

    def __init__(self, client: Client, inbox: str, token: UserToken) -> None:
        self._client = client
        self._inbox = inbox
        self._number = 0
        self._in_flight: dict[int, Sent] = {}
        self.expires = time.monotonic() + token.lifetime_s
        self.lifetime_s = token.lifetime_s
        self.last_error = ""
        self.ended = asyncio.Event()
        self._quiet = asyncio.Event()
        self._listening: Subscription | None = None

    @classmethod
    async def open(cls, options: ConnectionOptions, *, name: str, number: int) -> "Link":
        """Connect and listen for answers.

        Args:
            options: where and as whom.
            name: shown in the server's monitoring.
            number: of the link, so that no answer is taken for another link's.

        Raises:
            nats.errors.Error, OSError, TimeoutError: it cannot be done now.
        """
        token = await options.fetch_token()
        client = Client()
        link = cls(client, f"{options.inbox_prefix}.{number}", token)

        async def closed() -> None:
            link.end("the connection ended")

        async def failed(error: Exception) -> None:
            link.last_error = str(error) or repr(error)
            log.debug("nats: %r", error)

        try:
            await client.connect(
                list(options.servers),
                name=name,
                allow_reconnect=False,
                max_reconnect_attempts=1,  # to each server, also before the first connection
                reconnect_time_wait=0,
                connect_timeout=_CONNECT_TIMEOUT_S,
                ping_interval=_PING_INTERVAL_S,
                pending_size=_BUFFER_BYTES,
                inbox_prefix=options.inbox_prefix,
                tls=options.make_tls(),
                user_jwt_cb=lambda: bytearray(token.text.encode("ascii")),
                signature_cb=options.sign_nonce,
                closed_cb=closed,
                error_cb=failed,
            )
            link._listening = await client.subscribe(
                f"{link._inbox}.*",
                cb=link._receive,
                pending_msgs_limit=-1,
                pending_bytes_limit=-1,
            )
            await client.flush(_CONNECT_TIMEOUT_S)
        except nats.errors.NoServersError as error:
            raise ConnectionError(link.last_error or str(error)) from error
        except BaseException:
            # A failed `connect` leaves its socket open. After a certificate that is not trusted the
            # client waits for the end of a TLS session that never began, and would for ever.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_CLOSE_TIMEOUT_S):
                    await client.close()
            raise
        return link

    async def wait_answered(self) -> None:
        """Wait until nothing is in flight."""
        while self._in_flight:
            self._quiet.clear()
            await self._quiet.wait()

    @property
    def max_payload(self) -> int:
        """Largest message that the server takes, headers included, bytes."""
        return self._client.max_payload

    async def send(
        self, subject: str, payload: bytes, headers: Mapping[str, str], sent: Sent
    ) -> None:
        """Send one message; `sent.answered` is called when its fate is known, maybe at once."""
        self._number += 1
        number = self._number
        self._in_flight[number] = sent
        try:
            await self._client.publish(
                subject, payload, reply=f"{self._inbox}.{number}", headers=dict(headers)
            )
        except nats.errors.MaxPayloadError:
            limit = self.max_payload
            self._settle(
                number, Fate.REFUSED, f"{len(payload)} bytes; the server takes at most {limit}"
            )
        except (nats.errors.Error, OSError) as error:
            self._settle(number, Fate.UNKNOWN, str(error) or repr(error))

    def expire(self, now: float) -> int:
        """Give up waiting for answers that are overdue; return for how many."""
        if self._client.is_closed:  # it has not said so if it still waits to write
            self.end("the connection ended")
        overdue = [number for number, sent in self._in_flight.items() if sent.due <= now]
        for number in overdue:
            words = "no answer in time"
            if self.last_error:
                words += f"; the server said: {self.last_error}"
            self._settle(number, Fate.UNKNOWN, words)
        return len(overdue)

    def end(self, reason: str) -> None:
        """Declare the fate of everything in flight unknown."""
        self.ended.set()
        for number in list(self._in_flight):
            self._settle(number, Fate.UNKNOWN, reason)

    async def close(self) -> None:
        """Close the connection, without waiting for a server that does not read."""
        self.end("the connection was closed")
        closing = asyncio.create_task(self._client.close())
        _, unfinished = await asyncio.wait({closing}, timeout=_CLOSE_TIMEOUT_S)
        # The library waits until everything is written; a stopped server never reads it.
        writer = getattr(self._client._transport, "_io_writer", None)
        if unfinished and writer is not None:
            writer.transport.abort()
        with contextlib.suppress(OSError):
            await closing
        self._sweep()

    def _sweep(self) -> None:
        """Take away what the library leaves when its own closing fails half-way."""
        reading: asyncio.Task[None] | None = getattr(self._client, "_reading_task", None)
        if reading is not None and reading.done() and not reading.cancelled():
            reading.exception()  # why the connection broke: known, and not to be reported again
        listening: asyncio.Task[None] | None = getattr(self._listening, "_wait_for_msgs_task", None)
        if listening is not None:
            listening.cancel()

    async def _receive(self, message: Msg) -> None:
        number = message.subject.rpartition(".")[2]
        if number.isascii() and number.isdigit():
            self._settle(int(number), *read_answer(message.data, message.headers or {}))

    def _settle(self, number: int, fate: Fate, words: str) -> None:
        sent = self._in_flight.pop(number, None)
        if sent is None:
            return  # answered too late: it has been called unknown, and will be offered again
        if not self._in_flight:
            self._quiet.set()
        sent.answered(fate, words)


def read_answer(data: bytes, headers: Mapping[str, str]) -> tuple[Fate, str]:
    """Read what came back for a message: its fate, and the server's words where it failed.

    The words of a stored message are "duplicate" if the stream had it before. The answer comes out
    of the tenant's account, so it is not trusted to be well-formed.
    """
    if headers.get("Status") == "503":
        return Fate.REFUSED, "the tenant has no stream, or no account on this server"
    try:
        answer = orjson.loads(data)
    except orjson.JSONDecodeError:
        return Fate.UNKNOWN, "an answer that is not JSON"
    if isinstance(answer, dict):
        error = answer.get("error")
        if isinstance(error, dict):
            if error.get("err_code") in _UNDECIDED:
                return Fate.UNKNOWN, f"{error.get('description')} (code {error.get('err_code')})"
            return Fate.REFUSED, f"{error.get('description')} (code {error.get('err_code')})"
        if isinstance(answer.get("stream"), str) and isinstance(answer.get("seq"), int):
            return Fate.STORED, "duplicate" if answer.get("duplicate") is True else ""
    return Fate.UNKNOWN, "an answer that is not an acknowledgement"
