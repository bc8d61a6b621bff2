# SPDX-License-Identifier: Apache-2.0
"""The Kubernetes API over one HTTP connection: what a test says and what it is answered.

Why: a process of kubectl takes longer than the answer, and a client library hides what the server
says. One object is one identity. Called by tests and by `control_plane`.
"""

import http.client
import json
import ssl
import threading
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

JSON = "application/json"
YAML = "application/yaml"
MERGE_PATCH = "application/merge-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"


class ApiError(Exception):
    """The server refused."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(f"{status} {reason}: {message}")
        self.status = status
        """HTTP's status code."""
        self.reason = reason
        """The machine-readable word, for instance `Invalid`."""
        self.message = message
        """What a person would see."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the server said, refusals included."""

    status: int
    body: dict[str, Any]

    @property
    def is_refusal(self) -> bool:
        return self.status >= 400

    @property
    def error(self) -> ApiError:
        return ApiError(
            self.status, self.body.get("reason", "") or "", self.body.get("message", "") or ""
        )


class Api:
    """The API server as one identity sees it; usable from several threads, one at a time."""

    def __init__(
        self,
        port: int,
        authority: Path,
        *,
        certificate: tuple[Path, Path] | None = None,
        token: str = "",
        timeout_s: float = 30.0,
    ) -> None:
        """Describe the connection; it is made when it is first needed.

        Args:
            port: on 127.0.0.1.
            authority: certificate of the authority that signed the server's.
            certificate: the client's certificate and key.
            token: instead of a certificate, a service account's.
            timeout_s: bound of one exchange.
        """
        context = ssl.create_default_context(cafile=str(authority))
        context.verify_flags |= ssl.VERIFY_X509_STRICT  # the default from Python 3.13 on
        if certificate is not None:
            context.load_cert_chain(*certificate)
        self._headers = {"Accept": JSON}
        if token:
            self._headers["Authorization"] = f"Bearer {token}"
        self._connection = http.client.HTTPSConnection(
            "127.0.0.1", port, timeout=timeout_s, context=context
        )
        self._lock = threading.Lock()

    def close(self) -> None:
        """Give the connection back; the next exchange makes a new one."""
        with self._lock:
            self._connection.close()

    def exchange(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        query: Mapping[str, str] | None = None,
        content_type: str = JSON,
    ) -> Answer:
        """Ask and return the answer whatever it is.

        Args:
            method: HTTP's.
            path: from `/api` or `/apis` on.
            body: bytes and text are sent as they are, anything else as JSON.
            query: parameters.
            content_type: of the body.

        Raises:
            OSError: nobody answers.
        """
        content: bytes | None
        match body:
            case None:
                content = None
            case bytes():
                content = body
            case str():
                content = body.encode()
            case _:
                content = json.dumps(body).encode()
        target = f"{path}?{urllib.parse.urlencode(query)}" if query else path
        headers = dict(self._headers)
        if content is not None:
            headers["Content-Type"] = content_type
        with self._lock:
            is_used = self._connection.sock is not None
            try:
                return self._ask(method, target, content, headers)
            except (
                http.client.RemoteDisconnected,
                ConnectionResetError,
                BrokenPipeError,
                ssl.SSLEOFError,
            ):
                if not is_used:
                    raise
                # Idle meanwhile, or the server began a new life: once more on a new connection.
                return self._ask(method, target, content, headers)

    def _ask(
        self, method: str, target: str, content: bytes | None, headers: dict[str, str]
    ) -> Answer:
        try:
            self._connection.request(method, target, content, headers)
            response = self._connection.getresponse()
            said = response.read()
        except BaseException:
            self._connection.close()
            raise
        try:
            body = json.loads(said)
        except ValueError:
            body = {"message": said.decode(errors="replace")}
        return Answer(response.status, body if isinstance(body, dict) else {"items": body})

    def call(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        query: Mapping[str, str] | None = None,
        content_type: str = JSON,
    ) -> dict[str, Any]:
        """Ask and return the object that comes back.

        Raises:
            ApiError: the server refused.
            OSError: nobody answers.
        """
        answer = self.exchange(method, path, body, query=query, content_type=content_type)
        if answer.is_refusal:
            raise answer.error
        return answer.body

    def get(self, path: str, **query: str) -> dict[str, Any]:
        """An object, or a list."""
        return self.call("GET", path, query=query)

    def create(self, path: str, body: object, **query: str) -> dict[str, Any]:
        """Create in the collection at `path`."""
        return self.call("POST", path, body, query=query)

    def replace(self, path: str, body: object) -> dict[str, Any]:
        """Put an object, or a subresource, in the place of what is there."""
        return self.call("PUT", path, body)

    def patch(self, path: str, body: object) -> dict[str, Any]:
        """Merge into an object, or a subresource."""
        return self.call("PATCH", path, body, content_type=MERGE_PATCH)

    def delete(self, path: str, body: object = None) -> dict[str, Any]:
        """Delete; what is not there is deleted already."""
        answer = self.exchange("DELETE", path, body)
        if answer.is_refusal and answer.status != 404:
            raise answer.error
        return answer.body
