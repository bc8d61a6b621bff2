# SPDX-License-Identifier: Apache-2.0
"""An API server whose faults are written down beforehand: what a real one does once a month."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from headwater_agent.cluster.api import ApiTimeouts, KubernetesApi
from headwater_agent.cluster.api_access import ApiAccess, TokenFile

HANG = object()
"""Step of a watch: say nothing more, and do not end."""

CUT = object()
"""Step of a watch: break the connection off."""

QUICK = ApiTimeouts(connect_s=2.0, request_s=1.0, inactivity_s=0.3, watch_s=60)


@dataclass
class Answer:
    """What a request gets instead of the usual."""

    status: int
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)


def event(kind: str, name: str, version: int, **extra: Any) -> dict[str, Any]:
    metadata = {"name": name, "uid": f"uid-{name}", "resourceVersion": str(version)}
    return {"type": kind, "object": {"metadata": metadata, **extra}}


def bookmark(version: int) -> dict[str, Any]:
    return {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": str(version)}}}


class FakeApi:
    """Answers lists, watches, reads and patches as it was told to."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.tokens: list[str] = []
        self.lists: deque[Answer | tuple[int, list[dict[str, Any]]]] = deque()
        self.watches: deque[Answer | list[Any]] = deque()
        self.objects: dict[str, dict[str, Any]] = {}
        self.kept: dict[str, list[dict[str, Any]]] = {}
        """By path, what a list always has; its watch then says what `say` is told."""
        self._streams: dict[str, asyncio.Queue[dict[str, Any]]] = {}
        self.answers: deque[Answer] = deque()
        """For the next requests, whatever they are."""
        self.patches: list[dict[str, Any]] = []
        self.ended = asyncio.Event()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.requests.append((request.method, request.path, dict(request.query)))
        self.tokens.append(request.headers.get("Authorization", ""))
        if self.answers:
            return self._refuse(self.answers.popleft())
        if request.method == "PATCH":
            self.patches.append(json.loads(await request.text()))
            return web.json_response({})
        if request.query.get("watch"):
            return await (
                self._stream(request) if request.path in self.kept else self._watch(request)
            )
        if request.path in self.kept:
            items = self.kept[request.path]
            return web.json_response({"items": items, "metadata": {"resourceVersion": "1"}})
        if "fieldSelector" in request.query:
            answer = self.lists.popleft() if len(self.lists) > 1 else self.lists[0]
            if isinstance(answer, Answer):
                return self._refuse(answer)
            version, items = answer
            return web.json_response(
                {"items": items, "metadata": {"resourceVersion": str(version)}}
            )
        found = self.objects.get(request.path)
        if found is None:
            return self._refuse(Answer(404, {"message": "not found"}))
        return web.json_response(found)

    @staticmethod
    def _refuse(answer: Answer) -> web.Response:
        return web.json_response(answer.body, status=answer.status, headers=answer.headers)

    async def _watch(self, request: web.Request) -> web.StreamResponse:
        steps = self.watches.popleft() if self.watches else [HANG]
        if isinstance(steps, Answer):
            return self._refuse(steps)
        response = web.StreamResponse()
        await response.prepare(request)
        for step in steps:
            if step is HANG:
                await self.ended.wait()
            elif step is CUT:
                assert request.transport is not None
                request.transport.close()
            elif isinstance(step, bytes):
                await response.write(step)
            else:
                await response.write(json.dumps(step).encode() + b"\n")
        return response

    def say(self, path: str, kind: str, content: dict[str, Any]) -> None:
        """Send an event to whoever watches."""
        self._streams.setdefault(path, asyncio.Queue()).put_nowait(
            {"type": kind, "object": content}
        )

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        events = self._streams.setdefault(request.path, asyncio.Queue())
        response = web.StreamResponse()
        await response.prepare(request)
        ended = asyncio.ensure_future(self.ended.wait())
        while not ended.done():
            following = asyncio.ensure_future(events.get())
            await asyncio.wait({ended, following}, return_when=asyncio.FIRST_COMPLETED)
            if following.done():
                await response.write(json.dumps(following.result()).encode() + b"\n")
            else:
                following.cancel()
        return response

    def of(self, method: str, watch: bool = False) -> list[dict[str, str]]:
        """The queries of the requests of a kind."""
        return [
            query
            for each, _, query in self.requests
            if each == method and bool(query.get("watch")) is watch
        ]


@asynccontextmanager
async def running(
    fake: FakeApi, timeouts: ApiTimeouts = QUICK, token: TokenFile | None = None
) -> AsyncIterator[KubernetesApi]:
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", fake.handle)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    access = ApiAccess(f"http://127.0.0.1:{port}", lambda: None, token)
    try:
        async with KubernetesApi(access, timeouts) as api:
            yield api
    finally:
        fake.ended.set()
        await runner.cleanup()
