# SPDX-License-Identifier: Apache-2.0
"""One tenant's account, stream, consumers and credentials, brought to what is remembered of it.

Why: the order is what makes an interrupted pass harmless. What is given is remembered first, the
account next (it may void what was given before), then the stream, the consumers, and last the
Secrets by which programs learn of it. The trouble of one tenant ends its own work only.
Called by `provisioner`. Promises: G3, G5.
"""

from dataclasses import dataclass, field
from typing import Final

from headwater_operator.accounts import (
    AccountsError,
    ClaimsRefusedError,
    Connection,
    ConsumerRefusedError,
    Credentials,
    KeyStateError,
    QuotaError,
    ServerUnreachableError,
    StreamRefusedError,
    align_consumers,
    auditor_inbox,
    auditor_user,
    delete_accounts,
    delete_stream,
    ensure_stream,
)
from headwater_operator.cluster.api import ApiError
from headwater_operator.cluster.provisioned import (
    AccountReason,
    AccountState,
    AuditorReason,
    AuditorState,
)
from headwater_operator.provisioning import auditors, tenants
from headwater_operator.provisioning.auditor_secrets import AuditorSecrets, SecretTakenError
from headwater_operator.provisioning.auditors import Decision, WantedAuditor
from headwater_operator.provisioning.installation import Installation
from headwater_operator.provisioning.records import TenantRecord, TimedKey
from headwater_operator.provisioning.server import Server
from headwater_operator.provisioning.settings import NatsSettings
from headwater_operator.provisioning.tenants import WantedTenant
from headwater_operator.provisioning.vault import Vault

_REASONS: Final[tuple[tuple[type[AccountsError], AccountReason], ...]] = (
    (ClaimsRefusedError, AccountReason.ACCOUNT_REFUSED),
    (StreamRefusedError, AccountReason.STREAM_REFUSED),
    (ConsumerRefusedError, AccountReason.STREAM_REFUSED),
    (QuotaError, AccountReason.QUOTA_EXCEEDS_STORAGE),
    (KeyStateError, AccountReason.KEYS_UNUSABLE),
    (ServerUnreachableError, AccountReason.NATS_UNREACHABLE),
)


def reason_of(error: AccountsError) -> AccountReason:
    """The reason of condition AccountReady for what went wrong."""
    return next(
        (reason for kind, reason in _REASONS if isinstance(error, kind)),
        AccountReason.ACCOUNT_REFUSED,
    )


@dataclass(slots=True)
class TenantWork:
    """One tenant in one pass, and what came of it."""

    wanted: WantedTenant
    record: TenantRecord
    decision: Decision
    refusal: QuotaError | None
    """Why its quotas are not in force as it wants them."""

    looks_at_stream: bool = True
    """Whether the stream is looked at although nothing of it has changed."""

    trouble: AccountsError | None = None
    """What has ended the work on it."""

    auditor_states: dict[str, AuditorState] = field(default_factory=dict)

    takes_more: bool = False
    """Whether it is to have more storage than before."""

    @property
    def account(self) -> str:
        """Public key of its account."""
        return self.record.account.account.public

    def state(self) -> AccountState:
        """What its status is to say."""
        if self.trouble is not None:
            reason, message = reason_of(self.trouble), str(self.trouble)
        elif self.wanted.is_suspended:
            reason = AccountReason.TENANT_SUSPENDED
            message = "spec.suspend is true: nothing is taken in, nobody may read; its stream stays"
        elif self.refusal is not None:
            reason, message = AccountReason.QUOTA_EXCEEDS_STORAGE, str(self.refusal)
        else:
            reason, message = AccountReason.READY, "account and stream are as the quotas say"
        ready = sum(one.reason is AuditorReason.READY for one in self.auditor_states.values())
        quotas = self.record.account.quotas
        return AccountState(
            reason,
            message,
            self.account,
            quotas.reserved_bytes,
            ready,
            self.wanted.generation,
        )


