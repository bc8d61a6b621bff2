# SPDX-License-Identifier: Apache-2.0
"""What a tenant wants of NATS, and what follows from it for its account.

Why: pure, so that every case can be tried without a server: from a ProvenanceTenant and what is
remembered of it to the next record, and from the record to the account's claims. Called by
`provisioner`, which remembers the record before it tells the server. Promise: G5.
"""

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from headwater_prov.policy import PLATFORM_TENANT
from headwater_prov.policy.quantities import parse_bytes, parse_seconds

from headwater_operator.accounts import (
    AuditorScope,
    KeyPair,
    Quotas,
    Reservation,
    Role,
    TenantImport,
    claims,
)
from headwater_operator.cluster.observed import Observed
from headwater_operator.provisioning.records import (
    CaptureRecord,
    TenantRecord,
    TimedKey,
    still_of_interest,
)

_CONNECTIONS_SPARE: Final = 8
"""Beside two for each auditor, which renews by a second one: the operator's own."""

_MANAGERS_GONE_S: Final = 120
"""After this long nobody is connected any more whom a replaced signing key has signed."""

_DEFAULT_STREAM_BYTES: Final = "1Gi"
_DEFAULT_STREAM_AGE: Final = "168h"
_DEFAULT_KEEP: Final = "24h"
_DEFAULT_AUDITORS: Final = 16


@dataclass(frozen=True, slots=True)
class WantedTenant:
    """What a ProvenanceTenant asks of NATS."""

    name: str
    quotas: Quotas
    auditors_max: int
    keep_s: int
    is_suspended: bool
    generation: int | None = None
    """Of the object that says so."""


def wanted_tenant(tenant: Observed) -> WantedTenant:
    """What a ProvenanceTenant asks for; admission has judged it, and filled in what it leaves out.

    Raises:
        ValueError: it was stored under other definitions, and a quantity is none.
        QuotaError: the same, and a quota is impossible.
    """
    quotas = tenant.spec.get("quotas") or {}
    auditors = int(quotas.get("auditors", _DEFAULT_AUDITORS))
    return WantedTenant(
        name=tenant.name,
        quotas=Quotas(
            stream_bytes=parse_bytes(quotas.get("streamBytes", _DEFAULT_STREAM_BYTES)),
            stream_age_s=parse_seconds(quotas.get("streamAge", _DEFAULT_STREAM_AGE)),
            consumers=max(1, auditors),
            connections=2 * auditors + _CONNECTIONS_SPARE,
        ),
        auditors_max=auditors,
        keep_s=parse_seconds(tenant.spec.get("keepAfterDeletion", _DEFAULT_KEEP)),
        is_suspended=bool(tenant.spec.get("suspend")),
        generation=tenant.generation,
    )


def platform_tenant(quotas: Quotas) -> WantedTenant:
    """The platform's own tenant, which has no object."""
    return WantedTenant(PLATFORM_TENANT, quotas, 0, 0, is_suspended=False)


def reservation(wanted: WantedTenant, record: TenantRecord | None, replicas: int) -> Reservation:
    """What a tenant has of the storage of all servers, and what it asks for."""
    held = record.account.quotas.reserved_bytes if record is not None else 0
    return Reservation(wanted.name, held * replicas, wanted.quotas.reserved_bytes * replicas)


def next_record(
    wanted: WantedTenant,
    record: TenantRecord | None,
    *,
    is_granted: bool,
    rotation: str,
    now: int,
) -> TenantRecord | None:
    """What is to be remembered of a tenant from now on.

    Args:
        wanted: what it asks for.
        record: what was remembered.
        is_granted: whether its quotas fit the server.
        rotation: the newest wish for new signing keys.
        now: seconds since 1970.

    Returns:
        None for a tenant that has nothing yet and whose quotas do not fit.
    """
    if record is None:
        if not is_granted:
            return None
        record = TenantRecord.new(wanted.name, wanted.quotas, keep_s=wanted.keep_s, now=now)
        return dataclasses.replace(record, rotation=rotation)
    granted = wanted.quotas
    if not is_granted:
        # All but what is reserved: that stays as it was.
        granted = dataclasses.replace(granted, stream_bytes=record.account.quotas.stream_bytes)
    record = dataclasses.replace(
        record,
        account=dataclasses.replace(record.account, quotas=granted),
        keep_s=wanted.keep_s,
        deleted_at=0,
        retired=still_of_interest(record.retired, now),
        retired_auditor=still_of_interest(record.retired_auditor, now),
        revoked=still_of_interest(record.revoked, now),
    )
    return _rotated(record, rotation, now) if rotation != record.rotation else record


