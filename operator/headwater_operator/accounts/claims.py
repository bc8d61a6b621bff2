# SPDX-License-Identifier: Apache-2.0
"""NATS JWTs, version 2: what each account and user may do, signed.

Why: in operator mode the server believes nothing but these; so isolation of tenants (G5) is exactly
what this page says. It is pure: time comes in, tokens go out. Called by `keys` (accounts) and
`users`; the tokens travel by `push` and by each client's CONNECT.

Capture reaches a tenant through a *service*: the tenant exports `prov.v1.>`, the capture account
imports it as `t.<tenant>.prov.v1.>`, and the stream's acknowledgement comes back through it. The
export is public, not by activation token: only our operator key signs accounts, so no other account
can import it, and a token would make the capture account's JWT five times longer per tenant
(docs/decisions/0002-service-import.md).
"""

import base64
import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

from headwater_prov.stream import STREAM_NAME, STREAM_SUBJECTS, SUBJECT_ROOT

from headwater_operator.accounts.key_pair import KeyPair
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


def agent_inbox(node: str) -> str:
    """Return the inbox prefix of a node's agent; all agents share one account, so each has its own.

    Args:
        node: the node token.
    """
    return f"_INBOX_{node}"


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
    *, identity: KeyPair, signing: KeyPair, system_account: str, issued_at: int
) -> str:
    """Return the operator's own token; accounts are signed by `signing`, never by `identity`."""
    body = {
        "signing_keys": [signing.public],
        "system_account": system_account,
        "strict_signing_key_usage": True,
        "type": "operator",
        "version": 2,
    }
    return encode(
        subject=identity.public, name="headwater", body=body, signer=identity, issued_at=issued_at
    )


def system_account_token(*, account: str, user_key: str, signer: KeyPair, issued_at: int) -> str:
    """Return the token of the account that account tokens are pushed through."""
    body = {
        "limits": _UNLIMITED,
        "signing_keys": [user_key],
        "exports": [],
        "type": "account",
        "version": 2,
    }
    return encode(subject=account, name="SYS", body=body, signer=signer, issued_at=issued_at)


def capture_account_token(
    *,
    account: str,
    agent_key: str,
    tenants: Iterable[tuple[str, str]],
    signer: KeyPair,
    issued_at: int,
) -> str:
    """Return the token of the account that agents connect to.

    `agent_key` is the public half of the scoped key that agents' users are signed with; `tenants`
    are the name and account public key of each.
    """
    imports = [
        {
            "name": f"capture-{name}",
            "subject": STREAM_SUBJECTS,
            "account": key,
            "local_subject": capture_subject(name),
            "type": "service",
        }
        for name, key in tenants
    ]
    node = "{{name()}}"
    template = {
        "pub": {"allow": [f"t.*.{SUBJECT_ROOT}.{node}.>"]},
        "sub": {"allow": [f"{agent_inbox(node)}.>"]},
    }
    body: dict[str, Any] = {
        "limits": _UNLIMITED,
        "signing_keys": [_scoped(agent_key, "agent", template)],
        "imports": imports,
        "type": "account",
        "version": 2,
    }
    return encode(subject=account, name="capture", body=body, signer=signer, issued_at=issued_at)


def tenant_account_token(
    *,
    account: str,
    tenant: str,
    signing_key: str,
    auditor_key: str,
    quotas: Quotas,
    signer: KeyPair,
    issued_at: int,
) -> str:
    """Return a tenant's token: one stream of limited size, one service export, no imports.

    `signing_key` is the public half of the key for users with permissions of their own,
    `auditor_key` that of the scoped key that can only make auditors.
    """
    limits = {
        **_UNLIMITED,
        "imports": 0,
        "exports": 1,
        "conn": quotas.connections,
        "leaf": 0,
        "disk_storage": quotas.reserved_bytes,
        "disk_max_stream_bytes": quotas.stream_bytes + ROOM_FOR_GAPS_BYTES,
        "max_bytes_required": True,
        "streams": 1,
        "consumer": quotas.consumers,
    }
    export = {
        "name": "capture",
        "subject": STREAM_SUBJECTS,
        "type": "service",
        "response_type": "Singleton",
        "response_threshold": RESPONSE_THRESHOLD_S * 1_000_000_000,
    }
    template = {"pub": {"allow": auditor_subjects()}, "sub": {"allow": [AUDITOR_INBOX]}}
    body: dict[str, Any] = {
        "limits": limits,
        "signing_keys": [signing_key, _scoped(auditor_key, "auditor", template)],
        "exports": [export],
        "type": "account",
        "version": 2,
    }
    return encode(subject=account, name=tenant, body=body, signer=signer, issued_at=issued_at)


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


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")
