# SPDX-License-Identifier: Apache-2.0
"""Brings NATS from what is to what tenants and auditors want.

Why: one loop that can be interrupted anywhere. Each pass begins with what the Secrets say and what
the model says, writes what is to be remembered, and only then tells the server; so whatever died in
between, the next pass goes on. Nothing is taken for done because it was done once: every half a
minute each account is read back. Runs while this operator leads; next, `cluster.statuses` says what
came of it. Promises: G5, G8.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Mapping
from typing import Final

from headwater_prov.policy import PLATFORM_TENANT

from headwater_operator.accounts import (
    AccountsError,
    Connection,
    QuotaError,
    measure_storage,
    share_out,
)
from headwater_operator.cluster.api import ApiError
from headwater_operator.cluster.kinds import AUDITORS, NAMESPACES, NODES, TENANTS
from headwater_operator.cluster.observed import Cluster, Observed
from headwater_operator.cluster.provisioned import (
    AccountReason,
    AccountState,
    AuditorReason,
    AuditorState,
    Provisioned,
)
from headwater_operator.cluster.tenancy import Ownership, resolve
from headwater_operator.provisioning import auditors, tenants
from headwater_operator.provisioning.agents import IssuedAgents, node_tokens, without_gone_nodes
from headwater_operator.provisioning.auditor_secrets import AuditorSecrets
from headwater_operator.provisioning.bringing import Bringing, TenantWork, reason_of
from headwater_operator.provisioning.installation import Installation
from headwater_operator.provisioning.records import CaptureRecord, TenantRecord
from headwater_operator.provisioning.server import Server
from headwater_operator.provisioning.settings import NatsSettings
from headwater_operator.provisioning.tenants import WantedTenant
from headwater_operator.provisioning.vault import (
    CAPTURE_SECRET,
    SecretApi,
    Vault,
    tenant_secret,
)

log = logging.getLogger(__name__)

_GATHER_S: Final = 0.1
"""After a change, how long further ones are waited for."""

_RETRY_FIRST_S: Final = 1.0
_AT_ONCE: Final = 8
"""Tenants that are worked on at a time."""


class Provisioner:
    """See the module. Belongs to the event loop's thread.

    Args:
        api: where the Secrets are.
        cluster: the model.
        provisioned: is told what has become of tenants and auditors.
        settings: of NATS.
        agents: which keys were given tokens.
        clock: seconds since 1970.
    """

    def __init__(
        self,
        api: SecretApi,
        cluster: Cluster,
        provisioned: Provisioned,
        settings: NatsSettings,
        agents: IssuedAgents,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.passes = 0
        """Passes that have come to their end."""
        self._cluster = cluster
        self._provisioned = provisioned
        self._settings = settings
        self._agents = agents
        self._clock = clock
        self._vault = Vault(api, settings.namespace, settings.secret)
        self._bringing = Bringing(self._vault, AuditorSecrets(api, settings), settings)
        self._wake = asyncio.Event()
        self._storage_bytes: int | None = None
        self._turn = 0
        """Whose streams are looked at in the next pass."""
        self._captured: object = None
        """What the capture account was last seen to be."""
        self._has_node_gone = True

    def notice(self, old: Observed | None, new: Observed | None) -> None:
        """Be told of a change of the model."""
        about = new or old
        assert about is not None
        if about.kind is NODES:
            self._has_node_gone |= new is None
            is_news = old is None or new is None or old.status != new.status
        else:
            is_of_interest = about.kind in (TENANTS, AUDITORS, NAMESPACES)
            is_news = is_of_interest and (old is None or new is None or not old.has_same_spec(new))
        if is_news:
            self._wake.set()

    async def run(self) -> None:
        """Work until cancelled. May be run again afterwards, by the next term as leader."""
        self._wake.set()
        failures = 0
        last_whole_s = float("-inf")
        interval_s = self._settings.check_interval_s
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(interval_s, _RETRY_FIRST_S * 2**failures)):
                    await self._wake.wait()
            await asyncio.sleep(_GATHER_S)
            now_s = time.monotonic()
            is_whole = bool(failures) or now_s - last_whole_s >= interval_s
            if not self._cluster.is_complete or not (is_whole or self._wake.is_set()):
                continue
            self._wake.clear()
            try:
                await self.once(is_whole=is_whole)
            except (AccountsError, ApiError) as error:
                self._say_failure(error)
                failures = min(failures + 1, 5)
            else:
                failures = 0
                last_whole_s = now_s if is_whole else last_whole_s

    # -- one pass --------------------------------------------------------------------------------

    async def once(self, *, is_whole: bool = True) -> None:
        """One pass.

        Args:
            is_whole: read everything back from the server, not only what has changed.

        Raises:
            AccountsError: the server, or a key without which nothing can be done, cannot be used.
            ApiError: Secrets cannot be read or written.
        """
        now = int(self._clock())
        vault, settings = self._vault, self._settings
        installation = await vault.installation()
        await vault.load()
        if is_whole:
            self._bringing.begin_whole_pass()
        server = Server(settings, installation, settings.make_tls())
        accounts: dict[str, AccountState] = {}
        auditor_states: dict[str, AuditorState] = {}
        async with server.system() as system:
            ownership = resolve(self._cluster.of(TENANTS).values(), self._cluster.of(NAMESPACES))
            wanted = self._wanted(accounts)
            granted = await self._share_out(system, wanted, is_whole=is_whole)
            working: list[TenantWork] = []
            for one in wanted:
                work = await self._remember(one, granted[one.name], ownership, now)
                if work is None:
                    reason = AccountReason.QUOTA_EXCEEDS_STORAGE
                    accounts[one.name] = AccountState(
                        reason, str(granted[one.name]), generation=one.generation
                    )
                else:
                    working.append(work)
            self._choose_streams(working, is_whole=is_whole)
            at_once = asyncio.Semaphore(_AT_ONCE)

            async def bring(work: TenantWork) -> None:
                async with at_once:
                    await self._bringing.bring(work, server, system, installation, now)

            # The server gives nothing that somebody else has not given back yet.
            for takes_more in (False, True):
                await asyncio.gather(
                    *(bring(one) for one in working if one.takes_more is takes_more)
                )
            due, kept = await self._remember_gone({one.name for one in wanted}, now)
            for record in kept:
                await self._bringing.close(record, server, system, installation, now)
            await self._remember_capture(system, is_whole=is_whole, now=now)
            await self._align_capture(server, system, installation, due, is_whole=is_whole, now=now)
            await vault.put_object_keys()
            for work in working:
                accounts[work.wanted.name] = work.state()
                auditor_states |= work.decision.refused
                auditor_states |= work.auditor_states
            auditor_states = self._of_no_tenant(ownership) | auditor_states
            self._provisioned.say(accounts, auditor_states)
            for name in due:
                await self._bringing.release(vault.tenants[name], server, system, installation, now)
                log.info("tenant %s is gone: its stream, its account and its keys", name)
            if due:
                await vault.put_object_keys()
        if any(work.trouble for work in working):
            # Not a failure of all: the others are done. It is tried again before the next interval.
            asyncio.get_running_loop().call_later(_RETRY_FIRST_S * 5, self._wake.set)
        self._bringing.end_pass()
        self.passes += 1

    def _wanted(self, accounts: dict[str, AccountState]) -> list[WantedTenant]:
        """What all tenants want, the oldest first; the platform's own before all."""
        found = [tenants.platform_tenant(self._settings.platform_quotas)]
        for tenant in tenants.by_age(self._cluster.of(TENANTS)):
            try:
                if tenant.name != PLATFORM_TENANT:
                    found.append(tenants.wanted_tenant(tenant))
            except (QuotaError, ValueError) as error:
                accounts[tenant.name] = AccountState(AccountReason.ACCOUNT_REFUSED, str(error))
        for name, problem in self._vault.damaged.items():
            accounts[name] = AccountState(AccountReason.KEYS_UNUSABLE, problem)
        return [one for one in found if one.name not in self._vault.damaged]

    async def _share_out(
        self, system: Connection, wanted: list[WantedTenant], *, is_whole: bool
    ) -> Mapping[str, QuotaError | None]:
        vault, replicas = self._vault, self._settings.replicas
        reservations = [
            tenants.reservation(one, vault.tenants.get(one.name), replicas) for one in wanted
        ]
        # Tenants that are gone and kept hold what they have, until their time is over.
        names = {one.name for one in wanted}
        kept_bytes = sum(
            record.account.quotas.reserved_bytes * replicas
            for name, record in vault.tenants.items()
            if name not in names
        )
        asks_more = any(one.wanted_bytes > one.held_bytes for one in reservations)
        if is_whole or asks_more or self._storage_bytes is None:
            ours = {record.account.account.public for record in vault.tenants.values()}
            storage = await measure_storage(system, ours)
            self._storage_bytes = storage.total_bytes - storage.others_bytes
        return share_out(reservations, self._storage_bytes - kept_bytes)

    async def _remember(
        self, wanted: WantedTenant, refusal: QuotaError | None, ownership: Ownership, now: int
    ) -> TenantWork | None:
        """Write down what a tenant is to have; None for one that has and gets nothing."""
        vault = self._vault
        before = vault.tenants.get(wanted.name)
        record = tenants.next_record(
            wanted,
            before,
            is_granted=refusal is None,
            rotation=vault.rotations.get(tenant_secret(wanted.name), ""),
            now=now,
        )
        if record is None:
            return None
        own = [
            one
            for one in self._cluster.of(AUDITORS).values()
            if not one.is_leaving and ownership.tenant_of.get(one.namespace) == wanted.name
        ]
        decision = auditors.decide(
            own,
            maximum=wanted.auditors_max,
            is_suspended=wanted.is_suspended,
            node_tokens=node_tokens(self._cluster.of(NODES).values()),
        )
        record = auditors.without(record, auditors.ended(record, decision), now)
        if record != before:
            await vault.put_tenant(record)
        held = before.account.quotas.reserved_bytes if before is not None else 0
        takes_more = record.account.quotas.reserved_bytes > held
        return TenantWork(wanted, record, decision, refusal, takes_more=takes_more)

    def _choose_streams(self, working: list[TenantWork], *, is_whole: bool) -> None:
        """Which streams are looked at, though nothing has changed: some in each whole pass."""
        for work in working:
            work.looks_at_stream = False
        if is_whole and working:
            count = min(len(working), self._settings.streams_per_pass)
            for number in range(count):
                working[(self._turn + number) % len(working)].looks_at_stream = True
            self._turn = (self._turn + count) % len(working)

    async def _remember_gone(
        self, wanted: set[str], now: int
    ) -> tuple[list[str], list[TenantRecord]]:
        """Write down which tenants are gone; returns whose time is over, and who is kept."""
        vault = self._vault
        for name, record in list(vault.tenants.items()):
            if name not in wanted:
                left = tenants.gone(auditors.without(record, record.auditors, now), now)
                if left != record:
                    log.info("tenant %s was deleted; it is kept for %d s", name, record.keep_s)
                    await vault.put_tenant(left)
        ended = {name: one for name, one in vault.tenants.items() if name not in wanted}
        due = [name for name, record in ended.items() if tenants.is_due(record, now)]
        return due, [record for name, record in ended.items() if name not in due]

    # -- the account of the agents ---------------------------------------------------------------

    async def _remember_capture(self, system: Connection, *, is_whole: bool, now: int) -> None:
        before = self._vault.capture
        life_s = self._settings.agent_token_s
        after = tenants.next_capture(
            before or CaptureRecord.new(),
            rotation=self._vault.rotations.get(CAPTURE_SECRET, ""),
            token_life_s=life_s,
            now=now,
        )
        if before is not None and (is_whole or self._has_node_gone):
            self._has_node_gone = False
            after = await without_gone_nodes(
                system,
                after,
                self._agents,
                node_tokens(self._cluster.of(NODES).values()),
                token_life_s=life_s,
                now=now,
            )
        if after != before:
            await self._vault.put_capture(after)

    async def _align_capture(
        self,
        server: Server,
        system: Connection,
        installation: Installation,
        due: list[str],
        *,
        is_whole: bool,
        now: int,
    ) -> None:
        capture = self._vault.capture
        assert capture is not None
        suspended = {
            one.name for one in self._cluster.of(TENANTS).values() if one.spec.get("suspend")
        }
        records = [
            record
            for name, record in self._vault.tenants.items()
            if name not in due and name not in suspended
        ]
        body = tenants.capture_body(capture, records, is_shared=installation.is_shared)
        if is_whole or self._captured != body:
            self._captured = None
            await server.align_account(
                system,
                account=capture.capture_account.public,
                name="capture",
                body=body,
                now=now,
                is_looked_into=True,
            )
            self._captured = body

    # -- what is said ----------------------------------------------------------------------------

    def _of_no_tenant(self, ownership: Ownership) -> dict[str, AuditorState]:
        """What is said of auditors that no tenant with an account has."""
        states = {}
        for one in self._cluster.of(AUDITORS).values():
            owner = ownership.tenant_of.get(one.namespace)
            if owner is None:
                states[one.uid] = AuditorState(
                    AuditorReason.NO_TENANT,
                    f'no ProvenanceTenant owns namespace "{one.namespace}"; ask the platform team '
                    "to list it in spec.namespaces of a tenant",
                )
            else:
                states[one.uid] = AuditorState(
                    AuditorReason.TENANT_NOT_READY,
                    f"tenant {owner} has no account yet; see its condition AccountReady",
                )
        return states

    def _say_failure(self, error: AccountsError | ApiError) -> None:
        """Nothing could be done for anybody: so it is said of everybody."""
        log.warning("NATS is brought in line later: %s", error)
        reason = AccountReason.PROVISIONING
        if isinstance(error, AccountsError):
            reason = reason_of(error)
        self._provisioned.say_everybody(
            {one.name for one in self._cluster.of(TENANTS).values()}, reason, str(error)
        )
