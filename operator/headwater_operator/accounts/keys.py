# SPDX-License-Identifier: Apache-2.0
"""All keys of one installation: the operator's, the capture account's, and each tenant's.

Why: an account is a key; whoever keeps the keys decides who the tenants are. One file for the
operator, one per tenant, each written whole, so a crash leaves no half-made identity. Called by the
embedded NATS (local mode); in a cluster the same keys are in Secrets
(`headwater_operator.provisioning`). Next come `push` (accounts) and `users` (credentials).
Promise: G5.
"""

import dataclasses
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from headwater_operator.accounts import claims
from headwater_operator.accounts.errors import KeyStateError, TenantNameError
from headwater_operator.accounts.key_files import (
    damaged,
    prepare_directory,
    read_json,
    write_json,
)
from headwater_operator.accounts.key_pair import KeyPair, Role
from headwater_operator.accounts.quotas import Quotas

_VERSION = 1
_OPERATOR_FILE = "operator.json"
_TENANTS = "tenants"
_TENANT_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")

_OPERATOR_ROLES = {
    "operator": Role.OPERATOR,
    "operator_signing": Role.OPERATOR,
    "system_account": Role.ACCOUNT,
    "system_signing": Role.ACCOUNT,
    "capture_account": Role.ACCOUNT,
    "capture_agent": Role.ACCOUNT,
}


def check_tenant_name(name: str) -> str:
    """Return `name` if it can be a tenant's: it becomes a file name and a token of subjects.

    Raises:
        TenantNameError: it is not a DNS label.
    """
    if _TENANT_NAME.fullmatch(name) is None:
        raise TenantNameError(
            f'tenant: "{name}" is not a name for a tenant',
            'write 1 to 63 of a-z, 0-9 and "-", not "-" at either end',
        )
    return name


@dataclass(frozen=True, slots=True)
class TenantAccount:
    """A tenant: its quotas and the keys of its account."""

    name: str
    """As in the ProvenanceTenant; also the token in the capture account's subjects."""

    quotas: Quotas
    """In force since the account was pushed last."""

    account: KeyPair
    """The account's identity. It signs nothing: the operator requires signing keys."""

    signing: KeyPair
    """Signs users that carry permissions of their own: the stream's manager."""

    auditor: KeyPair
    """Scoped: signs auditors and can sign nothing else."""


