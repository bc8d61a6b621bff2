# SPDX-License-Identifier: Apache-2.0
"""The few requests that an agent makes of an API server.

Why: 5,000 agents share one server, and each shares its loop with NATS; so the client is no more
than this: read one object, list and watch one selection, write one status. The only module here
that imports the HTTP library (docs/decisions/0010-the-agents-api-client.md). Called by
:mod:`.watching`, :mod:`.resolver` and :mod:`.reporter`, who see :mod:`.api_errors` and nothing of
the library.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, Self

import aiohttp
import orjson

from headwater_agent.cluster.api_access import ApiAccess
from headwater_agent.cluster.api_errors import ApiError, ApiUnreachableError, error_of

FIELD_MANAGER: Final = "headwater-agent"
"""Who wrote the status, in the object's managedFields."""

_MERGE_PATCH: Final = "application/merge-patch+json"

_ANSWER_MAX_BYTES: Final = 64 * 1024 * 1024
"""A node's 500 pods of 60 KB each are half of it."""

_EVENT_MAX_BYTES: Final = 8 * 1024 * 1024
"""etcd takes objects of 1.5 MB; what is longer is no event."""


@dataclass(frozen=True, slots=True)
class ApiTimeouts:
    """How long an API server may take."""

    connect_s: float = 10.0
    """To accept a connection, TLS included."""

    request_s: float = 30.0
    """To answer in full; also for a list, which comes from the server's memory."""

    inactivity_s: float = 90.0
    """Between two pieces of a watch. The server sends a bookmark every minute, so a watch that is
    silent for longer is dead, whatever TCP says."""

    watch_s: int = 540
    """How long a watch is asked to last: connections move to new servers within ten minutes."""


@dataclass(frozen=True, slots=True)
class WatchEvent:
    """One line of a watch."""

    kind: str
    """ADDED, MODIFIED, DELETED or BOOKMARK."""

    object: dict[str, Any]


