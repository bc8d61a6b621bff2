# SPDX-License-Identifier: Apache-2.0
"""How `headwater run` and others talk to a running `headwater serve`: one JSON line each way.

Why: only the process that owns the maps can put a cgroup in scope, and a command must not start
before it is. The socket lies in the state directory, which only its owner can enter.
Requests: {"verb": "bind", "cgroup": id, "namespace": …, "name": …, "labels": {…}},
{"verb": "release", "cgroup": id}, {"verb": "statistics"}. Replies: {"ok": true, …} or
{"ok": false, "message": …, "remedy": …}. Promise: G1 for `run`.
"""

import asyncio
import contextlib
import json
import os
import socket
import stat
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from headwater_cli.errors import Failure

SOCKET_NAME = "control.sock"
REQUEST_BYTES_MAX = 64 * 1024

Handler = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]


class ControlServer:
    """Answers requests on the state directory's socket."""

    def __init__(self, state: Path, handlers: Mapping[str, Handler]) -> None:
        """Args: handlers: by verb; each takes the request and returns the reply's fields."""
        self._path = state / SOCKET_NAME
        self._handlers = handlers
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen. The caller holds the state directory's lock, so an old socket is a dead one.

        Raises:
            Failure: the path is too long for a Unix socket.
        """
        self._path.unlink(missing_ok=True)
        previous = os.umask(0o177)
        try:
            self._server = await asyncio.start_unix_server(
                self._answer, str(self._path), limit=REQUEST_BYTES_MAX
            )
        except OSError as error:
            raise Failure(
                f"cannot listen on {self._path}: {error.strerror or error}",
                "choose a state directory with a shorter path (--state)",
            ) from error
        finally:
            os.umask(previous)

    async def stop(self) -> None:
        """Stop listening and remove the socket."""
        if self._server is not None:
            self._server.close()
            self._path.unlink(missing_ok=True)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            reply = await self._reply(await reader.readline())
        except ValueError as error:  # longer than the limit, or not JSON
            reply = {"ok": False, "message": f"bad request: {error}"}
        writer.write(json.dumps(reply).encode() + b"\n")
        with contextlib.suppress(ConnectionError):  # the asker has gone; there is nobody to tell
            await writer.drain()
        writer.close()

    async def _reply(self, line: bytes) -> dict[str, Any]:
        request = json.loads(line)
        verb = request.get("verb") if isinstance(request, dict) else None
        handler = self._handlers.get(str(verb))
        if handler is None:
            known = ", ".join(sorted(self._handlers))
            return {"ok": False, "message": f'verb: "{verb}" is unknown; use one of {known}'}
        try:
            return {"ok": True, **await handler(request)}
        except Failure as failure:
            return {"ok": False, "message": failure.message, "remedy": failure.remedy}
        except (KeyError, TypeError, ValueError) as error:
            return {"ok": False, "message": f"{verb}: bad request: {error!r}"}


def request(state: Path, timeout_s: float = 10.0, **fields: Any) -> dict[str, Any]:
    """Ask the `headwater serve` that runs on `state`.

    Raises:
        Failure: none runs there, it does not answer, or it answers with a refusal.
    """
    path = state / SOCKET_NAME
    remedy = f'start one with "headwater serve --policies DIR --state {state}"'
    try:
        if not stat.S_ISSOCK(path.stat().st_mode):
            raise Failure(f"{path} is not a socket", remedy)
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(timeout_s)
            connection.connect(str(path))
            connection.sendall(json.dumps(fields).encode() + b"\n")
            with connection.makefile("rb") as stream:
                line = stream.readline()
    except OSError as error:
        raise Failure(f'no "headwater serve" answers on {state}: {error}', remedy) from error
    if not line:
        raise Failure(f'the "headwater serve" on {state} closed the connection', "see its output")
    reply: dict[str, Any] = json.loads(line)
    if not reply.get("ok"):
        raise Failure(str(reply.get("message", "refused")), str(reply.get("remedy", "")))
    return reply
