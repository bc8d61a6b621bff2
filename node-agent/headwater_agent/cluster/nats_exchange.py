# SPDX-License-Identifier: Apache-2.0
"""Who the agent is to NATS, from the operator: the pod's own token exchanged for one of NATS.

Why: a credential of NATS that is mounted would be the same on every node. The pod's token names the
node, kubelet keeps it fresh, and the operator gives a NATS token for it that is good for this node
and for a key that was made here and never leaves. The publish window fetches one before each
connection and renews by a second connection in time, so nothing is lost at its end (G3); an
operator that is away is asked again for ever, and the token in use is good meanwhile (G8).
Called by `main`; next, `headwater_agent.publish`.
"""

import base64
import logging
import os
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import nkeys
from headwater_prov.signing import encode_base64url

from headwater_agent.cluster.api import ApiTimeouts, KubernetesApi
from headwater_agent.cluster.api_access import ApiAccess, TokenFile
from headwater_agent.cluster.nats_credentials import CredentialsError, MakeTls
from headwater_agent.publish_link import ConnectionOptions, UserToken

log = logging.getLogger(__name__)

PATH: Final = "/v1/agent-token"

_TIMEOUTS: Final = ApiTimeouts(connect_s=5.0, request_s=10.0)

KeepStatement = Callable[[str], None]
"""Takes the operator's statement about the node's signing key over."""


class ExchangedCredentials:
    """An nkey made for this process, and the operator who vouches for it.

    Args:
        operator: URL of the operator's exchange.
        token: file of the pod's projected token, with the operator's audience.
        make_tls: whom to trust as the operator; None for the system's authorities.
        signing_key: the node's Ed25519 public key, which batches are signed with.
        keep_statement: is called with each statement about that key.
        clock: seconds since 1970.
    """

    def __init__(
        self,
        operator: str,
        token: Path,
        make_tls: MakeTls,
        *,
        signing_key: bytes,
        keep_statement: KeepStatement,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._access = ApiAccess(operator.rstrip("/"), make_tls, TokenFile(token))
        self._seed = nkeys.encode_seed(os.urandom(32), nkeys.PREFIX_BYTE_USER)
        self._signing_key = signing_key
        self._keep_statement = keep_statement
        self._clock = clock

    def options(
        self, servers: tuple[str, ...], node: str, make_tls: MakeTls = lambda: None
    ) -> ConnectionOptions:
        """How to reach NATS with it.

        Args:
            servers: URLs.
            node: this node's token; a token for another one is refused.
            make_tls: whom to trust as NATS; None for the system's authorities.
        """

        async def fetch() -> UserToken:
            return await self._fetch(node)

        return ConnectionOptions(
            servers=servers,
            inbox_prefix=f"_INBOX_{node}",
            fetch_token=fetch,
            sign_nonce=self._sign,
            make_tls=make_tls,
        )

    async def _fetch(self, node: str) -> UserToken:
        """Ask the operator.

        Raises:
            ApiError: it does not answer, or refuses.
            CredentialsError: what it answers is no token for this node.
        """
        public = self._pair().public_key
        body = {
            "publicKey": public.decode() if isinstance(public, bytes | bytearray) else public,
            "signingKey": encode_base64url(self._signing_key),
        }
        async with KubernetesApi(self._access, _TIMEOUTS) as operator:
            answer = await operator.post(PATH, body)
        text, end = answer.get("token"), answer.get("expiresAt")
        if not isinstance(text, str) or not isinstance(end, int):
            raise CredentialsError(f"{self._access.server}: the operator's answer has no token")
        if answer.get("node") != node:
            raise CredentialsError(
                f"{self._access.server}: the operator knows this node as {answer.get('node')}, by "
                f"the machine id that kubelet tells, and its machine id makes it {node}; mount the "
                "node's own /etc/machine-id and name it with --machine-id-file"
            )
        self._take_statement(answer)
        return UserToken(text, end - self._clock())

    def _take_statement(self, answer: dict[str, Any]) -> None:
        statement = answer.get("statement")
        if not isinstance(statement, str):
            return
        try:
            self._keep_statement(statement)
        except RuntimeError as error:
            # Records are worth more than the proof of whose they are: both are tried again later.
            log.warning("the operator's statement about this node's key is not kept: %s", error)

    def _sign(self, nonce: str) -> bytes:
        return base64.b64encode(self._pair().sign(nonce.encode()))

    def _pair(self) -> Any:
        return nkeys.from_seed(bytearray(self._seed))


def trusted(authority: Path | None) -> MakeTls:
    """Whom to trust: the authority in a file, read whenever it is needed, or the system's.

    Args:
        authority: certificates, PEM; None for the system's.
    """

    def make() -> ssl.SSLContext | None:
        return None if authority is None else ssl.create_default_context(cafile=str(authority))

    return make
