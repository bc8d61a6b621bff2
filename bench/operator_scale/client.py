# SPDX-License-Identifier: Apache-2.0
"""The API over a few connections that stay open: thousands of objects, and watches, cheaply.

Why: setting up a thousand tenants one after the other would take longer than measuring them. It is
the administrator, whom the API server does not hold back. Called by `population` and `agents`.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any

import aiohttp
import orjson

from tests.cluster.api import JSON, MERGE_PATCH
from tests.cluster.control_plane import ControlPlane

CONNECTIONS = 16
"""Requests under way at once; a watch has a connection of its own."""


class RefusedError(Exception):
    """The API server did not do what the benchmark needs."""


class Client:
    """See the module. Made by `connected`."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session
        self._turn = asyncio.Semaphore(CONNECTIONS)

    async def ask(
        self, method: str, path: str, body: object = None, content_type: str = JSON
    ) -> bytes:
        """What the API server answers.

        Raises:
            RefusedError: it refused.
        """
        data = None if body is None else orjson.dumps(body)
        headers = {"Content-Type": content_type}
        async with (
            self._turn,
            self._session.request(method, path, data=data, headers=headers) as response,
        ):
            answer = await response.read()
            if response.status >= 300:
                raise RefusedError(f"{method} {path}: {response.status} {answer[:300]!r}")
            return answer

    async def get(self, path: str) -> dict[str, Any]:
        """An object, or a list."""
        body: dict[str, Any] = orjson.loads(await self.ask("GET", path))
        return body

    async def patch(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Merge into an object, or a subresource."""
        new: dict[str, Any] = orjson.loads(await self.ask("PATCH", path, body, MERGE_PATCH))
        return new

    async def create_all(self, path: str, bodies: Iterable[Mapping[str, Any]]) -> None:
        """Make objects, many at once, each at `path` with its own namespace put in."""
        left = iter(bodies)

        async def work() -> None:
            for body in left:
                namespace = body["metadata"].get("namespace", "")
                await self.ask("POST", path.format(namespace=namespace), body)

        async with asyncio.TaskGroup() as tasks:
            for _ in range(CONNECTIONS):
                tasks.create_task(work())

    async def watch(self, path: str) -> AsyncIterator[tuple[float, dict[str, Any]]]:
        """Every object of a collection and each change of one, with the time at which it came.

        Begins with all that is there, as changes of type ADDED, and does so again when the API
        server ends the watch, as it does with a reader that is too slow.
        """
        query = "watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan"
        target = f"{path}?{query}&allowWatchBookmarks=true&timeoutSeconds=3600"
        while True:
            async with self._session.get(target, timeout=aiohttp.ClientTimeout()) as response:
                if response.status == 429:  # of a kind that is new
                    await asyncio.sleep(0.5)
                    continue
                if response.status >= 300:
                    raise RefusedError(f"watch {path}: {response.status} {await response.text()}")
                rest = b""
                async for chunk in response.content.iter_any():
                    came_s = time.time()
                    *lines, rest = (rest + chunk).split(b"\n")
                    for line in lines:
                        event = orjson.loads(line)
                        if event["type"] == "ERROR":
                            break  # its caches are behind, or have gone on too far
                        yield came_s, event


@contextlib.asynccontextmanager
async def connected(control_plane: ControlPlane) -> AsyncIterator[Client]:
    """A client of a control plane, as its administrator."""
    files = control_plane.admin_kubeconfig.parent  # a kubeconfig names them beside itself
    context = ssl.create_default_context(cafile=str(files / "ca.crt"))
    context.load_cert_chain(files / "admin.crt", files / "admin.key")
    async with aiohttp.ClientSession(
        f"https://127.0.0.1:{control_plane.port}",
        connector=aiohttp.TCPConnector(ssl=context, limit=CONNECTIONS + 8),
        timeout=aiohttp.ClientTimeout(total=60),
    ) as session:
        yield Client(session)
