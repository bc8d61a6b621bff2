# SPDX-License-Identifier: Apache-2.0
"""What the operator remembers of a tenant, and how a Secret holds it.

Why: the Secret is the only memory. It says which account a tenant has, what was promised to it, who
was given credentials and whose are void. It stays when the ProvenanceTenant goes, so what is in
NATS can be released by any later operator, and nobody's object needs a finalizer for it.
Pure; read and written by `vault`, changed by `tenants` and `auditors`. Promise: G5.
"""

import base64
import binascii
import dataclasses
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Self

from headwater_prov.identifiers import KEY_BYTES

from headwater_operator.accounts import KeyPair, KeyStateError, Quotas, Role, TenantAccount

_VERSION: Final = 1
_RECORD: Final = "record.json"
_OBJECT_KEY: Final = "object.key"
_TENANT_SEEDS: Final = ("account", "signing", "auditor")
_CAPTURE_SEEDS: Final = ("account", "agent")


@dataclass(frozen=True, slots=True)
class TimedKey:
    """A public key that is of interest until a certain time."""

    public: str
    """The public key."""

    until: int
    """Seconds since 1970; afterwards no token is left that it could be about."""

    at: int = 0
    """Of a revoked key: tokens issued up to this time, seconds since 1970, are void."""


@dataclass(frozen=True, slots=True)
class AuditorRecord:
    """What was given to one ProvenanceAuditor."""

    namespace: str
    """Of the object, and of its Secret."""

    name: str
    """Of the object."""

    consumer: str
    """Its durable consumer."""

    secret: str
    """Name of the Secret with its credentials."""

    users: tuple[TimedKey, ...] = ()
    """Its users whose tokens have not ended, the newest last; `at` is when it was issued."""

    signer: str = ""
    """Public key that the newest one was signed with."""


