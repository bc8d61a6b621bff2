# SPDX-License-Identifier: Apache-2.0
"""NATS as the operator comes to it: into the system account, and into a tenant's.

Why: both ways are as short as the work that is done by them. An account is held against what it
should be by reading it back, not by remembering what was pushed: somebody else may have pushed
since, and the server takes whatever it is given. Called by `provisioner` and `tenants`.
Promise: G5.
"""

import logging
import ssl
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any

from headwater_operator.accounts import (
    Connection,
    TenantAccount,
    applied_claims,
    claims,
    connected,
    push_account,
    stored_claims,
    unrestricted_user,
)
from headwater_operator.provisioning.installation import Installation
from headwater_operator.provisioning.settings import NatsSettings

log = logging.getLogger(__name__)

_MANAGER_LIFETIME_S = 60.0


class Server:
    """One NATS, for one pass.

    Args:
        settings: where it is.
        installation: as whom the operator comes.
        tls: whom to trust; None for the system's authorities.
    """

    def __init__(
        self, settings: NatsSettings, installation: Installation, tls: ssl.SSLContext | None
    ) -> None:
        self._settings = settings
        self._installation = installation
        self._tls = tls

    def system(self) -> AbstractAsyncContextManager[Connection]:
        """A connection of the system account, for as long as the context lasts.

        Raises:
            ServerUnreachableError: none is to be had.
        """
        user = self._installation.system_user()
        return connected(self._settings.servers, user, tls=self._tls)

    def manager(self, tenant: TenantAccount) -> AbstractAsyncContextManager[Connection]:
        """A connection of a tenant's account that may do all that the account may.

        Raises:
            ServerUnreachableError: none is to be had.
        """
        user = unrestricted_user(tenant, "operator", lifetime_s=_MANAGER_LIFETIME_S)
        return connected(self._settings.servers, user, tls=self._tls, attempts=2)

    async def align_account(
        self,
        system: Connection,
        *,
        account: str,
        name: str,
        body: Mapping[str, Any],
        now: int,
        is_forced: bool = False,
        is_looked_into: bool = False,
    ) -> bool:
        """See that the server has an account as it should be.

        Args:
            system: a connection of the system account.
            account: the account's public key.
            name: of the account, for messages and monitoring.
            body: what is to be claimed of it.
            now: seconds since 1970.
            is_forced: push it even if the server has just this.
            is_looked_into: see that no server works by another token than it stores; some tenths of
                a second.

        Returns:
            Whether it had to be pushed.

        Raises:
            ClaimsRefusedError: the server does not take it, or does not answer.
            ServerUnreachableError: no server says what it works by.
        """
        signer = self._installation.signing
        stored = await stored_claims(system, account, name)
        if stored is not None and stored.issuer == signer.public:
            if stored.subject == account and stored.body == body and not is_forced:
                applied = await applied_claims(system, account) if is_looked_into else []
                if all(one == stored for one in applied):
                    return False
                log.warning("NATS works by another token of account %s than it stores", name)
            # Of two servers that compare what they have the later one wins, whatever our clock did.
            now = max(now, stored.issued_at + 1)
        token = claims.encode(subject=account, name=name, body=body, signer=signer, issued_at=now)
        await push_account(system, account=account, token=token, what=name)
        return True
