# SPDX-License-Identifier: Apache-2.0
"""Short-lived users: agents, auditors, the stream's manager, the pusher of accounts.

Why: nobody keeps a password. A user key is made where it is used, its token says what it may do and
until when. Agents and auditors are signed with scoped keys: the account, not the token, holds their
permissions, so a stolen scoped key can make more of the same and nothing else. Called by the
embedded NATS, and in a cluster by the operator's provisioning and its token exchange. Promise: G5.
"""

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, Self

from headwater_operator.accounts import claims
from headwater_operator.accounts.errors import KeyStateError
from headwater_operator.accounts.key_pair import KeyPair, Role
from headwater_operator.accounts.keys import TenantAccount

Clock = Callable[[], float]

_ANYTHING = {"allow": [">"]}

PUSHING: Final = (
    "$SYS.REQ.CLAIMS.UPDATE",
    "$SYS.REQ.ACCOUNT.*.CLAIMS.LOOKUP",
    "$SYS.REQ.ACCOUNT.*.INFO",
)
"""What it takes to hand accounts to a server, to read them back, and to see what it works by."""

MANAGING: Final = (
    *PUSHING,
    "$SYS.REQ.CLAIMS.DELETE",
    "$SYS.REQ.SERVER.PING.JSZ",
    "$SYS.REQ.ACCOUNT.*.CONNZ",
)
"""What an operator in a cluster needs beside: it takes accounts away, adds up storage, and looks
for connections of nodes that are gone."""

_SECTION: Final = re.compile(
    r"-{3,}BEGIN (?P<what>[A-Z ]+)-{3,}\s+(?P<text>\S+)\s+-{3,}END (?P=what)-{3,}", re.ASCII
)


class CaptureKeys(Protocol):
    """What agents' users are made of."""

    @property
    def capture_account(self) -> KeyPair:
        """The account that agents connect to."""
        ...

    @property
    def capture_agent(self) -> KeyPair:
        """Its scoped key, which signs agents."""
        ...


class SystemKeys(Protocol):
    """What users of the system account are made of."""

    @property
    def system_account_key(self) -> str:
        """Public key of the system account."""
        ...

    @property
    def system_signing(self) -> KeyPair:
        """Its signing key."""
        ...


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

    @classmethod
    def parse(cls, text: str) -> Self:
        """Take over what somebody else has minted.

        Args:
            text: content of a `.creds` file.

        Raises:
            KeyStateError: it is none; the message holds nothing of it.
        """
        found = {match["what"]: match["text"] for match in _SECTION.finditer(text)}
        token = found.get("NATS USER JWT", "")
        content = claims.read(token)
        try:
            key = KeyPair(found.get("USER NKEY SEED", ""), Role.USER)
        except ValueError as error:
            raise KeyStateError(
                f"NATS credentials: the user's seed is {error}", "export the user's .creds again"
            ) from None
        if content is None or content.subject != key.public:
            raise KeyStateError(
                "NATS credentials: no token of a user that belongs to the seed beside it",
                "export the user's .creds again",
            )
        return cls("system", token, key, content.expires_at)

    def connection_options(self) -> dict[str, Any]:
        """Return keyword arguments for `nats.connect`."""
        return {
            "user_jwt_cb": lambda: bytearray(self.token.encode("ascii")),
            "signature_cb": self.key.sign_nonce,
            "inbox_prefix": self.inbox_prefix,
        }


def agent_user(
    keys: CaptureKeys,
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


def agent_token(
    keys: CaptureKeys, node: str, *, public_key: str, lifetime_s: float, clock: Clock = time.time
) -> tuple[str, int]:
    """Mint the token of an agent whose key is its own secret.

    Args:
        keys: of the installation.
        node: the node token; the account's template makes the permissions of it.
        public_key: of the agent.
        lifetime_s: seconds until the server cuts the connection.
        clock: seconds since 1970.

    Returns:
        The token, and its end in seconds since 1970.
    """
    now = clock()
    expires_at = int(now + lifetime_s)
    token = _user_token(
        account=keys.capture_account.public,
        signer=keys.capture_agent,
        name=node,
        body={},
        public_key=public_key,
        issued_at=int(now),
        expires_at=expires_at,
    )
    return token, expires_at


def auditor_user(
    tenant: TenantAccount,
    name: str,
    *,
    lifetime_s: float,
    clock: Clock = time.time,
    inbox_prefix: str = "_INBOX",
) -> Credentials:
    """Mint an auditor of `tenant`: it may read the stream, acknowledge, and nothing else.

    Args:
        tenant: whose stream.
        name: of the user; where the account's auditors have one consumer each, also of that.
        lifetime_s: seconds until the server cuts the connection.
        clock: seconds since 1970.
        inbox_prefix: where the account lets it receive answers.
    """
    return _mint(
        account=tenant.account.public,
        signer=tenant.auditor,
        name=name,
        body={},
        lifetime_s=lifetime_s,
        clock=clock,
        inbox_prefix=inbox_prefix,
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


def system_user(
    keys: SystemKeys,
    *,
    lifetime_s: float,
    allowed: Sequence[str] = PUSHING,
    clock: Clock = time.time,
) -> Credentials:
    """Mint the user that pushes account tokens and reads them back.

    Args:
        keys: of the system account.
        lifetime_s: seconds until the server cuts the connection.
        allowed: what it may ask the server, `PUSHING` or `MANAGING`.
        clock: seconds since 1970.
    """
    return _mint(
        account=keys.system_account_key,
        signer=keys.system_signing,
        name="account-pusher",
        body=_permissions(pub={"allow": list(allowed)}, sub={"allow": ["_INBOX.>"]}),
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
    token = _user_token(
        account=account,
        signer=signer,
        name=name,
        body=body,
        public_key=user.public,
        issued_at=int(now),
        expires_at=expires_at,
    )
    return Credentials(name, token, user, expires_at, inbox_prefix)


def _user_token(
    *,
    account: str,
    signer: KeyPair,
    name: str,
    body: dict[str, Any],
    public_key: str,
    issued_at: int,
    expires_at: int,
) -> str:
    return claims.encode(
        subject=public_key,
        name=name,
        body={**body, "issuer_account": account, "type": "user", "version": 2},
        signer=signer,
        issued_at=issued_at,
        expires_at=expires_at,
    )
