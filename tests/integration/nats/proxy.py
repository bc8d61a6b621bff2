# SPDX-License-Identifier: Apache-2.0
"""What stands between an agent and NATS, and can be cut or go silent, in one direction or both."""

import asyncio
import contextlib
from typing import Self


class Proxy:
    """Forwards TCP connections to a server on loopback. Use it as an asynchronous context manager.

    Args:
        port: the server's.
    """

    def __init__(self, port: int) -> None:
        self._target = port
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()
        self._running: set[asyncio.Task[None]] = set()
        self._passes = {"requests": asyncio.Event(), "answers": asyncio.Event()}
        self.heal()
        self.connections = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *exception: object) -> None:
        assert self._server is not None
        self._server.close()
        self.cut()
        for each in list(self._running):
            each.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        await self._server.wait_closed()

    @property
    def url(self) -> str:
        assert self._server is not None
        return f"nats://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def cut(self) -> None:
        """Reset every connection; new ones are taken."""
        for writer in list(self._open):
            writer.transport.abort()

    def silence(self, *directions: str) -> None:
        """From now on nothing gets through, and nobody is told: "requests", "answers", or both."""
        for direction in directions or self._passes:
            self._passes[direction].clear()

    def heal(self) -> None:
        """What was held back goes on its way, and everything after it."""
        for each in self._passes.values():
            each.set()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._open.add(writer)
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.transport.abort()
            self._open.discard(writer)
            return
        self._open.add(back)
        for source, target, direction in (
            (reader, back, "requests"),
            (there, writer, "answers"),
        ):
            task = asyncio.create_task(self._forward(source, target, direction))
            self._running.add(task)
            task.add_done_callback(self._running.discard)

    async def _forward(
        self, source: asyncio.StreamReader, target: asyncio.StreamWriter, direction: str
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(65536):
                await self._passes[direction].wait()
                target.write(data)
                await target.drain()
        target.transport.abort()
        self._open.discard(target)
