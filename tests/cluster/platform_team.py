# SPDX-License-Identifier: Apache-2.0
"""What a platform team has and does: an operator that leads, tenants, and a look into NATS.

Why: provisioning, auditors and agents are tested between the same three: a real API server, a real
operator process and a real nats-server. Called by their tests.
"""

import asyncio
import contextlib
import json
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from headwater_operator.accounts import (
    Connection,
    Credentials,
    TenantAccount,
    agent_user,
    claims,
    unrestricted_user,
)
from headwater_operator.provisioning.installation import Installation
from headwater_operator.provisioning.records import CaptureRecord, TenantRecord, decode_data
from headwater_prov.identifiers import node_token

from tests.cluster.control_plane import ControlPlane, wait_until
from tests.cluster.nats_server import NatsServers, client_of
from tests.cluster.objects import create_node
from tests.cluster.operator_process import LEASE, SYSTEM, TENANTS, OperatorProcess

SECRETS = f"/api/v1/namespaces/{SYSTEM}/secrets"
INTERVAL_S = 1.0
"""How often the operator holds NATS against what should be."""


class Platform:
    """What a platform team has and does: an operator, tenants, a look at NATS."""

    def __init__(
        self,
        control_plane: ControlPlane,
        servers: NatsServers,
        log: Path,
        arguments: tuple[str, ...] = (),
    ) -> None:
        self.api = control_plane.api
        self.servers = servers
        self.operator = OperatorProcess(
            control_plane,
            log,
            [
                *("--nats", ",".join(servers.urls)),
                *("--nats-check-interval", str(INTERVAL_S)),
                *("--platform-stream-bytes", "1Mi"),
                *arguments,
            ],
        )
        self.made: list[str] = []
        machine_id = secrets.token_hex(16)
        self.node = f"node-{machine_id[:8]}"
        self.token = node_token(bytes.fromhex(machine_id))
        create_node(self.api, self.node, machine_id=machine_id)

    def tenant(self, **spec: Any) -> str:
        name = f"team-{secrets.token_hex(4)}"
        self.apply(name, **spec)
        return name

    def apply(self, name: str, **spec: Any) -> None:
        body = {
            "apiVersion": "headwater.dev/v1alpha1",
            "kind": "ProvenanceTenant",
            "metadata": {"name": name},
            "spec": {"namespaces": [f"ns-{name}"], "keepAfterDeletion": "0s", **spec},
        }
        if name in self.made:
            self.api.patch(f"{TENANTS}/{name}", {"spec": body["spec"]})
        else:
            self.api.create(TENANTS, body)
            self.made.append(name)

    def delete(self, name: str) -> None:
        self.api.delete(f"{TENANTS}/{name}")
        if name in self.made:
            self.made.remove(name)

    def reason(self, name: str) -> str:
        """Of its condition AccountReady, if that is about the tenant as it is now."""
        body = self.api.get(f"{TENANTS}/{name}")
        found = body.get("status", {}).get("conditions", ())
        return "".join(
            str(one["reason"])
            for one in found
            if one["type"] == "AccountReady"
            and one["observedGeneration"] == body["metadata"]["generation"]
        )

    def wait(self, name: str, reason: str = "Ready", timeout_s: float = 30.0) -> None:
        try:
            wait_until(lambda: self.reason(name) == reason, what=reason, timeout_s=timeout_s)
        except TimeoutError as error:
            raise AssertionError(f"{error}; {self.api.get(f'{TENANTS}/{name}')}") from None

    def message(self, name: str) -> str:
        status = self.api.get(f"{TENANTS}/{name}")["status"]
        return next(
            str(one["message"]) for one in status["conditions"] if one["type"] == "AccountReady"
        )

    def secret(self, name: str) -> dict[str, bytes]:
        return decode_data(name, self.api.get(f"{SECRETS}/{name}"))

    def has_secret(self, name: str) -> bool:
        return self.api.exchange("GET", f"{SECRETS}/{name}").status == 200

    def record(self, tenant: str) -> TenantRecord:
        name = f"headwater-tenant-{tenant}"
        return TenantRecord.decode(tenant, name, self.secret(name))

    def account(self, tenant: str) -> TenantAccount:
        return self.record(tenant).account

    def capture(self) -> CaptureRecord:
        return CaptureRecord.decode("headwater-capture", self.secret("headwater-capture"))

    def installation(self) -> Installation:
        return Installation.parse("headwater-nats", self.secret("headwater-nats"))

    # -- in NATS ---------------------------------------------------------------------------------

    def root(self, tenant: str) -> Credentials:
        return unrestricted_user(self.account(tenant), "root", lifetime_s=60)

    async def stream(self, tenant: str) -> Any:
        async with client_of(self.servers, self.root(tenant)) as client:
            return await client.jsm().stream_info("PROV")

    async def publish(self, tenant: str, count: int = 1, size: int = 100) -> int:
        """What an agent does; returns how many are stored."""
        node = self.token
        user = agent_user(self.capture(), node, lifetime_s=60)
        stored = 0
        async with client_of(self.servers, user) as client:
            for _ in range(count):
                answer = await client.request(
                    f"t.{tenant}.prov.v1.{node}.graph", bytes(size), timeout=2
                )
                stored += "error" not in json.loads(answer.data)
        return stored

    def push(self, account: str, token: str) -> None:
        """What a thief of the system user does."""
        asyncio.run(self._push(account, token))

    async def _push(self, account: str, token: str) -> None:
        async with client_of(self.servers, self.system()) as client:
            answer = await client.request("$SYS.REQ.CLAIMS.UPDATE", token.encode(), timeout=5)
            assert json.loads(answer.data)["data"]["code"] == 200
            assert await self.lookup(client, account) == token

    async def lookup(self, client: Connection, account: str) -> str:
        subject = f"$SYS.REQ.ACCOUNT.{account}.CLAIMS.LOOKUP"
        return (await client.request(subject, b"", timeout=5)).data.decode()

    def stored(self, account: str) -> claims.Claims | None:
        async def ask() -> str:
            async with client_of(self.servers, self.system()) as client:
                return await self.lookup(client, account)

        return claims.read(asyncio.run(ask()))

    def system(self) -> Credentials:
        return self.installation().system_user()


@contextlib.contextmanager
def operating_platform(
    control_plane: ControlPlane,
    servers: NatsServers,
    log: Path,
    arguments: tuple[str, ...] = (),
) -> Iterator[Platform]:
    """A platform whose operator leads; in the end its tenants are gone, from NATS too."""
    platform = Platform(control_plane, servers, log, arguments)
    platform.api.delete(LEASE)
    platform.operator.start()
    try:
        platform.operator.wait_ready()
        yield platform
        for name in list(platform.made):
            platform.delete(name)
        wait_until(
            lambda: (
                not any(
                    one["metadata"]["name"].startswith("headwater-tenant-team-")
                    for one in platform.api.get(SECRETS)["items"]
                )
            ),
            what="tenants are gone",
            timeout_s=30.0,
        )
    finally:
        platform.operator.kill()
        for name in list(platform.made):
            platform.delete(name)
        platform.api.delete(f"/api/v1/nodes/{platform.node}")