@dataclass(frozen=True, slots=True)
class TenantRecord:
    """What was made for one tenant."""

    account: TenantAccount
    """Its keys, and the quotas that are in force."""

    object_key: bytes = field(repr=False)
    """With which its ids are made on the nodes."""

    made_at: int
    """Seconds since 1970, of the signing key."""

    retired: tuple[TimedKey, ...] = ()
    """Signing keys before it that still count."""

    retired_auditor: tuple[TimedKey, ...] = ()
    """Scoped keys before it that still count: auditors signed by them are about."""

    revoked: tuple[TimedKey, ...] = ()
    """Users whose tokens are void."""

    auditors: Mapping[str, AuditorRecord] = field(default_factory=dict)
    """By uid of the ProvenanceAuditor."""

    keep_s: int = 0
    """How long all of it stays after the tenant is deleted."""

    deleted_at: int = 0
    """When the tenant was seen to be gone, seconds since 1970; 0 while it is there."""

    rotation: str = ""
    """The last wish for new signing keys that was fulfilled."""

    @classmethod
    def new(cls, name: str, quotas: Quotas, *, keep_s: int, now: int) -> Self:
        """A tenant that was never there: fresh keys."""
        made = [KeyPair.generate(Role.ACCOUNT) for _ in _TENANT_SEEDS]
        return cls(
            account=TenantAccount(name, quotas, *made),
            object_key=secrets.token_bytes(KEY_BYTES),
            made_at=now,
            keep_s=keep_s,
        )

    def encode(self) -> dict[str, bytes]:
        """The data of its Secret."""
        seeds = {f"{name}.seed": getattr(self.account, name).seed for name in _TENANT_SEEDS}
        record = {
            "version": _VERSION,
            "quotas": dataclasses.asdict(self.account.quotas),
            "madeAt": self.made_at,
            "retired": [dataclasses.asdict(one) for one in self.retired],
            "retiredAuditor": [dataclasses.asdict(one) for one in self.retired_auditor],
            "revoked": [dataclasses.asdict(one) for one in self.revoked],
            "auditors": {uid: dataclasses.asdict(one) for uid, one in self.auditors.items()},
            "keepSeconds": self.keep_s,
            "deletedAt": self.deleted_at,
            "rotation": self.rotation,
        }
        return {
            **{name: seed.encode("ascii") for name, seed in seeds.items()},
            _OBJECT_KEY: self.object_key,
            _RECORD: json.dumps(record, sort_keys=True).encode(),
        }

    @classmethod
    def decode(cls, name: str, secret: str, data: Mapping[str, bytes]) -> Self:
        """Read what `encode` wrote.

        Args:
            name: of the tenant.
            secret: of the Secret, for messages.
            data: of the Secret.

        Raises:
            KeyStateError: something is missing or damaged; the message never holds a seed.
        """
        pairs = _pairs(secret, data, _TENANT_SEEDS)
        object_key = data.get(_OBJECT_KEY, b"")
        if len(object_key) != KEY_BYTES:
            raise _damaged(secret, _OBJECT_KEY, f"has {len(object_key)} bytes, not {KEY_BYTES}")
        record = _record(secret, data)
        try:
            return cls(
                account=TenantAccount(name, Quotas(**record["quotas"]), **pairs),
                object_key=object_key,
                made_at=int(record["madeAt"]),
                retired=_timed(record["retired"]),
                retired_auditor=_timed(record["retiredAuditor"]),
                revoked=_timed(record["revoked"]),
                auditors={
                    uid: AuditorRecord(**{**one, "users": _timed(one["users"])})
                    for uid, one in record["auditors"].items()
                },
                keep_s=int(record["keepSeconds"]),
                deleted_at=int(record["deletedAt"]),
                rotation=str(record["rotation"]),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise _damaged(secret, _RECORD, repr(error)) from error


@dataclass(frozen=True, slots=True)
class CaptureRecord:
    """The account that agents connect to."""

    capture_account: KeyPair
    """Its identity."""

    capture_agent: KeyPair
    """Its scoped key, which signs agents."""

    retired: tuple[TimedKey, ...] = ()
    """Scoped keys before it that still count."""

    revoked: tuple[TimedKey, ...] = ()
    """Agents whose tokens are void: their nodes are gone."""

    rotation: str = ""
    """The last wish for a new scoped key that was fulfilled."""

    @classmethod
    def new(cls) -> Self:
        """Fresh keys."""
        return cls(KeyPair.generate(Role.ACCOUNT), KeyPair.generate(Role.ACCOUNT))

    def encode(self) -> dict[str, bytes]:
        """The data of its Secret."""
        record = {
            "version": _VERSION,
            "retired": [dataclasses.asdict(one) for one in self.retired],
            "revoked": [dataclasses.asdict(one) for one in self.revoked],
            "rotation": self.rotation,
        }
        return {
            "account.seed": self.capture_account.seed.encode("ascii"),
            "agent.seed": self.capture_agent.seed.encode("ascii"),
            _RECORD: json.dumps(record, sort_keys=True).encode(),
        }

    @classmethod
    def decode(cls, secret: str, data: Mapping[str, bytes]) -> Self:
        """Read what `encode` wrote.

        Args:
            secret: of the Secret, for messages.
            data: of the Secret.

        Raises:
            KeyStateError: something is missing or damaged; the message never holds a seed.
        """
        pairs = _pairs(secret, data, _CAPTURE_SEEDS)
        record = _record(secret, data)
        try:
            return cls(
                capture_account=pairs["account"],
                capture_agent=pairs["agent"],
                retired=_timed(record["retired"]),
                revoked=_timed(record["revoked"]),
                rotation=str(record["rotation"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise _damaged(secret, _RECORD, repr(error)) from error


def still_of_interest(keys: tuple[TimedKey, ...], now: float) -> tuple[TimedKey, ...]:
    """Those whose time is not over."""
    return tuple(one for one in keys if one.until > now)


def decode_data(secret: str, body: Mapping[str, Any]) -> dict[str, bytes]:
    """The data of a Secret as the API server sends it.

    Raises:
        KeyStateError: it is not base64, which no API server lets in.
    """
    try:
        return {
            key: base64.b64decode(value, validate=True)
            for key, value in (body.get("data") or {}).items()
        }
    except (binascii.Error, TypeError, ValueError) as error:
        raise _damaged(secret, "data", repr(error)) from error


def encode_data(data: Mapping[str, bytes]) -> dict[str, str]:
    """The data of a Secret as the API server wants it."""
    return {key: base64.b64encode(value).decode("ascii") for key, value in data.items()}


def seed_of(secret: str, data: Mapping[str, bytes], key: str, role: Role) -> KeyPair:
    """The key pair whose seed a Secret holds.

    Args:
        secret: of the Secret, for messages.
        data: of the Secret.
        key: in `data`.
        role: what the seed must be for.

    Raises:
        KeyStateError: there is none, or another; the message never holds it.
    """
    if key not in data:
        raise _damaged(secret, key, "missing")
    try:
        return KeyPair(data[key].decode("ascii", "replace").strip(), role)
    except ValueError as error:
        raise _damaged(secret, key, str(error)) from None


def _pairs(secret: str, data: Mapping[str, bytes], names: tuple[str, ...]) -> dict[str, KeyPair]:
    return {name: seed_of(secret, data, f"{name}.seed", Role.ACCOUNT) for name in names}


def _record(secret: str, data: Mapping[str, bytes]) -> dict[str, Any]:
    try:
        record = json.loads(data.get(_RECORD, b""))
    except ValueError as error:
        raise _damaged(secret, _RECORD, repr(error)) from error
    if not isinstance(record, dict) or record.get("version") != _VERSION:
        raise _damaged(secret, _RECORD, f"version: expected {_VERSION}")
    return record


def _timed(content: Any) -> tuple[TimedKey, ...]:
    return tuple(TimedKey(str(one["public"]), int(one["until"]), int(one["at"])) for one in content)


def _damaged(secret: str, key: str, reason: str) -> KeyStateError:
    return KeyStateError(
        f"Secret {secret}: {key}: {reason}",
        "restore the Secret from a copy; new keys would lock the tenant out of its stream",
    )
