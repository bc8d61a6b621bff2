# SPDX-License-Identifier: Apache-2.0
"""Tenants' NATS accounts: keys, JWTs and streams.

`OperatorKeys` keeps the identities, `agent_user` and `auditor_user` mint short-lived credentials,
`push_account` and `ensure_stream` bring a running server into line. Local mode drives it from
`headwater_cli.embedded_nats`, a cluster from `headwater_operator.provisioning`; both run the same
code.
"""

from headwater_operator.accounts import claims
from headwater_operator.accounts.claims import AuditorScope, TenantImport, auditor_inbox
from headwater_operator.accounts.connecting import Connection, connected
from headwater_operator.accounts.consumers import align_consumers
from headwater_operator.accounts.errors import (
    AccountsError,
    ClaimsRefusedError,
    ConsumerRefusedError,
    KeyStateError,
    QuotaError,
    ServerUnreachableError,
    StreamRefusedError,
    TenantNameError,
)
from headwater_operator.accounts.key_pair import KeyPair, Role, is_public_key
from headwater_operator.accounts.keys import OperatorKeys, TenantAccount, check_tenant_name
from headwater_operator.accounts.monitoring import (
    ConnectedUser,
    Storage,
    connected_users,
    measure_storage,
)
from headwater_operator.accounts.push import (
    applied_claims,
    delete_accounts,
    push_account,
    stored_claims,
)
from headwater_operator.accounts.quotas import (
    ROOM_FOR_GAPS_BYTES,
    Quotas,
    Reservation,
    check_reservations,
    share_out,
)
from headwater_operator.accounts.streams import delete_stream, ensure_stream, stream_config
from headwater_operator.accounts.users import (
    MANAGING,
    Credentials,
    agent_token,
    agent_user,
    auditor_user,
    system_user,
    unrestricted_user,
)

__all__ = [
    "MANAGING",
    "ROOM_FOR_GAPS_BYTES",
    "AccountsError",
    "AuditorScope",
    "ClaimsRefusedError",
    "ConnectedUser",
    "Connection",
    "ConsumerRefusedError",
    "Credentials",
    "KeyPair",
    "KeyStateError",
    "OperatorKeys",
    "QuotaError",
    "Quotas",
    "Reservation",
    "Role",
    "ServerUnreachableError",
    "Storage",
    "StreamRefusedError",
    "TenantAccount",
    "TenantImport",
    "TenantNameError",
    "agent_token",
    "agent_user",
    "align_consumers",
    "applied_claims",
    "auditor_inbox",
    "auditor_user",
    "check_reservations",
    "check_tenant_name",
    "claims",
    "connected",
    "connected_users",
    "delete_accounts",
    "delete_stream",
    "ensure_stream",
    "is_public_key",
    "measure_storage",
    "push_account",
    "share_out",
    "stored_claims",
    "stream_config",
    "system_user",
    "unrestricted_user",
]
