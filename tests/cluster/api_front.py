# SPDX-License-Identifier: Apache-2.0
"""A front before the API server, that answers late or refuses: what a server in trouble does.

Why: a real API server cannot be told to be slow, or to refuse every second request. What it does
not refuse it passes on unchanged, watches as a stream, with the caller's token; to the caller it
speaks plain HTTP on 127.0.0.1. It runs in a thread of its own. Called by test_operator.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import ssl
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import aiohttp
from aiohttp import web

from tests.cluster.control_plane import ControlPlane

REASONS = {409: "Conflict", 429: "TooManyRequests", 500: "InternalError", 503: "ServiceUnavailable"}
WRITES = ("POST", "PUT", "PATCH", "DELETE")
NOT_PASSED_ON = {"connection", "transfer-encoding", "host", "keep-alive"}
_START_TIMEOUT_S = 10.0


class ApiFront:
    """See the module. Made by `fronting`; its attributes may be set from any thread."""

    def __init__(self, control_plane: ControlPlane) -> None:
        self.latency_s = 0.0
        """Before anything is done about a request, and before each new watch."""
        self.statuses: tuple[int, ...] = ()
        """What is refused is refused with one of these; 409 is for writes only."""
        self.refused_share = 0.0
        """Of all requests but the lease's: who leads is another test's question."""
        self.refused: Counter[int] = Counter()
        self.port = 0
        self._upstream = f"https://127.0.0.1:{control_plane.port}"
        authority = control_plane.admin_kubeconfig.parent / "ca.crt"
        self._tls = ssl.create_default_context(cafile=str(authority))
        self._random = random.Random(1)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._streams: set[asyncio.Transport] = set()
        self._stopped = asyncio.Event()

    def kubeconfig(self, token: str, path: Path) -> Path:
        """Write a file with which a client finds this front."""
        path.touch(mode=0o600)
        path.write_text(
            "apiVersion: v1\nkind: Config\n"
            f'clusters: [{{name: c, cluster: {{server: "http://127.0.0.1:{self.port}"}}}}]\n'
            f'users: [{{name: u, user: {{token: "{token}"}}}}]\n'
            "contexts: [{name: x, context: {cluster: c, user: u}}]\ncurrent-context: x\n",
            encoding="utf-8",
        )
        return path

    def break_watches(self) -> None:
        """End every stream without a word."""
        self._call(self._break_streams)

    # -- in the thread ---------------------------------------------------------------------------

    def run(self, started: threading.Event) -> None:
        """Serve until `stop`."""
        asyncio.run(self._serve(started))

    def stop(self) -> None:
        self._call(self._stopped.set)

    def _call(self, what: Callable[[], None]) -> None:
        assert self._loop is not None
        self._loop.call_soon_threadsafe(what)

    async def _serve(self, started: threading.Event) -> None:
        self._loop = asyncio.get_running_loop()
        connector = aiohttp.TCPConnector(ssl=self._tls, limit=0)
        timeout = aiohttp.ClientTimeout(total=None)
        async with aiohttp.ClientSession(
            connector=connector, timeout=timeout, auto_decompress=False
        ) as session:

            async def handle(request: web.Request) -> web.StreamResponse:
                return await self._handle(request, session)

            application = web.Application(client_max_size=4 << 20)
            application.router.add_route("*", "/{path:.*}", handle)
            runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
            await runner.setup()
            try:
                await web.TCPSite(runner, "127.0.0.1", 0).start()
                self.port = runner.addresses[0][1]
                started.set()
                await self._stopped.wait()
            finally:
                self._break_streams()
                await runner.cleanup()

    async def _handle(
        self, request: web.Request, session: aiohttp.ClientSession
    ) -> web.StreamResponse:
        await asyncio.sleep(self.latency_s)
        status = self._refusal(request)
        if status:
            self.refused[status] += 1
            answer = {"kind": "Status", "status": "Failure", "code": status}
            answer |= {"reason": REASONS[status], "message": "a played storm"}
            headers = {"Retry-After": "1"} if status == 429 else {}
            return web.json_response(answer, status=status, headers=headers)
        async with session.request(
            request.method,
            f"{self._upstream}{request.path_qs}",
            headers=_passed_on(request.headers),
            data=await request.read() or None,
        ) as upstream:
            response = web.StreamResponse(
                status=upstream.status, headers=_passed_on(upstream.headers)
            )
            await response.prepare(request)
            transport = request.transport
            assert transport is not None
            self._streams.add(transport)
            try:
                with contextlib.suppress(ConnectionResetError):  # the caller has gone
                    async for chunk in upstream.content.iter_any():
                        await response.write(chunk)
            finally:
                self._streams.discard(transport)
            return response

    def _refusal(self, request: web.Request) -> int:
        statuses = [one for one in self.statuses if one != 409 or request.method in WRITES]
        if not statuses or "/leases" in request.path:
            return 0
        return self._random.choice(statuses) if self._random.random() < self.refused_share else 0

    def _break_streams(self) -> None:
        for transport in self._streams:
            transport.abort()


def _passed_on(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name.lower() not in NOT_PASSED_ON}


@contextlib.contextmanager
def fronting(control_plane: ControlPlane) -> Iterator[ApiFront]:
    """A front that passes everything on, until it is told otherwise."""
    front = ApiFront(control_plane)
    started = threading.Event()
    thread = threading.Thread(target=front.run, args=(started,), name="front")
    thread.start()
    try:
        assert started.wait(_START_TIMEOUT_S), "the front does not start"
        yield front
    finally:
        front.stop()
        thread.join()
