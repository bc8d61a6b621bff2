# SPDX-License-Identifier: Apache-2.0
"""The Secrets in which everything is kept that must not be lost, in the operator's namespace.

Why: an operator that is started anywhere finds all keys here; and what somebody deletes while one
runs is written again from its memory. What is damaged is never replaced: new keys would be another
account. A wish for new signing keys is an annotation on the Secret that holds them.
Called by `provisioner`; the contents are those of `records`. Promise: G5.
"""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from headwater_operator.accounts import KeyStateError
from headwater_operator.cluster.api import ApiError
from headwater_operator.cluster.kinds import Kind
from headwater_operator.provisioning.installation import Installation
from headwater_operator.provisioning.records import (
    CaptureRecord,
    TenantRecord,
    decode_data,
    encode_data,
)

log = logging.getLogger(__name__)

SECRETS: Final = Kind("", "v1", "secrets", "Secret", True)

KEYS_LABEL: Final = "headwater.dev/keys"
"""What a Secret of ours holds: `capture`, `tenant` or `objects`."""

ROTATE_ANNOTATION: Final = "headwater.dev/rotate"
"""On a Secret of signing keys: any other text than last time asks for new ones."""

CAPTURE_SECRET: Final = "headwater-capture"
OBJECT_KEYS_SECRET: Final = "headwater-tenant-keys"
"""One entry for each tenant; agents' pods mount it."""

_REREAD_S: Final = 10.0
"""A key that was replaced is used after this long; agents' tokens by the old one are still good."""

MANAGED_BY: Final = {"app.kubernetes.io/managed-by": "headwater"}


class SecretApi(Protocol):
    """What the vault needs of an API. Every method raises `ApiError`."""

    async def get(self, kind: Kind, namespace: str, name: str) -> dict[str, Any]:
        """Read an object."""

    async def list_labelled(
        self, kind: Kind, namespace: str, label: str
    ) -> Sequence[dict[str, Any]]:
        """All objects of a kind in a namespace that have a label."""

    async def create(self, kind: Kind, body: Mapping[str, Any]) -> dict[str, Any]:
        """Make an object."""

    async def patch(
        self, kind: Kind, namespace: str, name: str, body: Mapping[str, Any], subresource: str = ""
    ) -> dict[str, Any]:
        """Change an object; refused with 409 if it is not as `metadata.resourceVersion` says."""

    async def delete(self, kind: Kind, namespace: str, name: str, uid: str) -> None:
        """Delete an object, if it is still the one with this uid."""


@dataclass(frozen=True, slots=True)
class _Held:
    """A Secret as it was last seen."""

    uid: str
    version: str
    data: Mapping[str, bytes] = field(repr=False)


def tenant_secret(tenant: str) -> str:
    """Name of the Secret of a tenant."""
    return f"headwater-tenant-{tenant}"