class KubernetesApi:
    """A client of one API server. Use it as an asynchronous context manager."""

    def __init__(self, access: ApiAccess, timeouts: ApiTimeouts | None = None) -> None:
        """Describe the client; entering it reads the certificates."""
        self._access = access
        self.timeouts = timeouts or ApiTimeouts()
        self._session: aiohttp.ClientSession | None = None
        self._broken = False

    async def __aenter__(self) -> Self:
        self._session = self._open()
        return self

    async def __aexit__(self, *exception: object) -> None:
        if self._session is not None:
            await self._session.close()

    async def get(self, path: str) -> dict[str, Any]:
        """Return one object.

        Args:
            path: as `/api/v1/namespaces/shop`.

        Raises:
            ApiError: and its kinds.
        """
        return await self._whole("GET", path, {})

    async def list(
        self, path: str, *, field_selector: str, resource_version: str | None
    ) -> tuple[list[dict[str, Any]], str]:
        """Return the selected objects, and the resource version to watch from.

        Args:
            path: of the resource, as `/api/v1/pods`.
            field_selector: what the server selects by.
            resource_version: not older than this, "0" for whatever the server has in memory; None
                for the newest.

        Raises:
            ApiError: and its kinds.
        """
        query = {"fieldSelector": field_selector}
        if resource_version is not None:
            query["resourceVersion"] = resource_version
            query["resourceVersionMatch"] = "NotOlderThan"
        found = await self._whole("GET", path, query)
        items, metadata = found.get("items"), found.get("metadata")
        if not isinstance(metadata, Mapping) or not isinstance(items, list | None):
            raise ApiUnreachableError(f"{path}: the answer is no list")
        return items or [], str(metadata.get("resourceVersion", ""))

    async def watch(
        self, path: str, *, field_selector: str, resource_version: str, lasting_s: int
    ) -> AsyncIterator[WatchEvent]:
        """Yield changes after `resource_version` until the server ends the watch.

        Raises:
            ApiExpiredError: the version is too old.
            ApiError: and its other kinds; silence for longer than `inactivity_s` is one.
        """
        query = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "fieldSelector": field_selector,
            "resourceVersion": resource_version,
            "timeoutSeconds": str(lasting_s),
        }
        timeout = aiohttp.ClientTimeout(
            total=None, connect=self.timeouts.connect_s, sock_read=self.timeouts.inactivity_s
        )
        async with self._request("GET", path, query, timeout) as response:
            async for line in _lines(response.content):
                yield _event(line)

    async def patch_status(self, path: str, status: Mapping[str, Any]) -> dict[str, Any]:
        """Merge `status` into an object's and return the object.

        Args:
            path: of the object.

        Raises:
            ApiError: and its kinds.
        """
        return await self._whole(
            "PATCH",
            f"{path}/status",
            {"fieldManager": FIELD_MANAGER},
            orjson.dumps({"status": status}),
        )

    async def post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Ask by a body, and return the answer.

        Args:
            path: of the page.
            body: sent as JSON.

        Raises:
            ApiError: and its kinds.
        """
        return await self._whole("POST", path, {}, orjson.dumps(body))

    # -- one request -----------------------------------------------------------------------------

    def _open(self) -> aiohttp.ClientSession:
        tls = self._access.make_tls()
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=True if tls is None else tls, limit=8),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"User-Agent": FIELD_MANAGER, "Accept": "application/json"},
        )

    async def _whole(
        self, method: str, path: str, query: Mapping[str, str], body: bytes | None = None
    ) -> dict[str, Any]:
        timeout = aiohttp.ClientTimeout(
            total=self.timeouts.request_s, connect=self.timeouts.connect_s
        )
        async with self._request(method, path, query, timeout, body) as response:
            content = bytearray()
            async for piece in response.content.iter_any():
                content += piece
                if len(content) > _ANSWER_MAX_BYTES:
                    raise ApiUnreachableError(
                        f"{path}: the answer is longer than {_ANSWER_MAX_BYTES} bytes"
                    )
        return _object(content)

    @asynccontextmanager
    async def _request(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        limits: aiohttp.ClientTimeout,
        body: bytes | None = None,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Ask, and turn everything but a success into our own errors."""
        if self._session is None:
            raise RuntimeError("the client has not been entered")
        try:
            if self._broken:
                # The authority or our certificate may have been replaced: they are read again.
                before, self._session = self._session, self._open()
                self._broken = False
                await before.close()
            async with self._session.request(
                method,
                self._access.server + path,
                params=query,
                data=body,
                headers=self._headers(method, body),
                timeout=limits,
                allow_redirects=False,
            ) as response:
                if response.status not in (200, 201):
                    raise await self._refusal(response)
                yield response
        except aiohttp.ClientSSLError as error:
            self._broken = True
            raise ApiUnreachableError(f"{self._access.server}: {error}") from error
        except TimeoutError as error:
            raise ApiUnreachableError(f"{path}: no answer in time") from error
        except (aiohttp.ClientError, OSError) as error:
            raise ApiUnreachableError(f"{path}: {str(error) or repr(error)}") from error

    def _headers(self, method: str, body: bytes | None) -> dict[str, str]:
        headers = {}
        if self._access.token is not None:
            headers["Authorization"] = f"Bearer {self._access.token()}"
        if body is not None:
            headers["Content-Type"] = _MERGE_PATCH if method == "PATCH" else "application/json"
        return headers

    async def _refusal(self, response: aiohttp.ClientResponse) -> ApiError:
        if response.status == 401:
            self._access.expire_token()
        try:
            body = _object(await response.content.read(64 * 1024))
        except ApiUnreachableError:
            body = {}
        return error_of(response.status, body, _seconds(response.headers.get("Retry-After")))


def _seconds(header: str | None) -> float | None:
    """A Retry-After; API servers send seconds."""
    return float(header) if header is not None and header.isascii() and header.isdigit() else None


def _object(content: bytes | bytearray) -> dict[str, Any]:
    try:
        found = orjson.loads(content)
    except orjson.JSONDecodeError as error:
        raise ApiUnreachableError(f"the answer is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise ApiUnreachableError("the answer is no object")
    return found


def _event(line: bytes) -> WatchEvent:
    event = _object(line)
    kind, content = event.get("type"), event.get("object")
    if not isinstance(kind, str) or not isinstance(content, dict):
        raise ApiUnreachableError("a line of the watch is no event")
    if kind == "ERROR":
        code = content.get("code")
        raise error_of(code if isinstance(code, int) else 500, content)
    return WatchEvent(kind, content)


async def _lines(stream: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    """Whole lines; the library's own reading of lines ends at 64 KB, which a pod can exceed."""
    begun = bytearray()
    async for piece in stream.iter_any():
        *whole, rest = piece.split(b"\n")
        for line in whole:
            if begun:
                line = bytes(begun) + line
                begun.clear()
            if line.strip():
                yield line
            await asyncio.sleep(0)  # a burst of events leaves the loop to NATS in between
        begun += rest
        if len(begun) > _EVENT_MAX_BYTES:
            raise ApiUnreachableError(f"an event is longer than {_EVENT_MAX_BYTES} bytes")
