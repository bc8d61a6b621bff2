# SPDX-License-Identifier: Apache-2.0
"""`POST /v1/agent-token`, over TLS.

Why: what comes in is a credential and what goes out is one; so there is no page in the clear beyond
loopback, and neither is ever in the log. The certificate's files are read again when they change,
as cert-manager changes them. Called by `headwater_operator.cluster.main`; decides nothing, see
`exchange`.
"""

import asyncio
import contextlib
import logging
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import orjson
from aiohttp import web

from headwater_operator.provisioning.exchange import Exchange, RefusedError, Request
from headwater_operator.provisioning.settings import ExchangeSettings

log = logging.getLogger(__name__)

PATH: Final = "/v1/agent-token"

_BODY_MAX: Final = 4096
_AT_ONCE: Final = 32
"""Reviews under way at a time: the API server's time is everybody's."""

_REREAD_S: Final = 10.0


def make_application(exchange: Exchange) -> web.Application:
    """The page."""
    at_once = asyncio.Semaphore(_AT_ONCE)

    async def give(request: web.Request) -> web.Response:
        scheme, _, bearer = request.headers.get("Authorization", "").partition(" ")
        try:
            content = await request.read()
            try:
                asked = Request.parse(orjson.loads(content))
            except orjson.JSONDecodeError:
                raise RefusedError(400, "the body is not JSON") from None
            async with at_once:
                answer = await exchange.exchange(
                    bearer.strip() if scheme.lower() == "bearer" else "", asked
                )
        except RefusedError as refused:
            log.info("an agent got no token: %s", refused.message)
            return _json(refused.status, {"message": refused.message})
        return _json(200, answer)

    application = web.Application(client_max_size=_BODY_MAX)
    application.add_routes([web.post(PATH, give)])
    return application


def _json(status: int, content: object) -> web.Response:
    return web.Response(
        status=status,
        body=orjson.dumps(content),
        headers={"Content-Type": "application/json", "Cache-Control": "no-store"},
    )


@contextlib.asynccontextmanager
async def serve_exchange(exchange: Exchange, settings: ExchangeSettings) -> AsyncIterator[int]:
    """Serve the page for as long as the context lasts.

    Args:
        exchange: decides.
        settings: where, and with which certificate.

    Yields:
        The port.

    Raises:
        OSError: it cannot be listened on, or the certificate cannot be read.
    """
    runner = web.AppRunner(make_application(exchange), access_log=None)
    await runner.setup()
    tls = None
    rereading: asyncio.Task[None] | None = None
    try:
        if settings.certificate is not None and settings.key is not None:
            tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            tls.minimum_version = ssl.TLSVersion.TLSv1_2
            tls.load_cert_chain(settings.certificate, settings.key)
            rereading = asyncio.create_task(
                _reread(tls, settings.certificate, settings.key), name="certificate"
            )
        site = web.TCPSite(runner, *settings.listen, ssl_context=tls)
        await site.start()
        port: int = runner.addresses[0][1]
        yield port
    finally:
        if rereading is not None:
            rereading.cancel()
            await asyncio.gather(rereading, return_exceptions=True)
        await runner.cleanup()


async def _reread(tls: ssl.SSLContext, certificate: Path, key: Path) -> None:
    """Take new files over; connections that come afterwards see them."""
    seen = _stamp(certificate)
    while True:
        await asyncio.sleep(_REREAD_S)
        if (now := _stamp(certificate)) != seen:
            try:
                tls.load_cert_chain(certificate, key)
                seen = now
                log.info("the exchange has a new certificate")
            except (OSError, ssl.SSLError) as error:
                # One of the two is being replaced, or is wrong: the old one is still good.
                log.warning("the exchange keeps its certificate: %s", error)


def _stamp(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
