# SPDX-License-Identifier: Apache-2.0
"""The faults of a soak, each with its end: what it leaves behind works again.

Called by `__main__`, one after the other; the agent's own deaths are there, because the next agent
is. Each takes the soak's only source of chance.
"""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from random import Random
from typing import Final

from headwater_cli.embedded_nats import EmbeddedNats
from headwater_operator.accounts import Quotas, unrestricted_user

from tests.integration.nats.freezing import freeze, thaw
from tests.integration.nats.proxy import Proxy

TENANT: Final = "shop"
STREAM_BYTES: Final = 16 * 1024**3
ROOM_BYTES: Final = 256 * 1024
"""What a stream that is to be full has left."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What can be broken."""

    nats: EmbeddedNats
    proxy: Proxy
    random: Random

    async def pause(self, least_s: float, most_s: float) -> None:
        await asyncio.sleep(self.random.uniform(least_s, most_s))


async def kill_server(around: Surroundings) -> None:
    """SIGKILL; its keeper starts it again."""
    os.kill(around.nats.server_pid, signal.SIGKILL)
    async with asyncio.timeout(120):
        while not around.nats.server_pid:  # the keeper's thread signals nobody
            await asyncio.sleep(0.05)


async def freeze_server(around: Surroundings) -> None:
    """SIGSTOP for some seconds."""
    process = around.nats.server_pid
    freeze(process)
    try:
        await around.pause(0.5, 8.0)
    finally:
        thaw(process)


async def cut_connection(around: Surroundings) -> None:
    """Reset it some times in a row."""
    for _ in range(around.random.randrange(1, 6)):
        around.proxy.cut()
        await around.pause(0.0, 0.5)


async def part(around: Surroundings) -> None:
    """No packet gets through, in one direction or both, and nobody is told."""
    around.proxy.silence(*around.random.choice([(), ("answers",), ("requests",)]))
    await around.pause(1.0, 15.0)
    around.proxy.heal()


async def fill_stream(around: Surroundings) -> None:
    """The stream takes no more than a little, and is enlarged after some seconds."""
    user = unrestricted_user(around.nats.keys.tenant(TENANT), "soak", lifetime_s=60.0)
    async with around.nats._connect(user) as client:
        used = (await client.jsm().stream_info("PROV")).state.bytes
    await around.nats.ensure_tenant(TENANT, Quotas(stream_bytes=used + ROOM_BYTES))
    try:
        await around.pause(2.0, 10.0)
    finally:
        await around.nats.ensure_tenant(TENANT, Quotas(stream_bytes=STREAM_BYTES))


FAULTS: Final[dict[str, Callable[[Surroundings], Awaitable[None]]]] = {
    "nats killed": kill_server,
    "nats stopped": freeze_server,
    "connection cut": cut_connection,
    "partition": part,
    "stream full": fill_stream,
}
