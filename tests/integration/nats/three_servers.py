# SPDX-License-Identifier: Apache-2.0
"""One or three nats-servers that a test can treat as badly as it likes, without a control plane."""

import asyncio
import contextlib
import json
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Self

import nats.errors
import nats.js.errors
from headwater_agent.publish import ConnectionOptions, UserToken
from headwater_cli.embedded_nats import configuration
from headwater_cli.embedded_nats.embedded import find_server
from headwater_operator.accounts import (
    AccountsError,
    Credentials,
    KeyPair,
    OperatorKeys,
    Quotas,
    Role,
    agent_user,
    auditor_user,
    connected,
    delete_accounts,
    delete_stream,
    ensure_stream,
    push_account,
    system_user,
    unrestricted_user,
)
from headwater_operator.accounts.users import MANAGING

from tests.cluster.servers import Server, free_ports

STORAGE_BYTES = 512 * 1024**2
_PATIENCE_S = 30.0


class Servers:
    """Use it as an asynchronous context manager.

    Args:
        directory: for keys, configurations, stores and logs.
        count: 1, or 3 for a cluster in which each stream has three copies.
    """

    def __init__(self, directory: Path, count: int) -> None:
        directory.mkdir(mode=0o700)
        self.directory = directory
        self.keys = OperatorKeys.create_or_load(directory / "keys")
        self.count = count
        self._ports = free_ports(2 * count)
        self._spawner = ThreadPoolExecutor(1, "nats")
        self._servers = [Server(f"nats-{n}", directory, self._spawner) for n in range(count)]

    @property
    def urls(self) -> tuple[str, ...]:
        return tuple(f"nats://127.0.0.1:{port}" for port in self._ports[: self.count])

    async def __aenter__(self) -> Self:
        for number in range(self.count):
            self.start(number)
        return self

    async def __aexit__(self, *exception: object) -> None:
        for number in range(self.count):
            self.kill(number)
        self._spawner.shutdown()

    def start(self, number: int) -> None:
        """Start a server, on what its disk has."""
        path = self.directory / f"server-{number}.conf"
        path.write_text(self._configuration(number))
        self._servers[number].start(find_server(), "--config", path, append=True)

    def kill(self, number: int) -> None:
        """SIGKILL."""
        self._servers[number].stop()

    def wipe(self, number: int) -> None:
        """Its disk is lost; it is not running."""
        shutil.rmtree(self.directory / f"server-{number}")

    def words(self) -> str:
        return "\n".join(each.last_words() for each in self._servers)

    def _configuration(self, number: int) -> str:
        home = self.directory / f"server-{number}"
        (home / "accounts").mkdir(parents=True, exist_ok=True)
        text = configuration.render(
            keys=self.keys,
            directory=home,
            name=f"nats-{number}",
            port=self._ports[number],
            storage_bytes=STORAGE_BYTES,
        ).replace("allow_delete: false", "allow_delete: true")
        if self.count > 1:
            routes = json.dumps([f"nats://127.0.0.1:{p}" for p in self._ports[self.count :]])
            listen = f"127.0.0.1:{self._ports[self.count + number]}"
            text += f'cluster: {{ name: "c", listen: "{listen}", routes: {routes} }}\n'
        return text

    # -- a tenant --------------------------------------------------------------------------------

    async def ensure_tenant(self, name: str, quotas: Quotas) -> None:
        """Account and stream, as soon as the servers are ready for them."""
        # An account's storage counts every copy.
        reserved = replace(quotas, stream_bytes=quotas.stream_bytes * self.count)
        tenant = self.keys.ensure_tenant(name, reserved)
        accounts = {
            tenant.account.public: self.keys.tenant_account_token(tenant),
            self.keys.capture_account.public: self.keys.capture_account_token(),
        }
        until = time.monotonic() + _PATIENCE_S
        while True:
            try:
                system = system_user(self.keys, lifetime_s=60.0)
                async with connected(self.urls, system, attempts=20) as client:
                    for account, token in accounts.items():
                        await push_account(client, account=account, token=token, what=name)
                manager = unrestricted_user(tenant, "manager", lifetime_s=60.0)
                async with connected(self.urls, manager, attempts=20) as client:
                    await ensure_stream(client, quotas, replicas=self.count)
                return
            except (AccountsError, nats.errors.Error, OSError, TimeoutError):
                if time.monotonic() > until:
                    raise
            await asyncio.sleep(0.25)

    async def delete_tenant(self, name: str) -> None:
        """Stream, account and keys, as the operator does it when its time is up."""
        tenant = self.keys.tenant(name)
        manager = unrestricted_user(tenant, "manager", lifetime_s=60.0)
        async with connected(self.urls, manager, attempts=20) as client:
            await delete_stream(client)
        system = system_user(self.keys, lifetime_s=60.0, allowed=MANAGING)
        async with connected(self.urls, system, attempts=20) as client:
            await delete_accounts(
                client,
                accounts=[tenant.account.public],
                signer=self.keys.signing,
                issued_at=int(time.time()),
                what=name,
            )
        (self.directory / "keys" / "tenants" / f"{name}.json").unlink()

    async def leader(self, name: str) -> int:
        """Number of the server that leads a tenant's stream."""
        manager = unrestricted_user(self.keys.tenant(name), "manager", lifetime_s=60.0)
        until = time.monotonic() + _PATIENCE_S
        while time.monotonic() < until:
            with contextlib.suppress(
                nats.errors.Error, nats.js.errors.Error, AccountsError, OSError, TimeoutError
            ):
                async with connected(self.urls, manager, attempts=20) as client:
                    info = await client.jsm().stream_info("PROV")
                    if info.cluster is not None and info.cluster.leader:
                        return int(info.cluster.leader.rpartition("-")[2])
            await asyncio.sleep(0.1)
        raise AssertionError(f"the stream has no leader\n{self.words()}")

    def auditor(self, name: str) -> Credentials:
        return auditor_user(self.keys.tenant(name), "auditor", lifetime_s=300.0)

    def agent_options(self, node: str, lifetime_s: float = 3600.0) -> ConnectionOptions:
        """What an agent is given of the operator."""
        return agent_options(self.keys, self.urls, node, lifetime_s)


def agent_options(
    keys: OperatorKeys, urls: tuple[str, ...], node: str, lifetime_s: float = 3600.0
) -> ConnectionOptions:
    """What an agent is given of the operator, for these servers."""
    key = KeyPair.generate(Role.USER)

    async def fetch() -> UserToken:
        user = agent_user(keys, node, lifetime_s=lifetime_s, key=key)
        return UserToken(user.token, lifetime_s)

    prefix = agent_user(keys, node, lifetime_s=lifetime_s, key=key).inbox_prefix
    return ConnectionOptions(urls, prefix, fetch, key.sign_nonce)
