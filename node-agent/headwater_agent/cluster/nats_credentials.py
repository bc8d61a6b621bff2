# SPDX-License-Identifier: Apache-2.0
"""Who the agent is to NATS, from a credentials file that is mounted into the pod.

Why: the file is replaced when it is renewed, so it is read before each connection; the publish
window renews by a new connection in time (G3). In a cluster with an operator that exchanges tokens
no file is needed, see `nats_exchange`.
Called by `main`; next, `headwater_agent.publish`.
"""

import base64
import binascii
import re
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import nkeys
import orjson

from headwater_agent.publish_link import ConnectionOptions, UserToken

_SECTION: Final = re.compile(
    r"-{3,}BEGIN (?P<what>[A-Z ]+)-{3,}\s+(?P<text>\S+)\s+-{3,}END (?P=what)-{3,}", re.ASCII
)

MakeTls = Callable[[], ssl.SSLContext | None]
"""Reads the certificates of NATS' authority."""

_UNLIMITED_S: Final = 3600.0
"""A token without an end is taken as one of an hour: the file may have been replaced by then."""


class CredentialsError(Exception):
    """The file is no credentials file; the message says which and why."""


class CredentialsFile:
    """A `.creds` file: a user's JWT and the seed of its key."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.time) -> None:
        self._path = path
        self._clock = clock
        self._seed = b""

    def options(
        self, servers: tuple[str, ...], node: str, make_tls: MakeTls = lambda: None
    ) -> ConnectionOptions:
        """How to reach NATS with it.

        Args:
            servers: URLs.
            node: the node token; the account lets it receive in this inbox only.
            make_tls: whom to trust; None for the system's authorities.
        """
        return ConnectionOptions(
            servers=servers,
            inbox_prefix=f"_INBOX_{node}",
            fetch_token=self.fetch,
            sign_nonce=self.sign,
            make_tls=make_tls,
        )

    async def fetch(self) -> UserToken:
        """Read the file.

        Raises:
            CredentialsError: it cannot be read or is none.
        """
        try:
            text = self._path.read_text(encoding="ascii")
        except (OSError, UnicodeDecodeError) as error:
            raise CredentialsError(
                f"{self._path}: {error}; mount the node's credentials"
            ) from error
        found = {match["what"]: match["text"] for match in _SECTION.finditer(text)}
        try:
            token, seed = found["NATS USER JWT"], found["USER NKEY SEED"]
            claims = orjson.loads(_decode(token.split(".")[1]))
        except (KeyError, IndexError, binascii.Error, orjson.JSONDecodeError) as error:
            raise CredentialsError(f"{self._path}: not a NATS credentials file") from error
        self._seed = seed.encode("ascii")
        end = claims.get("exp")
        lifetime_s = end - self._clock() if isinstance(end, int) and end else _UNLIMITED_S
        if lifetime_s <= 0:
            raise CredentialsError(f"{self._path}: has expired; it was not replaced in time")
        return UserToken(token, lifetime_s)

    def sign(self, nonce: str) -> bytes:
        """Prove that the key is ours."""
        key = nkeys.from_seed(bytearray(self._seed))
        return base64.b64encode(key.sign(nonce.encode()))


def _decode(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
