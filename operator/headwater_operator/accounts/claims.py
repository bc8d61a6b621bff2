# SPDX-License-Identifier: Apache-2.0
"""NATS JWTs, version 2: what each account and user may do, signed.

Why: in operator mode the server believes nothing but these; so isolation of tenants (G5) is exactly
what this page says. It is pure: time comes in, tokens go out. Called by `keys` (accounts) and
`users`; the tokens travel by `push` and by each client's CONNECT.

Capture reaches a tenant through a *service*: the tenant exports `prov.v1.>`, the capture account
imports it as `t.<tenant>.prov.v1.>`, and the stream's acknowledgement comes back through it. Where
only our operator key signs accounts the export is public: no other account can import it, and a
token would make the capture account's JWT five times longer per tenant
(docs/decisions/0002-service-import.md). On a NATS that has other accounts too, it takes an
activation token, or any of those accounts could write into a tenant's stream.
"""

import base64
import binascii
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType
from typing import Any

from headwater_prov.stream import STREAM_NAME, STREAM_SUBJECTS, SUBJECT_ROOT

from headwater_operator.accounts.key_pair import KeyPair, is_signed_by
from headwater_operator.accounts.quotas import ROOM_FOR_GAPS_BYTES, Quotas

_HEADER = b'{"typ":"JWT","alg":"ed25519-nkey"}'
_UNLIMITED = {
    "subs": -1,
    "data": -1,
    "payload": -1,
    "imports": -1,
    "exports": -1,
    "wildcards": True,
    "conn": -1,
    "leaf": -1,
}

RESPONSE_THRESHOLD_S = 30
"""How long the server remembers a publish that nothing answered (each costs it 2.8 KB). Longer than
any publisher's own time limit, far shorter than the server's default of two minutes."""

AUDITOR_INBOX = "_INBOX.>"
"""Where an auditor's answers go: the default of every NATS client, inside its own account."""

NO_KEYS: Mapping[str, int] = MappingProxyType({})


class AuditorScope(Enum):
    """What the auditors of an account may do with consumers."""

    ANY_CONSUMER = "any"
    """Make, use and delete consumers of the stream as they like: local mode's readers, who hold the
    keys of the whole installation anyway."""

    OWN_CONSUMER = "own"
    """Use the one consumer that is named as the user: somebody else made it, and its filter is what
    the auditor may read. Its answers go to an inbox of its own, or two auditors of one tenant could
    read along with each other."""


@dataclass(frozen=True, slots=True)
class TenantImport:
    """A tenant's service as the capture account imports it."""

    tenant: str
    """The tenant's name."""

    account: str
    """Public key of its account."""

    activation: str = ""
    """Token of the tenant that lets capture import it; empty where the export is public."""


@dataclass(frozen=True, slots=True)
class Claims:
    """What a token says, of which the signature was checked."""

    subject: str
    """Public key of whom it is about."""

    issuer: str
    """Public key of who signed it."""

    issued_at: int
    """Seconds since 1970, by the issuer's clock."""

    body: Mapping[str, Any]
    """The `nats` part."""

    name: str = ""
    """As it was given."""

    expires_at: int = 0
    """Seconds since 1970; 0 for no end."""


def agent_inbox(node: str) -> str:
    """Return the inbox prefix of a node's agent; all agents share one account, so each has its own.

    Args:
        node: the node token.
    """
    return f"_INBOX_{node}"


def auditor_inbox(consumer: str) -> str:
    """Return the inbox prefix of an auditor that has one consumer, and nothing else.

    Args:
        consumer: its name.
    """
    return f"_INBOX_{consumer}"


def capture_subject(tenant: str) -> str:
    """Return what the capture account calls the tenant's `prov.v1.>`."""
    return f"t.{tenant}.{STREAM_SUBJECTS}"


def encode(
    *,
    subject: str,
    name: str,
    body: Mapping[str, Any],
    signer: KeyPair,
    issued_at: int,
    expires_at: int | None = None,
) -> str:
    """Return a signed token.

    Args:
        subject: public key of whom the token is about.
        name: shown in the server's monitoring and log.
        body: the `nats` part of the claims.
        signer: whose word it is.
        issued_at: seconds since 1970.
        expires_at: seconds since 1970, or None for no end.
    """
    content: dict[str, Any] = {
        "iat": issued_at,
        "iss": signer.public,
        "name": name,
        "sub": subject,
        "nats": dict(body),
    }
    if expires_at is not None:
        content["exp"] = expires_at
    digest = hashlib.new("sha512_256", _json(content)).digest()
    content["jti"] = base64.b32encode(digest).rstrip(b"=").decode("ascii")
    signed = f"{_base64(_HEADER)}.{_base64(_json(content))}"
    return f"{signed}.{_base64(signer.sign(signed.encode('ascii')))}"


