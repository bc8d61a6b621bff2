# SPDX-License-Identifier: Apache-2.0
"""Which NATS this is, and as whom the operator comes to it.

Why: the platform team hands over just enough: a signing key of the operator (its identity stays
with them, offline if they want) and a way into the system account. `headwater nats init` makes both
for a NATS that is ours alone; for a NATS that is there already they are exported from it. Read from
the Secret again at each pass, so a new key is put in force by writing it there. Promise: G5.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Self

from headwater_operator.accounts import (
    MANAGING,
    Credentials,
    KeyPair,
    KeyStateError,
    Role,
    system_user,
)
from headwater_operator.accounts.handover import (
    OPERATOR_SIGNING,
    SYSTEM_ACCOUNT,
    SYSTEM_CREDENTIALS,
    SYSTEM_SIGNING,
)
from headwater_operator.provisioning.records import seed_of

_SYSTEM_USER_LIFETIME_S: Final = 120.0
"""One pass over a thousand tenants takes less."""


@dataclass(frozen=True, slots=True)
class Installation:
    """What was handed over."""

    signing: KeyPair
    """Signs accounts; the server's operator token names it."""

    given_user: Credentials | None
    """A user of the system account that somebody else minted, or None."""

    system_account_key: str = ""
    """Public key of the system account; empty where a user was given."""

    system_signing_key: KeyPair | None = None
    """A signing key of the system account; None where a user was given."""

    @property
    def is_shared(self) -> bool:
        """Whether accounts that are not ours may be on this NATS: others keep its keys."""
        return self.given_user is not None

    @property
    def system_signing(self) -> KeyPair:
        """Signs users of the system account, where no user was given."""
        assert self.system_signing_key is not None
        return self.system_signing_key

    @classmethod
    def parse(cls, secret: str, data: Mapping[str, bytes]) -> Self:
        """Read the Secret.

        Args:
            secret: its name, for messages.
            data: its data.

        Raises:
            KeyStateError: something is missing or is not what it should be.
        """
        signing = seed_of(secret, data, OPERATOR_SIGNING, Role.OPERATOR)
        if SYSTEM_CREDENTIALS in data:
            text = data[SYSTEM_CREDENTIALS].decode("ascii", "replace")
            return cls(signing, Credentials.parse(text))
        account = data.get(SYSTEM_ACCOUNT, b"").decode("ascii", "replace").strip()
        if not account.startswith(Role.ACCOUNT.value):
            raise KeyStateError(
                f"Secret {secret}: has neither {SYSTEM_CREDENTIALS} nor {SYSTEM_ACCOUNT}",
                "write the credentials of a system user, or take the Secret that "
                '"headwater nats init" has made',
            )
        return cls(signing, None, account, seed_of(secret, data, SYSTEM_SIGNING, Role.ACCOUNT))

    def system_user(self) -> Credentials:
        """A user that may manage accounts."""
        if self.given_user is not None:
            return self.given_user
        return system_user(self, lifetime_s=_SYSTEM_USER_LIFETIME_S, allowed=MANAGING)
