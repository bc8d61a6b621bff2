# SPDX-License-Identifier: Apache-2.0
"""Tenants' NATS accounts: keys, JWTs and streams.

`OperatorKeys` keeps the identities, `agent_user` and `auditor_user` mint short-lived credentials,
`push_account` and `ensure_stream` bring a running server into line. Local mode drives it from
`headwater_cli.embedded_nats`, a cluster from the operator's handlers; both run the same code.
"""

from headwater_operator.accounts.errors import (
    AccountsError,
    ClaimsRefusedError,
    KeyStateError,
    QuotaError,
    StreamRefusedError,
    TenantNameError,
)
from headwater_operator.accounts.key_pair import KeyPair, Role
from headwater_operator.accounts.keys import OperatorKeys, TenantAccount, check_tenant_name
from headwater_operator.accounts.push import push_account
from headwater_operator.accounts.quotas import ROOM_FOR_GAPS_BYTES, Quotas, check_reservations
from headwater_operator.accounts.streams import ensure_stream, stream_config
from headwater_operator.accounts.users import (
    Credentials,
    agent_user,
    auditor_user,
    system_user,
    unrestricted_user,
)

__all__ = [
    "ROOM_FOR_GAPS_BYTES",
    "AccountsError",
    "ClaimsRefusedError",
    "Credentials",
    "KeyPair",
    "KeyStateError",
    "OperatorKeys",
    "QuotaError",
    "Quotas",
    "Role",
    "StreamRefusedError",
    "TenantAccount",
    "TenantNameError",
    "agent_user",
    "auditor_user",
    "check_reservations",
    "check_tenant_name",
    "ensure_stream",
    "push_account",
    "stream_config",
    "system_user",
    "unrestricted_user",
]