class Bringing:
    """Works on tenants. Belongs to the event loop's thread.

    Args:
        vault: where what is given is remembered.
        secrets: where auditors find it.
        settings: of NATS.
    """

    def __init__(self, vault: Vault, secrets: AuditorSecrets, settings: NatsSettings) -> None:
        self._vault = vault
        self._secrets = secrets
        self._settings = settings
        self._aligned: dict[str, object] = {}
        """By account, what its stream and consumers were last seen to be as."""
        self._unsent: dict[str, Credentials] = {}
        """By uid of the auditor: remembered as given, and not in its Secret yet."""
        self._without_stream: set[str] = set()
        """Accounts whose stream the server has refused."""
        self._is_whole = True
        self._checked: dict[str, tuple[str, ...]] = {}
        """By uid, auditors whose Secrets were looked at since the last whole pass, and the policies
        that were found in them."""

    def begin_whole_pass(self) -> None:
        """Look at all accounts and all auditors' Secrets again."""
        self._checked.clear()
        self._is_whole = True

    def end_pass(self) -> None:
        """From now on only at what has changed."""
        self._is_whole = False

    async def bring(
        self,
        work: TenantWork,
        server: Server,
        system: Connection,
        installation: Installation,
        now: int,
    ) -> None:
        """Bring one tenant to what it should be; what goes wrong is in `work.trouble`."""
        try:
            await self._align(work, server, system, installation, now)
        except AccountsError as error:
            work.trouble = error
            self._aligned.pop(work.account, None)
            if isinstance(error, StreamRefusedError):
                self._without_stream.add(work.account)
        else:
            self._without_stream.discard(work.account)

    async def _align(
        self,
        work: TenantWork,
        server: Server,
        system: Connection,
        installation: Installation,
        now: int,
    ) -> None:
        record, settings = work.record, self._settings
        body = tenants.account_body(
            record,
            replicas=settings.replicas,
            is_shared=installation.is_shared,
            admits_users=not work.wanted.is_suspended,
            takes_records=not work.wanted.is_suspended,
        )
        served = {one.consumer: one for one in work.decision.served}
        basis = (body, {name: one.subjects for name, one in served.items()})
        is_known = self._aligned.get(work.account) == basis
        if is_known and not self._is_whole:
            await self._supply(work, list(served.values()), now)
            return
        was_pushed = await server.align_account(
            system,
            account=work.account,
            name=work.wanted.name,
            body=body,
            now=now,
            # An account for which there was no room has no JetStream until it is pushed again.
            is_forced=work.account in self._without_stream,
        )
        if work.wanted.is_suspended:
            self._aligned[work.account] = basis
            return
        if was_pushed or not is_known or work.looks_at_stream:
            refused = await self._align_stream(work, server)
            for name, error in refused.items():
                lost = served.pop(name)
                work.auditor_states[lost.uid] = AuditorState(
                    AuditorReason.CONSUMER_REFUSED, str(error)
                )
            if not refused:
                self._aligned[work.account] = basis
        await self._supply(work, list(served.values()), now)

    async def _align_stream(
        self, work: TenantWork, server: Server
    ) -> dict[str, ConsumerRefusedError]:
        async with server.manager(work.record.account) as manager:
            quotas = work.record.account.quotas
            await ensure_stream(manager, quotas, replicas=self._settings.replicas)
            # A filter that is kept for an auditor whose nodes are away stays as it is.
            kept = [
                work.record.auditors[uid].consumer
                for uid in work.decision.refused
                if uid in work.record.auditors
            ]
            wanted = {one.consumer: one.subjects for one in work.decision.served}
            return await align_consumers(manager, wanted, kept)

    # -- credentials -----------------------------------------------------------------------------

    async def _supply(self, work: TenantWork, served: list[WantedAuditor], now: int) -> None:
        """Give credentials to those who need new ones, and see that the others' are there."""
        signer = work.record.account.auditor.public
        due: list[WantedAuditor] = []
        for one in served:
            record = work.record.auditors.get(one.uid)
            if auditors.is_due(one, record, signer, now):
                due.append(one)
            elif self._checked.get(one.uid) != one.policies and one.uid not in self._unsent:
                await self._check(work, one, due)
        for one in due:
            self._unsent[one.uid] = self._mint(work, one, now)
        if due:
            await self._vault.put_tenant(work.record)
        for one in served:
            await self._send(work, one)

    async def _check(self, work: TenantWork, one: WantedAuditor, due: list[WantedAuditor]) -> None:
        newest = work.record.auditors[one.uid].users[-1]
        try:
            if not await self._secrets.holds(one, newest.public):
                due.append(one)
            self._checked[one.uid] = one.policies
        except SecretTakenError as error:
            work.auditor_states[one.uid] = AuditorState(AuditorReason.SECRET_TAKEN, str(error))
        except ApiError as error:
            work.auditor_states[one.uid] = _unwritten(error)

    def _mint(self, work: TenantWork, one: WantedAuditor, now: int) -> Credentials:
        user = auditor_user(
            work.record.account,
            one.consumer,
            lifetime_s=one.life_s,
            clock=lambda: now,
            inbox_prefix=auditor_inbox(one.consumer),
        )
        given = TimedKey(user.key.public, user.expires_at, at=now)
        work.record = auditors.given(work.record, one, given, now)
        return user

    async def _send(self, work: TenantWork, one: WantedAuditor) -> None:
        user = self._unsent.get(one.uid)
        try:
            if user is not None:
                await self._secrets.put(one, user)
                del self._unsent[one.uid]
                self._checked[one.uid] = one.policies
        except SecretTakenError as error:
            work.auditor_states[one.uid] = AuditorState(AuditorReason.SECRET_TAKEN, str(error))
        except ApiError as error:
            work.auditor_states[one.uid] = _unwritten(error)
        until = work.record.auditors[one.uid].users[-1].until
        work.auditor_states.setdefault(one.uid, auditors.served_state(one, until))

    # -- the end ---------------------------------------------------------------------------------

    async def close(
        self,
        record: TenantRecord,
        server: Server,
        system: Connection,
        installation: Installation,
        now: int,
    ) -> None:
        """Let nobody into the account of a tenant that is gone; what nodes owe it still comes in.

        Raises:
            AccountsError: the server does not do it.
        """
        body = tenants.account_body(
            record,
            replicas=self._settings.replicas,
            is_shared=installation.is_shared,
            admits_users=False,
            takes_records=True,
        )
        account = record.account.account.public
        if self._is_whole or self._aligned.get(account) != body:
            await server.align_account(
                system, account=account, name=record.account.name, body=body, now=now
            )
            self._aligned[account] = body

    async def release(
        self,
        record: TenantRecord,
        server: Server,
        system: Connection,
        installation: Installation,
        now: int,
    ) -> None:
        """Take a tenant's stream, account and keys away, in this order.

        Raises:
            AccountsError: the server does not do it; what is left is left for the next pass.
            ApiError: the keys cannot be deleted.
        """
        name, account = record.account.name, record.account.account.public
        body = tenants.account_body(
            record,
            replicas=self._settings.replicas,
            is_shared=installation.is_shared,
            admits_users=True,
            takes_records=False,
        )
        # It let nobody in until now, and may even be lost; the stream's manager has to get in.
        await server.align_account(system, account=account, name=name, body=body, now=now)
        async with server.manager(record.account) as manager:
            await delete_stream(manager)
        await delete_accounts(
            system, accounts=[account], signer=installation.signing, issued_at=now, what=name
        )
        self._aligned.pop(account, None)
        await self._vault.drop_tenant(name)


def _unwritten(error: ApiError) -> AuditorState:
    return AuditorState(
        AuditorReason.SECRET_UNWRITTEN, f"its Secret is written again later: {error}"
    )