class OperatorKeys:
    """The keys of one installation, and the tokens that follow from them.

    Args:
        directory: where they are kept, owner-only.
        pairs: the operator's own, by the names in its file.
        clock: seconds since 1970.
    """

    def __init__(
        self, directory: Path, pairs: dict[str, KeyPair], clock: Callable[[], float]
    ) -> None:
        self._directory = directory
        self._clock = clock
        self.identity = pairs["operator"]
        self.signing = pairs["operator_signing"]
        self.system_account = pairs["system_account"]
        self.system_signing = pairs["system_signing"]
        self.capture_account = pairs["capture_account"]
        self.capture_agent = pairs["capture_agent"]

    @classmethod
    def create_or_load(cls, directory: Path, clock: Callable[[], float] = time.time) -> Self:
        """Load the keys in `directory`; make them if there are none.

        Raises:
            KeyStateError: the directory or a file in it is damaged, open to others or not writable.
                Damaged keys are never replaced: new ones would lock every tenant out.
        """
        prepare_directory(directory)
        prepare_directory(directory / _TENANTS)
        path = directory / _OPERATOR_FILE
        if read_json(path) is None:
            if any((directory / _TENANTS).glob("*.json")):
                raise KeyStateError(
                    f"{path}: is missing, yet tenants' keys are there",
                    "restore it from a copy; or move the whole state directory away to start anew",
                )
            made = {name: KeyPair.generate(role).seed for name, role in _OPERATOR_ROLES.items()}
            write_json(path, {"version": _VERSION, **made})
        return cls.load(directory, clock)

    @classmethod
    def load(cls, directory: Path, clock: Callable[[], float] = time.time) -> Self:
        """Load the keys that another process keeps in `directory`, without writing.

        Raises:
            KeyStateError: there are none, or as for `create_or_load`.
        """
        path = directory / _OPERATOR_FILE
        content = read_json(path)
        if content is None:
            raise KeyStateError(f"{path}: there are no keys", "check the state directory's name")
        return cls(directory, _parse_pairs(path, content, _OPERATOR_ROLES), clock)

    @property
    def system_account_key(self) -> str:
        """Public key of the system account."""
        return self.system_account.public

    # -- tenants ---------------------------------------------------------------------------------

    def tenants(self) -> list[TenantAccount]:
        """Return every tenant, by name.

        Raises:
            KeyStateError: a tenant's file is damaged or open to others.
        """
        names = sorted(path.stem for path in (self._directory / _TENANTS).glob("[a-z0-9]*.json"))
        return [self.tenant(name) for name in names]

    def tenant(self, name: str) -> TenantAccount:
        """Return one tenant.

        Raises:
            TenantNameError: there is none of that name.
            KeyStateError: its file is damaged or open to others.
        """
        account = self._read_tenant(check_tenant_name(name))
        if account is None:
            known = ", ".join(tenant.name for tenant in self.tenants()) or "none yet"
            raise TenantNameError(f'tenant: "{name}" has no account', f"known are: {known}")
        return account

    def ensure_tenant(self, name: str, quotas: Quotas) -> TenantAccount:
        """Return the tenant with these quotas, making its keys or changing its quotas on disk.

        Raises:
            TenantNameError: `name` is not a name.
            KeyStateError: its file is damaged, open to others or cannot be written.
        """
        account = self._read_tenant(check_tenant_name(name))
        if account is not None and account.quotas == quotas:
            return account
        if account is None:
            made = [KeyPair.generate(Role.ACCOUNT) for _ in range(3)]
            account = TenantAccount(name, quotas, *made)
        else:
            account = dataclasses.replace(account, quotas=quotas)
        write_json(
            self._tenant_path(name),
            {
                "version": _VERSION,
                "account": account.account.seed,
                "signing": account.signing.seed,
                "auditor": account.auditor.seed,
                "quotas": dataclasses.asdict(quotas),
            },
        )
        return account

    def _tenant_path(self, name: str) -> Path:
        return self._directory / _TENANTS / f"{name}.json"

    def _read_tenant(self, name: str) -> TenantAccount | None:
        path = self._tenant_path(name)
        content = read_json(path)
        if content is None:
            return None
        roles = dict.fromkeys(("account", "signing", "auditor"), Role.ACCOUNT)
        pairs = _parse_pairs(path, content, roles)
        fields = content.get("quotas")
        names = {field.name for field in dataclasses.fields(Quotas)}
        if not isinstance(fields, dict) or not all(
            key in names and type(value) is int for key, value in fields.items()
        ):
            raise damaged(path, "quotas")
        return TenantAccount(name, Quotas(**fields), **pairs)

    # -- tokens ----------------------------------------------------------------------------------

    def operator_token(self) -> str:
        """Return the operator's token, for the server's configuration."""
        return claims.operator_token(
            identity=self.identity,
            signing=[self.signing.public],
            system_account=self.system_account.public,
            issued_at=int(self._clock()),
        )

    def system_account_token(self) -> str:
        """Return the system account's token, for the server's configuration."""
        return claims.system_account_token(
            account=self.system_account.public,
            user_keys=[self.system_signing.public],
            signer=self.signing,
            issued_at=int(self._clock()),
        )

    def capture_account_token(self) -> str:
        """Return the capture account's token, with every tenant's import in it."""
        body = claims.capture_account_body(
            agent_keys=[self.capture_agent.public],
            tenants=[
                claims.TenantImport(tenant.name, tenant.account.public) for tenant in self.tenants()
            ],
        )
        return self._account_token(self.capture_account.public, "capture", body)

    def tenant_account_token(self, tenant: TenantAccount) -> str:
        """Return a tenant account's token."""
        body = claims.tenant_account_body(
            signing_keys=[tenant.signing.public],
            auditor_keys=[tenant.auditor.public],
            quotas=tenant.quotas,
        )
        return self._account_token(tenant.account.public, tenant.name, body)

    def _account_token(self, account: str, name: str, body: dict[str, Any]) -> str:
        return claims.encode(
            subject=account,
            name=name,
            body=body,
            signer=self.signing,
            issued_at=int(self._clock()),
        )


def _parse_pairs(path: Path, content: dict[str, Any], roles: dict[str, Role]) -> dict[str, KeyPair]:
    """Return the key pairs of a file; name the field that is wrong, never its value."""
    if content.get("version") != _VERSION:
        raise damaged(path, f"version: expected {_VERSION}")
    pairs = {}
    for name, role in roles.items():
        seed = content.get(name)
        if not isinstance(seed, str):
            raise damaged(path, f"{name}: missing")
        try:
            pairs[name] = KeyPair(seed, role)
        except ValueError as error:
            raise damaged(path, f"{name}: {error}") from None
    return pairs
