# SPDX-License-Identifier: Apache-2.0
"""A connection to a server for some requests, as whichever user they need.

Why: managing takes moments; a user that lives for a minute is worth little to a thief. Called by
the embedded NATS and by the operator's provisioning; next come `push`, `streams`, `consumers`.
"""

import asyncio
import contextlib
import logging
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import nats.errors
from nats.aio.client import Client

from headwater_operator.accounts.errors import ServerUnreachableError
from headwater_operator.accounts.users import Credentials

Connection = Client
"""What `connected` gives, and the rest of this package works with."""

log = logging.getLogger(__name__)

_CONNECT_TIMEOUT_S = 5
_CLOSE_TIMEOUT_S = 2.0


@asynccontextmanager
async def connected(
    servers: Sequence[str],
    user: Credentials,
    *,
    tls: ssl.SSLContext | None = None,
    attempts: int = 1,
    wait_s: float = 0.25,
) -> AsyncIterator[Client]:
    """Connect for as long as the context lasts.

    Args:
        servers: URLs; any of them will do.
        user: as whom.
        tls: whom to trust; None for the system's authorities, where a URL demands TLS.
        attempts: how often each server is tried.
        wait_s: seconds between two attempts at one server.

    Raises:
        ServerUnreachableError: none takes the connection; with what was said last.
    """
    said: list[str] = []

    async def complain(error: Exception) -> None:
        # What a pending call raises anyway, or a retry mends.
        said.append(str(error) or repr(error))
        log.debug("nats: %r", error)
        await asyncio.sleep(0)

    options: dict[str, Any] = {
        "name": f"headwater {user.name}",
        "max_reconnect_attempts": attempts,
        "reconnect_time_wait": wait_s,
        "connect_timeout": _CONNECT_TIMEOUT_S,
        "tls": tls,
        "error_cb": complain,
    }
    client = Client()
    # After a certificate that is not trusted the client waits, while it connects and while it
    # closes, for the end of a TLS session that never began, and would for ever.
    longest_s = len(servers) * (attempts + 1) * (_CONNECT_TIMEOUT_S + wait_s)
    try:
        async with asyncio.timeout(longest_s):
            await client.connect(list(servers), **options, **user.connection_options())
    except (nats.errors.Error, OSError, TimeoutError) as error:
        await _close(client)  # a failed `connect` leaves its socket open
        reason = said[-1] if said else repr(error)
        raise ServerUnreachableError(
            f"{', '.join(servers)}: no connection as {user.name}: {reason}",
            "check the address, that the server trusts this operator's key, and its log",
        ) from error
    try:
        yield client
    finally:
        await _close(client)


async def _close(client: Client) -> None:
    """Close a connection, without waiting for a peer that does not say goodbye."""
    closing = asyncio.create_task(client.close())
    _, unfinished = await asyncio.wait({closing}, timeout=_CLOSE_TIMEOUT_S)
    if unfinished:
        log.debug("a connection to NATS is cut, it does not close")
        writer = getattr(client._transport, "_io_writer", None)
        if writer is not None:
            writer.transport.abort()
        closing.cancel()
    with contextlib.suppress(nats.errors.Error, OSError):
        if unfinished:
            await asyncio.wait({closing}, timeout=_CLOSE_TIMEOUT_S)
        else:
            await closing
