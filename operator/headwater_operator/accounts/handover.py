# SPDX-License-Identifier: Apache-2.0
"""The keys of a NATS of one's own, kept where the platform team likes, and what it hands over.

Why: whoever has the operator's identity owns the NATS for ever; the cluster needs no more than a
signing key of it, which can be replaced. So the identity stays in a directory, on a machine that
may be offline, and three texts leave it: the Secret for the operator, the server's configuration,
and nothing else. Each kind of key is replaced in two steps, and between them old and new are good:
`replace`, hand over, `retire`, hand over. Called by `headwater nats`; the Secret is read by
`headwater_operator.provisioning.installation`. Promise: G5.
"""

import base64
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Self

from headwater_operator.accounts import claims
from headwater_operator.accounts.errors import KeyStateError
from headwater_operator.accounts.key_files import damaged, prepare_directory, read_json, write_json
from headwater_operator.accounts.key_pair import KeyPair, Role

OPERATOR_SIGNING: Final = "operator-signing.seed"
SYSTEM_CREDENTIALS: Final = "system.creds"
SYSTEM_ACCOUNT: Final = "system-account"
SYSTEM_SIGNING: Final = "system-signing.seed"

_VERSION: Final = 1
_FILE: Final = "operator.json"
_ONE: Final = {"identity": Role.OPERATOR, "system_account": Role.ACCOUNT}
_SEVERAL: Final = {"signing": Role.OPERATOR, "system_signing": Role.ACCOUNT}

REPLACEABLE: Final = {"operator": "signing", "system": "system_signing"}
"""What people call the keys that can be replaced, and what they are here."""


class Handover:
    """The keys in one directory, owner-only.

    Args:
        directory: where they are.
        one: identities, by name.
        several: signing keys, by name; the newest last, older ones are still good.
        clock: seconds since 1970.
    """

    def __init__(
        self,
        directory: Path,
        one: dict[str, KeyPair],
        several: dict[str, list[KeyPair]],
        clock: Callable[[], float],
    ) -> None:
        self._directory = directory
        self._one = one
        self._several = several
        self._clock = clock

    @classmethod
    def create(cls, directory: Path, clock: Callable[[], float] = time.time) -> Self:
        """Make all keys.

        Raises:
            KeyStateError: there are keys already, or they cannot be written there.
        """
        prepare_directory(directory)
        if read_json(directory / _FILE) is not None:
            raise KeyStateError(
                f"{directory}: has keys already", "name another directory; new keys are a new NATS"
            )
        one = {name: KeyPair.generate(role) for name, role in _ONE.items()}
        several = {name: [KeyPair.generate(role)] for name, role in _SEVERAL.items()}
        made = cls(directory, one, several, clock)
        made._write()
        return made

    @classmethod
    def load(cls, directory: Path, clock: Callable[[], float] = time.time) -> Self:
        """Read the keys.

        Raises:
            KeyStateError: there are none, they are damaged, or others may read them.
        """
        path = directory / _FILE
        content = read_json(path)
        if content is None:
            raise KeyStateError(
                f"{path}: there are no keys", 'make them with "headwater nats init"'
            )
        if content.get("version") != _VERSION:
            raise damaged(path, f"version: expected {_VERSION}")
        one = {name: _pair(path, name, content.get(name), role) for name, role in _ONE.items()}
        several: dict[str, list[KeyPair]] = {}
        for name, role in _SEVERAL.items():
            seeds = content.get(name)
            if not isinstance(seeds, list) or not seeds:
                raise damaged(path, f"{name}: missing")
            several[name] = [_pair(path, name, seed, role) for seed in seeds]
        return cls(directory, one, several, clock)

    def replace(self, key: str) -> None:
        """Make a new signing key; the ones before it stay good until `retire`.

        Args:
            key: one of `REPLACEABLE`.

        Raises:
            KeyStateError: it cannot be written.
        """
        name = REPLACEABLE[key]
        self._several[name].append(KeyPair.generate(_SEVERAL[name]))
        self._write()

    def retire(self, key: str) -> int:
        """Give up all signing keys but the newest; returns how many.

        Args:
            key: one of `REPLACEABLE`.

        Raises:
            KeyStateError: it cannot be written.
        """
        name = REPLACEABLE[key]
        given_up = len(self._several[name]) - 1
        self._several[name] = self._several[name][-1:]
        self._write()
        return given_up

    # -- what is handed over ---------------------------------------------------------------------

    def operator_token(self) -> str:
        """The operator's token, signed by its identity."""
        return claims.operator_token(
            identity=self._one["identity"],
            signing=[key.public for key in self._several["signing"]],
            system_account=self._one["system_account"].public,
            issued_at=int(self._clock()),
        )

    def system_account_token(self) -> str:
        """The system account's token."""
        return claims.system_account_token(
            account=self._one["system_account"].public,
            user_keys=[key.public for key in self._several["system_signing"]],
            signer=self._several["signing"][-1],
            issued_at=int(self._clock()),
        )

    def secret(self, namespace: str, name: str = "headwater-nats") -> dict[str, Any]:
        """The Secret for Headwater's operator; it holds no identity.

        Args:
            namespace: of the operator.
            name: of the Secret.
        """
        data = {
            OPERATOR_SIGNING: self._several["signing"][-1].seed,
            SYSTEM_ACCOUNT: self._one["system_account"].public,
            SYSTEM_SIGNING: self._several["system_signing"][-1].seed,
        }
        return {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": name, "namespace": namespace},
            "type": "Opaque",
            "data": {
                key: base64.b64encode(value.encode("ascii")).decode("ascii")
                for key, value in data.items()
            },
        }

    def server_configuration(self, accounts: str) -> str:
        """What the server's configuration has to have of it; it holds no secret.

        Args:
            accounts: directory of the server, on its disk, for the accounts that it is given.
        """
        system = self._one["system_account"].public
        return f"""\
# Written by "headwater nats"; include it in the configuration of every server.
operator: {self.operator_token()}
system_account: {system}
resolver: {{
  type: full
  dir: {json.dumps(accounts)}
  allow_delete: true
  interval: "2m"
}}
resolver_preload: {{
  {system}: {self.system_account_token()}
}}
"""

    def _write(self) -> None:
        write_json(
            self._directory / _FILE,
            {
                "version": _VERSION,
                **{name: key.seed for name, key in self._one.items()},
                **{name: [key.seed for key in keys] for name, keys in self._several.items()},
            },
        )


def _pair(path: Path, name: str, seed: object, role: Role) -> KeyPair:
    try:
        return KeyPair(seed if isinstance(seed, str) else "", role)
    except ValueError as error:
        raise damaged(path, f"{name}: {error}") from None