def operator_token(
    *, identity: KeyPair, signing: Sequence[str], system_account: str, issued_at: int
) -> str:
    """Return the operator's own token.

    Accounts are signed by the keys whose public halves are in `signing`, never by `identity`.
    """
    body = {
        "signing_keys": list(signing),
        "system_account": system_account,
        "strict_signing_key_usage": True,
        "type": "operator",
        "version": 2,
    }
    return encode(
        subject=identity.public, name="headwater", body=body, signer=identity, issued_at=issued_at
    )


def system_account_token(
    *, account: str, user_keys: Sequence[str], signer: KeyPair, issued_at: int
) -> str:
    """Return the token of the account that account tokens are pushed through.

    `user_keys` are the public halves of the keys that its users are signed with.
    """
    body = {
        "limits": _UNLIMITED,
        "signing_keys": list(user_keys),
        "exports": [],
        "type": "account",
        "version": 2,
    }
    return encode(subject=account, name="SYS", body=body, signer=signer, issued_at=issued_at)


def capture_account_body(
    *,
    agent_keys: Sequence[str],
    tenants: Iterable[TenantImport],
    revoked: Mapping[str, int] = NO_KEYS,
) -> dict[str, Any]:
    """Return what is claimed of the account that agents connect to.

    Args:
        agent_keys: public halves of the scoped keys that agents' users are signed with.
        tenants: whose streams agents may publish into.
        revoked: public keys of users, each with the time (seconds since 1970) up to which tokens
            for it are void.
    """
    imports = []
    for tenant in tenants:
        one = {
            "name": f"capture-{tenant.tenant}",
            "subject": STREAM_SUBJECTS,
            "account": tenant.account,
            "local_subject": capture_subject(tenant.tenant),
            "type": "service",
        }
        imports.append(one | ({"token": tenant.activation} if tenant.activation else {}))
    node = "{{name()}}"
    template = {
        "pub": {"allow": [f"t.*.{SUBJECT_ROOT}.{node}.>"]},
        "sub": {"allow": [f"{agent_inbox(node)}.>"]},
    }
    return {
        "limits": _UNLIMITED,
        "signing_keys": [_scoped(key, "agent", template) for key in agent_keys],
        "imports": imports,
        "type": "account",
        "version": 2,
        **({"revocations": dict(revoked)} if revoked else {}),
    }


def tenant_account_body(
    *,
    signing_keys: Sequence[str],
    auditor_keys: Sequence[str],
    quotas: Quotas,
    replicas: int = 1,
    scope: AuditorScope = AuditorScope.ANY_CONSUMER,
    needs_activation: bool = False,
    admits_users: bool = True,
    takes_records: bool = True,
    revoked: Mapping[str, int] = NO_KEYS,
) -> dict[str, Any]:
    """Return what is claimed of a tenant's account: one stream of limited size, one export.

    Args:
        signing_keys: public halves of the keys for users with permissions of their own.
        auditor_keys: those of the scoped keys that can only make auditors.
        quotas: what the tenant may take.
        replicas: servers that hold a copy of the stream; the limits count each.
        scope: what an auditor may do with consumers.
        needs_activation: whether an importer needs a token of the tenant.
        admits_users: whether anybody may connect; if not, who is connected is cut off.
        takes_records: whether the capture account may publish into it.
        revoked: public keys of users, each with the time up to which tokens for it are void.
    """
    limits = {
        **_UNLIMITED,
        "imports": 0,
        "exports": 1,
        "conn": quotas.connections if admits_users else 0,
        "leaf": 0,
        "disk_storage": quotas.reserved_bytes * replicas,
        "disk_max_stream_bytes": quotas.stream_bytes + ROOM_FOR_GAPS_BYTES,
        "max_bytes_required": True,
        "streams": 1,
        "consumer": quotas.consumers,
    }
    export: dict[str, Any] = {
        "name": "capture",
        "subject": STREAM_SUBJECTS,
        "type": "service",
        "response_type": "Singleton",
        "response_threshold": RESPONSE_THRESHOLD_S * 1_000_000_000,
    }
    if needs_activation:
        export["token_req"] = True
    template = _auditor_template(scope)
    return {
        "limits": limits,
        "signing_keys": [
            *signing_keys,
            *(_scoped(key, "auditor", template) for key in auditor_keys),
        ],
        "exports": [export] if takes_records else [],
        "type": "account",
        "version": 2,
        **({"revocations": dict(revoked)} if revoked else {}),
    }


