# SPDX-License-Identifier: Apache-2.0
"""How another process of the same owner reaches a running embedded server.

Why: `headwater tail` and `headwater lineage` are programs of their own. Whoever may read the state
directory holds the keys in it, so it mints its own short-lived auditor instead of being handed one.
Called by those verbs, and by `EmbeddedNats`, which is one of these for its own state.
Promise: G5, what is minted here can read one tenant's stream and nothing else.
"""

import json
import os
from pathlib import Path
from typing import Self

from headwater_operator.accounts import AccountsError, Credentials, OperatorKeys, auditor_user

from headwater_cli.embedded_nats.lock import is_held
from headwater_cli.errors import Failure

KEYS = "keys"
NATS = "nats"
_ADDRESS = "address.json"


class NatsAccess:
    """The address of an embedded server and credentials for its tenants.

    Args:
        url: for `nats.connect`.
        keys: of the installation.
    """

    def __init__(self, url: str, keys: OperatorKeys) -> None:
        self.url = url
        self.keys = keys

    @classmethod
    def open(cls, state: Path) -> Self:
        """Find the server that runs on `state`.

        Raises:
            Failure: none runs there, or the keys are not ours to read.
        """
        remedy = f'start one with "headwater serve --policies DIR --state {state}"'
        try:
            running = is_held(state)
            address = json.loads((state / NATS / _ADDRESS).read_text()) if running else None
        except FileNotFoundError:
            address = None
        except (OSError, ValueError) as error:
            raise Failure(f"{state}: cannot be read: {error}", "be the owner of it") from error
        if not isinstance(address, dict) or not isinstance(address.get("url"), str):
            raise Failure(f"{state}: no server runs on this state", remedy)
        try:
            return cls(address["url"], OperatorKeys.load(state / KEYS))
        except AccountsError as error:
            raise Failure(error.message, error.remedy) from error

    def tenant_credentials(
        self, tenant: str, expires_s: float = 3600.0, *, name: str = "headwater"
    ) -> Credentials:
        """Mint an auditor of `tenant`.

        Args:
            tenant: whose stream.
            expires_s: seconds until the server cuts the connection.
            name: shown in the server's log.

        Raises:
            Failure: there is no such tenant; the message lists those that are.
        """
        try:
            account = self.keys.tenant(tenant)
        except AccountsError as error:
            raise Failure(error.message, error.remedy) from error
        return auditor_user(account, name, lifetime_s=expires_s)


def write_address(state: Path, url: str) -> None:
    """Leave the server's address where `NatsAccess.open` looks for it."""
    path = state / NATS / _ADDRESS
    temporary = path.with_suffix(".new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with open(descriptor, "w") as stream:
        json.dump({"url": url}, stream)
    temporary.replace(path)


def remove_address(state: Path) -> None:
    """Take the address away again."""
    (state / NATS / _ADDRESS).unlink(missing_ok=True)
