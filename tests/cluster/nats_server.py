# SPDX-License-Identifier: Apache-2.0
"""A NATS in operator mode as a platform team runs it: its own keys, its own disk, on loopback.

Why: what the operator does when NATS is lost, wiped, restarted or somebody else's is tested on a
real server that a test can treat so. One server or a cluster of three; in the clear or with TLS.
Called by tests of provisioning.
"""

import contextlib
import json
import shutil
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from headwater_cli.embedded_nats.embedded import find_server
from headwater_operator.accounts import Credentials
from headwater_operator.accounts.handover import Handover
from nats.aio.client import Client

from tests.cluster.certificates import Authority
from tests.cluster.servers import Server, free_ports, wait_until

MEBIBYTE = 1024**2


class NatsServers:
    """One or several servers; use it as a context manager.

    Args:
        directory: for keys, configurations, stores and logs.
        count: servers; more than one are a cluster.
        storage_bytes: what each may use for streams.
        authority: signs the servers' certificates; None for no TLS.
    """

    def __init__(
        self,
        directory: Path,
        *,
        count: int = 1,
        storage_bytes: int = 256 * MEBIBYTE,
        authority: Authority | None = None,
    ) -> None:
        directory.mkdir(exist_ok=True)
        self.directory = directory
        self.handover = Handover.create(directory / "keys")
        self.storage_bytes = storage_bytes
        self.extra = ""
        """Further lines of the configuration."""
        self._count = count
        self._has_tls = authority is not None
        if authority is not None:
            authority.issue("nats", "nats", addresses=("127.0.0.1", "localhost"))
            for file in ("nats.crt", "nats.key", "ca.crt"):
                shutil.copy(authority._directory / file, directory / file)
        self.ports = free_ports(2 * count)
        self._spawner = ThreadPoolExecutor(1, "nats")
        self._servers = [
            Server(f"nats-{number}", directory, self._spawner) for number in range(count)
        ]

    @property
    def urls(self) -> list[str]:
        scheme = "tls" if self._has_tls else "nats"
        return [f"{scheme}://127.0.0.1:{port}" for port in self.ports[: self._count]]

    def __enter__(self) -> "NatsServers":
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()
        self._spawner.shutdown()

    def start(self) -> None:
        for number in range(self._count):
            self.start_one(number)
        for number in range(self._count):
            port = self.ports[number]
            wait_until(lambda port=port: _listens(port), what="NATS listens")  # type: ignore[misc]

    def start_one(self, number: int) -> None:
        configuration = self.directory / f"server-{number}.conf"
        configuration.write_text(self._configuration(number))
        self._servers[number].start(find_server(), "--config", configuration, append=True)

    def stop(self) -> None:
        for number in range(self._count):
            self._servers[number].stop()

    def stop_one(self, number: int) -> None:
        self._servers[number].stop()

    def restart(self) -> None:
        self.stop()
        self.start()

    def wipe(self) -> None:
        """The disks of all servers are lost; they begin anew."""
        self.stop()
        for number in range(self._count):
            shutil.rmtree(self.directory / f"server-{number}")
        self.start()

    def log(self) -> str:
        return "".join(server.log.read_text() for server in self._servers)

    def _configuration(self, number: int) -> str:
        home = self.directory / f"server-{number}"
        home.mkdir(exist_ok=True)
        text = self.handover.server_configuration(str(home / "accounts"))
        text += f"""
server_name: "nats-{number}"
listen: "127.0.0.1:{self.ports[number]}"
jetstream: {{
  store_dir: {json.dumps(str(home / "store"))}
  max_file_store: {self.storage_bytes}
  max_memory_store: 1048576
}}
{self.extra}
"""
        if self._count > 1:
            routes = ", ".join(f'"nats://127.0.0.1:{port}"' for port in self.ports[self._count :])
            own = self.ports[self._count + number]
            text += f'cluster: {{ name: "c", listen: "127.0.0.1:{own}", routes: [{routes}] }}\n'
        if self._has_tls:
            text += f"""
tls: {{
  cert_file: {json.dumps(str(self.directory / "nats.crt"))}
  key_file: {json.dumps(str(self.directory / "nats.key"))}
}}
"""
        return text


def _listens(port: int) -> bool:
    import socket

    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1.0) as one:
        return one.recv(1) == b"I"
    return False


@contextlib.asynccontextmanager
async def client_of(
    servers: NatsServers, user: Credentials, **options: Any
) -> AsyncIterator[Client]:
    """A client that ends with what it meets first."""

    async def ignore(_error: Exception) -> None:
        pass

    client = Client()
    settings: dict[str, Any] = {
        "allow_reconnect": False,
        "max_reconnect_attempts": 1,
        "error_cb": ignore,
        **user.connection_options(),
        **options,
    }
    try:
        await client.connect(servers.urls, **settings)
        yield client
    finally:
        await client.close()


@contextlib.contextmanager
def timed(what: str) -> Iterator[None]:
    """Print how long something took; figures for the pages come from here."""
    began = time.monotonic()
    yield
    print(f"{what}: {time.monotonic() - began:.2f} s")
