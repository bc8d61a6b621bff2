# SPDX-License-Identifier: Apache-2.0
"""What has become of tenants and auditors in NATS, as their statuses say it.

Why: the reconciler writes every status and knows nothing of NATS; `headwater_operator.provisioning`
works on NATS and writes no status. Here one tells the other. Read by `statuses`.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

Changed = Callable[[], None]


class AccountReason(StrEnum):
    """Reasons of a tenant's condition AccountReady; only the first is true."""

    READY = "Ready"
    PROVISIONING = "Provisioning"
    TENANT_SUSPENDED = "TenantSuspended"
    QUOTA_EXCEEDS_STORAGE = "QuotaExceedsStorage"
    KEYS_UNUSABLE = "KeysUnusable"
    ACCOUNT_REFUSED = "AccountRefused"
    STREAM_REFUSED = "StreamRefused"
    NATS_UNREACHABLE = "NatsUnreachable"
    NATS_NOT_CONFIGURED = "NatsNotConfigured"


class AuditorReason(StrEnum):
    """Reasons of an auditor's condition Ready; only the first is true."""

    READY = "Ready"
    NO_TENANT = "NoTenant"
    TENANT_SUSPENDED = "TenantSuspended"
    TENANT_NOT_READY = "TenantNotReady"
    TOO_MANY_AUDITORS = "TooManyAuditors"
    CONSUMER_TAKEN = "ConsumerTaken"
    CONSUMER_REFUSED = "ConsumerRefused"
    SECRET_TAKEN = "SecretTaken"
    SECRET_UNWRITTEN = "SecretUnwritten"
    NODES_UNKNOWN = "NodesUnknown"
    NATS_NOT_CONFIGURED = "NatsNotConfigured"


@dataclass(frozen=True, slots=True)
class AccountState:
    """What has become of one tenant."""

    reason: AccountReason
    message: str
    """A sentence for people, with the remedy."""

    account: str = ""
    """Public key of its account; empty while it has none."""

    reserved_bytes: int = 0
    """What NATS has set aside for it."""

    auditors: int = 0
    """How many auditors are served."""

    generation: int | None = None
    """Of the tenant as it was looked at; None for whichever it has."""


@dataclass(frozen=True, slots=True)
class AuditorState:
    """What has become of one auditor."""

    reason: AuditorReason
    message: str
    consumer: str = ""
    """Name of its consumer; empty while it has none."""

    secret: str = ""
    """Name of the Secret with its credentials; empty while there is none."""

    expires: str = ""
    """RFC 3339; when those end unless they are renewed."""

    generation: int | None = None
    """Of the auditor as it was looked at; None for whichever it has."""


NOT_CONFIGURED = AccountState(
    AccountReason.NATS_NOT_CONFIGURED,
    "the operator was started without --nats, so tenants have no accounts; give it the address",
)
NO_AUDITORS = AuditorState(
    AuditorReason.NATS_NOT_CONFIGURED,
    "the operator was started without --nats; ask the platform team to give it the address of NATS",
)
WAITING = AccountState(AccountReason.PROVISIONING, "its account and stream are being made")


class Provisioned:
    """The newest states. Belongs to the event loop's thread.

    Args:
        is_configured: whether there is a NATS at all.
        changed: is called after any of them has changed.
    """

    def __init__(self, *, is_configured: bool, changed: Changed = lambda: None) -> None:
        self.is_configured = is_configured
        self.changed = changed
        self._accounts: dict[str, AccountState] = {}
        self._auditors: dict[str, AuditorState] = {}

    def account(self, tenant: str) -> AccountState:
        """Of a tenant, by its name."""
        if not self.is_configured:
            return NOT_CONFIGURED
        return self._accounts.get(tenant, WAITING)

    def auditor(self, uid: str) -> AuditorState | None:
        """Of an auditor, by its uid; None while nothing is known."""
        return self._auditors.get(uid) if self.is_configured else NO_AUDITORS

    def accounts(self) -> Iterable[AccountState]:
        """All that is known of tenants."""
        return self._accounts.values()

    def say(
        self, accounts: Mapping[str, AccountState], auditors: Mapping[str, AuditorState]
    ) -> None:
        """Replace everything by what is so now."""
        if self._accounts == accounts and self._auditors == auditors:
            return
        self._accounts, self._auditors = dict(accounts), dict(auditors)
        self.changed()

    def say_everybody(self, tenants: Iterable[str], reason: AccountReason, message: str) -> None:
        """Say the same of all tenants; what they have they still have."""
        self.say(
            {name: replace(self.account(name), reason=reason, message=message) for name in tenants},
            self._auditors,
        )