def _rotated(record: TenantRecord, rotation: str, now: int) -> TenantRecord:
    """New signing keys; the old ones count until everybody whom they signed is gone."""
    old = record.account
    last = max(
        (user.until for auditor in record.auditors.values() for user in auditor.users), default=now
    )
    return dataclasses.replace(
        record,
        account=dataclasses.replace(
            old, signing=KeyPair.generate(Role.ACCOUNT), auditor=KeyPair.generate(Role.ACCOUNT)
        ),
        made_at=now,
        retired=(*record.retired, TimedKey(old.signing.public, now + _MANAGERS_GONE_S)),
        retired_auditor=(*record.retired_auditor, TimedKey(old.auditor.public, last)),
        rotation=rotation,
    )


def account_body(
    record: TenantRecord,
    *,
    replicas: int,
    is_shared: bool,
    admits_users: bool,
    takes_records: bool,
) -> dict[str, Any]:
    """What is to be claimed of a tenant's account.

    Args:
        record: of the tenant.
        replicas: copies of its stream.
        is_shared: whether accounts that are not ours may be on the server.
        admits_users: whether anybody may connect.
        takes_records: whether nodes may publish into it.
    """
    account = record.account
    return claims.tenant_account_body(
        signing_keys=[account.signing.public, *(one.public for one in record.retired)],
        auditor_keys=[account.auditor.public, *(one.public for one in record.retired_auditor)],
        quotas=account.quotas,
        replicas=replicas,
        scope=AuditorScope.OWN_CONSUMER,
        needs_activation=is_shared,
        admits_users=admits_users,
        takes_records=takes_records,
        revoked={one.public: one.at for one in record.revoked},
    )


def capture_body(
    capture: CaptureRecord, records: Iterable[TenantRecord], *, is_shared: bool
) -> dict[str, Any]:
    """What is to be claimed of the account that agents connect to.

    Args:
        capture: its keys.
        records: of the tenants that agents may publish for.
        is_shared: whether accounts that are not ours may be on the server.
    """

    def activation(record: TenantRecord) -> str:
        return claims.activation_token(
            tenant_account=record.account.account.public,
            capture_account=capture.capture_account.public,
            signer=record.account.signing,
            issued_at=record.made_at,
        )

    return claims.capture_account_body(
        agent_keys=[capture.capture_agent.public, *(one.public for one in capture.retired)],
        tenants=[
            TenantImport(
                record.account.name,
                record.account.account.public,
                activation(record) if is_shared else "",
            )
            for record in sorted(records, key=lambda one: one.account.name)
        ],
        revoked={one.public: one.at for one in capture.revoked},
    )


def next_capture(
    capture: CaptureRecord, *, rotation: str, token_life_s: float, now: int
) -> CaptureRecord:
    """What is to be remembered of the capture account from now on.

    Args:
        capture: what was remembered.
        rotation: the newest wish for a new scoped key.
        token_life_s: how long agents' tokens are good for.
        now: seconds since 1970.
    """
    capture = dataclasses.replace(
        capture,
        retired=still_of_interest(capture.retired, now),
        revoked=still_of_interest(capture.revoked, now),
    )
    if rotation == capture.rotation:
        return capture
    old = TimedKey(capture.capture_agent.public, int(now + token_life_s))
    return dataclasses.replace(
        capture,
        capture_agent=KeyPair.generate(Role.ACCOUNT),
        retired=(*capture.retired, old),
        rotation=rotation,
    )


def gone(record: TenantRecord, now: int) -> TenantRecord:
    """What is to be remembered of a tenant whose object is not there any more."""
    return record if record.deleted_at else dataclasses.replace(record, deleted_at=now)


def is_due(record: TenantRecord, now: int) -> bool:
    """Whether a tenant's account, stream and keys are to go."""
    return bool(record.deleted_at) and now >= record.deleted_at + record.keep_s


def by_age(tenants: Mapping[Any, Observed]) -> list[Observed]:
    """Tenants, the oldest first: it is the order in which storage is given."""
    return sorted(tenants.values(), key=lambda one: (one.created, one.uid))
