# SPDX-License-Identifier: Apache-2.0
"""`/healthz` and `/metrics` of the agent.

Why: kubelet starts the agent again when its health fails, so health is only what that mends: a ring
that is read no more, or a scope that follows no more. An API server or NATS that is away is neither
(G8). Served where `--listen` says, by `main`.
"""

import contextlib
from collections.abc import AsyncIterator, Callable

from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST


def make_application(problem: Callable[[], str], registry: CollectorRegistry) -> web.Application:
    """The two pages.

    Args:
        problem: why the process should be started again; empty if it should not.
        registry: of the metrics.
    """

    async def healthz(_request: web.Request) -> web.Response:
        found = problem()
        return web.Response(text=f"{found or 'ok'}\n", status=503 if found else 200)

    async def metrics(_request: web.Request) -> web.Response:
        return web.Response(
            body=generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_LATEST}
        )

    application = web.Application()
    application.add_routes([web.get("/healthz", healthz), web.get("/metrics", metrics)])
    return application


@contextlib.asynccontextmanager
async def serve(application: web.Application, host: str, port: int) -> AsyncIterator[int]:
    """Serve the pages for as long as the context lasts.

    Args:
        application: the pages.
        host: address to listen on.
        port: to listen on; 0 for a free one.

    Yields:
        The port.

    Raises:
        OSError: it cannot be listened on.
    """
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port)
        await site.start()
        bound: int = runner.addresses[0][1]
        yield bound
    finally:
        await runner.cleanup()
