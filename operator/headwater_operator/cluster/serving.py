# SPDX-License-Identifier: Apache-2.0
"""`/healthz`, `/readyz` and `/metrics`.

Why: kubelet starts the operator again when its health fails, so health is only what that mends: a
loop that no longer turns, a watch that went silent. An API server that is away is neither; the
operator waits for it. Ready says that the model is complete, also on one that does not lead.
"""

import contextlib
import time
from collections.abc import AsyncIterator
from typing import Final

from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from headwater_operator.cluster.listing import Listing
from headwater_operator.cluster.reconciler import Reconciler

STUCK_AFTER_S: Final = 120.0
"""A round comes every 15 s whether or not anything changes; without one for so long it is stuck."""


class Health:
    """What the probes are told.

    Args:
        reconciler: whose rounds are watched, while it leads.
        listing: which has found dead watches.
    """

    def __init__(self, reconciler: Reconciler, listing: Listing) -> None:
        self.leads = False
        self._reconciler = reconciler
        self._listing = listing

    def problem(self) -> str:
        """Why the process should be started again; empty if it should not."""
        if dead := self._listing.dead_watches:
            return f"silent watch of {', '.join(sorted(kind.plural for kind in dead))}"
        since = time.monotonic() - self._reconciler.last_round_s
        if self.leads and self._reconciler.cluster.is_complete and since > STUCK_AFTER_S:
            return f"no computation for {since:.0f} s"
        return ""


def make_application(
    health: Health, reconciler: Reconciler, registry: CollectorRegistry
) -> web.Application:
    """The three pages."""

    async def healthz(_request: web.Request) -> web.Response:
        problem = health.problem()
        return web.Response(text=f"{problem or 'ok'}\n", status=503 if problem else 200)

    async def readyz(_request: web.Request) -> web.Response:
        if reconciler.cluster.is_complete:
            return web.Response(text="ok\n")
        return web.Response(text="the kinds are not all listed yet\n", status=503)

    async def metrics(_request: web.Request) -> web.Response:
        return web.Response(
            body=generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_LATEST}
        )

    application = web.Application()
    application.add_routes(
        [
            web.get("/healthz", healthz),
            web.get("/readyz", readyz),
            web.get("/metrics", metrics),
        ]
    )
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
