# SPDX-License-Identifier: Apache-2.0
"""Short-lived users: agents, auditors, the stream's manager, the pusher of accounts.

Why: nobody keeps a password. A user key is made where it is used, its token says what it may do and
until when. Agents and auditors are signed with scoped keys: the account, not the token, holds their
permissions, so a stolen scoped key can make more of the same and nothing else. Called by the
embedded NATS and, later, by the operator's token exchange. Promise: G5.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from headwater_operator.accounts import claims
from headwater_operator.accounts.key_pair import KeyPair, Role
from headwater_operator.accounts.keys import OperatorKeys, TenantAccount

Clock = Callable[[], float]

_ANYTHING = {"allow": [">"]}


@dataclass(frozen=True, slots=True)
class Credentials:
    """A user's token and the key that proves it."""

    name: str
    """Of the user; an agent's is its node token."""

    token: str = field(repr=False)
    """The signed JWT."""

    key: KeyPair
    """The user's own."""

    expires_at: int
    """Seconds since 1970; the server cuts the connection then."""

    inbox_prefix: str = "_INBOX"
    """Where this user may receive answers."""

    def text(self) -> str:
        """Return the content of a `.creds` file, as every NATS client reads it."""
        return (
            f"-----BEGIN NATS USER JWT-----\n{self.token}\n------END NATS USER JWT------\n\n"
            f"-----BEGIN USER NKEY SEED-----\n{self.key.seed}\n------END USER NKEY SEED------\n"
        )

    def connection_options(self) -> dict[str, Any]:
        """Return keyword arguments for `nats.connect`."""
        return {
            "user_jwt_cb": lambda: bytearray(self.token.encode("ascii")),
            "signature_cb": self.key.sign_nonce,
            "inbox_prefix": self.inbox_prefix,
        }


def agent_user(
    keys: OperatorKeys,
    node: str,
    *,
    lifetime_s: float,
    key: KeyPair | None = None,
    clock: Clock = time.time,
) -> Credentials:
    """Mint a node's agent: it may publish as that node and receive in its own inbox.

    Args:
        keys: of the installation.
        node: the node token; the account's template makes the permissions of it.
        lifetime_s: seconds until the server cuts the connection.
        key: the agent's own key pair, kept over renewals; made if None.
        clock: seconds since 1970.
    """
    return _mint(
        account=keys.capture_account.public,
        signer=keys.capture_agent,
        name=node,
        body={},
        lifetime_s=lifetime_s,
        key=key,
        clock=clock,
        inbox_prefix=claims.agent_inbox(node),
    )


def auditor_user(
    tenant: TenantAccount, name: str, *, lifetime_s: float, clock: Clock = time.time
) -> Credentials:
    """Mint an auditor of `tenant`: it may read the stream, acknowledge, and nothing else."""
    return _mint(
        account=tenant.account.public,
        signer=tenant.auditor,
        name=name,
        body={},
        lifetime_s=lifetime_s,
        clock=clock,
    )


def unrestricted_user(
    tenant: TenantAccount, name: str, *, lifetime_s: float, clock: Clock = time.time
) -> Credentials:
    """Mint a user that may do in the tenant's account whatever the account allows.

    The operator manages the stream as one; tests attack isolation as one.
    """
    return _mint(
        account=tenant.account.public,
        signer=tenant.signing,
        name=name,
        body=_permissions(pub=_ANYTHING, sub=_ANYTHING),
        lifetime_s=lifetime_s,
        clock=clock,
    )


def system_user(keys: OperatorKeys, *, lifetime_s: float, clock: Clock = time.time) -> Credentials:
    """Mint the user that pushes account tokens and reads them back."""
    allowed = ["$SYS.REQ.CLAIMS.UPDATE", "$SYS.REQ.ACCOUNT.*.CLAIMS.LOOKUP"]
    return _mint(
        account=keys.system_account.public,
        signer=keys.system_signing,
        name="account-pusher",
        body=_permissions(pub={"allow": allowed}, sub={"allow": ["_INBOX.>"]}),
        lifetime_s=lifetime_s,
        clock=clock,
    )


def _permissions(*, pub: dict[str, Any], sub: dict[str, Any]) -> dict[str, Any]:
    return {"pub": pub, "sub": sub, "subs": -1, "data": -1, "payload": -1}


def _mint(
    *,
    account: str,
    signer: KeyPair,
    name: str,
    body: dict[str, Any],
    lifetime_s: float,
    clock: Clock,
    key: KeyPair | None = None,
    inbox_prefix: str = "_INBOX",
) -> Credentials:
    now = clock()
    user = key or KeyPair.generate(Role.USER)
    expires_at = int(now + lifetime_s)
    token = claims.encode(
        subject=user.public,
        name=name,
        body={**body, "issuer_account": account, "type": "user", "version": 2},
        signer=signer,
        issued_at=int(now),
        expires_at=expires_at,
    )
    return Credentials(name, token, user, expires_at, inbox_prefix)