class AgentKeys:
    """What it takes to give tokens to agents, read by operators that do not lead, too.

    Args:
        api: where the Secrets are.
        namespace: of them.
        installation: name of the Secret that the platform team has written.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        api: SecretApi,
        namespace: str,
        installation: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._api = api
        self._namespace = namespace
        self._installation = installation
        self._clock = clock
        self._read: tuple[CaptureRecord, Installation] | None = None
        self._read_at = 0.0

    async def read(self) -> tuple[CaptureRecord, Installation]:
        """The capture account's keys and the operator's, at most `_REREAD_S` old.

        Raises:
            KeyStateError: they are not there yet, or not in order.
            ApiError: they cannot be read.
        """
        if self._read is None or self._clock() - self._read_at >= _REREAD_S:
            try:
                capture = await self._api.get(SECRETS, self._namespace, CAPTURE_SECRET)
            except ApiError as error:
                if not error.is_absent:
                    raise
                raise KeyStateError(
                    f"Secret {CAPTURE_SECRET}: is not there", "wait until an operator has made it"
                ) from error
            self._read = (
                CaptureRecord.decode(CAPTURE_SECRET, decode_data(CAPTURE_SECRET, capture)),
                await read_installation(self._api, self._namespace, self._installation),
            )
            self._read_at = self._clock()
        return self._read


async def read_installation(api: SecretApi, namespace: str, name: str) -> Installation:
    """What the platform team has handed over.

    Args:
        api: where it is.
        namespace: of the Secret.
        name: of the Secret.

    Raises:
        KeyStateError: it is not there, or not in order.
        ApiError: it cannot be read.
    """
    try:
        body = await api.get(SECRETS, namespace, name)
    except ApiError as error:
        if not error.is_absent:
            raise
        raise KeyStateError(
            f"Secret {namespace}/{name}: is not there",
            "write an operator's signing key and a system user into it, or apply the one that "
            '"headwater nats init" makes',
        ) from error
    return Installation.parse(name, decode_data(name, body))


class Vault:
    """The Secrets, and what is in them. `load` first.

    Args:
        api: where they are.
        namespace: of all of them.
        installation: name of the Secret that the platform team has written.
    """

    def __init__(self, api: SecretApi, namespace: str, installation: str) -> None:
        self.tenants: dict[str, TenantRecord] = {}
        """By name; those that are deleted and kept for a while, too."""
        self.damaged: dict[str, str] = {}
        """Why a tenant's keys cannot be used, by its name."""
        self.capture: CaptureRecord | None = None
        self.rotations: dict[str, str] = {}
        """The newest wish for new keys, by name of the Secret."""
        self._api = api
        self._namespace = namespace
        self._installation = installation
        self._held: dict[str, _Held] = {}

    async def installation(self) -> Installation:
        """What the platform team has handed over; raises as `read_installation`."""
        return await read_installation(self._api, self._namespace, self._installation)

    async def load(self) -> None:
        """Read all Secrets; write again what was there and is not any more.

        Raises:
            ApiError: they cannot be read or written.
            KeyStateError: the keys of the capture account are damaged.
        """
        before = self._held
        self._held, self.damaged, self.rotations = {}, {}, {}
        for body in await self._api.list_labelled(SECRETS, self._namespace, KEYS_LABEL):
            self._take(body)
        for name, held in before.items():
            if name not in self._held:
                log.warning("Secret %s was deleted; it is written again", name)
                await self._write(name, self._kind_of(name), held.data)

    def _take(self, body: Mapping[str, Any]) -> None:
        metadata = body["metadata"]
        name = metadata["name"]
        holds = metadata["labels"][KEYS_LABEL]
        self.rotations[name] = (metadata.get("annotations") or {}).get(ROTATE_ANNOTATION, "")
        data = decode_data(name, body)
        self._held[name] = _Held(metadata["uid"], metadata["resourceVersion"], data)
        if holds == "capture":
            self.capture = CaptureRecord.decode(name, data)
        elif holds == "tenant":
            tenant = name.removeprefix(tenant_secret(""))
            try:
                self.tenants[tenant] = TenantRecord.decode(tenant, name, data)
            except KeyStateError as error:
                self.tenants.pop(tenant, None)
                self.damaged[tenant] = str(error)

    async def put_capture(self, record: CaptureRecord) -> None:
        """Remember the capture account.

        Raises:
            ApiError: it cannot be written.
        """
        await self._write(CAPTURE_SECRET, "capture", record.encode())
        self.capture = record

    async def put_tenant(self, record: TenantRecord) -> None:
        """Remember a tenant.

        Raises:
            ApiError: it cannot be written.
        """
        name = record.account.name
        await self._write(tenant_secret(name), "tenant", record.encode())
        self.tenants[name] = record

    async def drop_tenant(self, name: str) -> None:
        """Forget a tenant for good.

        Raises:
            ApiError: it cannot be deleted.
        """
        secret = tenant_secret(name)
        held = self._held.get(secret)
        if held is not None:
            try:
                await self._api.delete(SECRETS, self._namespace, secret, held.uid)
            except ApiError as error:
                if not error.is_absent:
                    raise
            del self._held[secret]
        self.tenants.pop(name, None)

    async def put_object_keys(self) -> None:
        """Have the Secret that agents mount say what the tenants' records say.

        Raises:
            ApiError: it cannot be written.
        """
        keys = {name: record.object_key for name, record in self.tenants.items()}
        await self._write(OBJECT_KEYS_SECRET, "objects", keys)

    async def _write(self, name: str, holds: str, data: Mapping[str, bytes]) -> None:
        held = self._held.get(name)
        if held is not None and held.data == data:
            return
        change: dict[str, Any] = {"data": encode_data(data)}
        if held is None:
            body = {
                "apiVersion": SECRETS.api_version,
                "kind": SECRETS.name,
                "metadata": {
                    "name": name,
                    "namespace": self._namespace,
                    "labels": {**MANAGED_BY, KEYS_LABEL: holds},
                },
                "type": "Opaque",
                **change,
            }
            stored = await self._api.create(SECRETS, body)
        else:
            change["data"] |= dict.fromkeys(held.data.keys() - data.keys())
            # Whoever else has written it meanwhile is not overwritten: the next pass reads it.
            change["metadata"] = {"resourceVersion": held.version}
            stored = await self._api.patch(SECRETS, self._namespace, name, change)
        metadata = stored["metadata"]
        self._held[name] = _Held(metadata["uid"], metadata["resourceVersion"], dict(data))

    def _kind_of(self, name: str) -> str:
        return {CAPTURE_SECRET: "capture", OBJECT_KEYS_SECRET: "objects"}.get(name, "tenant")