def activation_token(
    *, tenant_account: str, capture_account: str, signer: KeyPair, issued_at: int
) -> str:
    """Return a tenant's permission for the capture account to import its service.

    The same arguments give the same token, so one that is made again is no change.
    """
    body = {
        "subject": STREAM_SUBJECTS,
        "kind": "service",
        "issuer_account": tenant_account,
        "type": "activation",
        "version": 2,
    }
    return encode(
        subject=capture_account, name="capture", body=body, signer=signer, issued_at=issued_at
    )


def deletion_token(*, accounts: Sequence[str], signer: KeyPair, issued_at: int) -> str:
    """Return the operator's word that these accounts are to be deleted."""
    body = {"accounts": list(accounts), "type": "generic", "version": 2}
    return encode(
        subject=signer.public, name="delete", body=body, signer=signer, issued_at=issued_at
    )


def read(token: str) -> Claims | None:
    """Return what a token says; None if it is none, or its signature is not its issuer's."""
    try:
        signed, _, signature = token.rpartition(".")
        content = json.loads(_decode(signed.split(".")[1]))
        found = Claims(
            subject=content["sub"],
            issuer=content["iss"],
            issued_at=int(content["iat"]),
            body=content["nats"],
            name=content.get("name", ""),
            expires_at=int(content.get("exp") or 0),
        )
        if is_signed_by(found.issuer, signed.encode("ascii"), _decode(signature)):
            return found
    except (KeyError, IndexError, TypeError, ValueError, binascii.Error):
        pass  # not a token at all
    return None


def _auditor_template(scope: AuditorScope) -> dict[str, Any]:
    if scope is AuditorScope.ANY_CONSUMER:
        return {"pub": {"allow": auditor_subjects()}, "sub": {"allow": [AUDITOR_INBOX]}}
    own = "{{name()}}"
    allowed = own_consumer_subjects(own)
    return {"pub": {"allow": allowed}, "sub": {"allow": [f"{auditor_inbox(own)}.>"]}}


def own_consumer_subjects(consumer: str) -> list[str]:
    """Return what an auditor may publish to that was given one consumer.

    Args:
        consumer: its name.
    """
    return [
        f"$JS.API.STREAM.INFO.{STREAM_NAME}",
        f"$JS.API.CONSUMER.INFO.{STREAM_NAME}.{consumer}",
        f"$JS.API.CONSUMER.MSG.NEXT.{STREAM_NAME}.{consumer}",
        f"$JS.ACK.{STREAM_NAME}.{consumer}.>",
    ]


def auditor_subjects() -> list[str]:
    """Return what an auditor may publish to: questions about its stream, and acknowledgements."""
    return [
        f"$JS.API.STREAM.INFO.{STREAM_NAME}",
        *(
            f"$JS.API.CONSUMER.{verb}.{STREAM_NAME}.>"
            for verb in ("CREATE", "DURABLE.CREATE", "INFO", "DELETE", "MSG.NEXT")
        ),
        f"$JS.API.CONSUMER.NAMES.{STREAM_NAME}",
        f"$JS.API.CONSUMER.LIST.{STREAM_NAME}",
        f"$JS.ACK.{STREAM_NAME}.>",
    ]


def _scoped(key: str, role: str, template: Mapping[str, Any]) -> dict[str, Any]:
    """A signing key whose users get exactly `template`; tokens with more are refused."""
    return {
        "kind": "user_scope",
        "key": key,
        "role": role,
        "template": {**template, "subs": -1, "data": -1, "payload": -1},
    }


def _json(content: Mapping[str, Any]) -> bytes:
    return json.dumps(content, separators=(",", ":")).encode()


def _decode(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")
