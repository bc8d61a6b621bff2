# SPDX-License-Identifier: Apache-2.0
"""An agent's ServiceAccount token for a NATS token, the node's name taken from the former.

Why: no Secret can be mounted that is another on each node, and a credential that is the same on all
of them would let each node speak for all. A token that kubelet projects into the agent's pod names
the node, the API server vouches for it (TokenReview), and it is good for this exchange only, by its
audience. The agent's key never leaves the node: only the public half comes here. The answer may
carry the operator's statement that a signing key is the node's (G7). Served by `exchange_page`, on
every operator whether or not it leads. Promise: G5.
"""

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

from headwater_prov.signing import decode_base64url
from headwater_prov.statement import sign_statement

from headwater_operator.accounts import Role, agent_token, is_public_key
from headwater_operator.accounts.errors import AccountsError
from headwater_operator.cluster.api import ApiError
from headwater_operator.cluster.kinds import NODES, Kind
from headwater_operator.cluster.observed import Cluster
from headwater_operator.provisioning.agents import IssuedAgents, node_tokens, token_of
from headwater_operator.provisioning.settings import ExchangeSettings
from headwater_operator.provisioning.vault import AgentKeys

log = logging.getLogger(__name__)

TOKEN_REVIEWS: Final = Kind("authentication.k8s.io", "v1", "tokenreviews", "TokenReview")
NODE_NAME: Final = "authentication.kubernetes.io/node-name"

_TOKEN_MAX: Final = 16 * 1024


class ReviewApi(Protocol):
    """What the exchange needs of an API. Every method raises `ApiError`."""

    async def create(self, kind: Kind, body: Mapping[str, Any]) -> dict[str, Any]:
        """Make an object."""


class RefusedError(Exception):
    """The exchange says no.

    Args:
        status: HTTP's.
        message: why, with the remedy; goes to the agent and into the log.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


@dataclass(frozen=True, slots=True)
class Request:
    """What an agent asks for."""

    public_key: str
    """Of its NATS user."""

    signing_key: bytes
    """The node's Ed25519 public key, which batches are signed with; empty for no statement."""

    @classmethod
    def parse(cls, body: object) -> "Request":
        """Read the body of a request.

        Raises:
            RefusedError: it is none.
        """
        if not isinstance(body, dict):
            raise RefusedError(400, "the body is no object; write publicKey, and signingKey")
        public_key, signing_key = body.get("publicKey"), body.get("signingKey", "")
        if not isinstance(public_key, str) or not is_public_key(public_key, Role.USER):
            raise RefusedError(
                400, "publicKey: is not the public key of a NATS user; write that of an nkey, U..."
            )
        try:
            raw = decode_base64url(signing_key) if signing_key else b""
        except (TypeError, ValueError):
            raw = b"?"
        if len(raw) not in (0, 32):
            raise RefusedError(400, "signingKey: is not base64url of an Ed25519 public key")
        return cls(public_key, raw)


class Exchange:
    """See the module.

    Args:
        api: reviews tokens.
        cluster: the model, for the nodes.
        keys: of the capture account and of the operator.
        issued: remembers what was given.
        settings: whose tokens are taken.
        clock: seconds since 1970.
    """

    def __init__(
        self,
        api: ReviewApi,
        cluster: Cluster,
        keys: AgentKeys,
        issued: IssuedAgents,
        settings: ExchangeSettings,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._api = api
        self._cluster = cluster
        self._keys = keys
        self._issued = issued
        self._settings = settings
        self._clock = clock

    async def exchange(self, bearer: str, request: Request) -> dict[str, Any]:
        """Give an agent its token.

        Args:
            bearer: the ServiceAccount's token.
            request: what is asked for.

        Returns:
            `token`, its end `expiresAt` in seconds since 1970, the node token `node`, and where the
            request has a signing key, the operator's `statement`.

        Raises:
            RefusedError: it is given none.
        """
        node = await self._node_of(bearer)
        token = self._token_of(node)
        try:
            capture, installation = await self._keys.read()
        except (AccountsError, ApiError) as error:
            log.warning("no agent can be given a token: %s", error)
            raise RefusedError(503, "the operator has no keys yet; ask again") from error
        text, expires_at = agent_token(
            capture,
            token,
            public_key=request.public_key,
            lifetime_s=self._settings.token_s,
            clock=self._clock,
        )
        self._issued.note(request.public_key, token, expires_at)
        answer: dict[str, Any] = {"token": text, "expiresAt": expires_at, "node": token}
        if request.signing_key:
            answer["statement"] = sign_statement(
                node=token,
                key=request.signing_key,
                issuer=installation.signing.public,
                issued_at=int(self._clock()),
                sign=installation.signing.sign,
            )
        return answer

    async def _node_of(self, bearer: str) -> str:
        """The node that a token names, if the API server vouches for it and it is an agent's."""
        settings = self._settings
        if not bearer or len(bearer) > _TOKEN_MAX:
            raise RefusedError(401, "there is no bearer token; project one into the agent's pod")
        spec = {"token": bearer, "audiences": [settings.audience]}
        body = {"apiVersion": TOKEN_REVIEWS.api_version, "kind": TOKEN_REVIEWS.name}
        try:
            review = await self._api.create(TOKEN_REVIEWS, {**body, "metadata": {}, "spec": spec})
        except ApiError as error:
            log.warning("a token cannot be reviewed: %s", error)
            raise RefusedError(
                503, "the API server does not review tokens now; ask again"
            ) from error
        status = review.get("status") or {}
        if not status.get("authenticated") or settings.audience not in status.get("audiences", ()):
            raise RefusedError(
                401, f"the token is not good for audience {settings.audience}; project one that is"
            )
        user = status.get("user") or {}
        if user.get("username") != settings.account:
            raise RefusedError(403, f"the token is not one of {settings.account}")
        nodes = list((user.get("extra") or {}).get(NODE_NAME) or ())
        if len(nodes) != 1:
            raise RefusedError(
                403, "the token names no node; project one into a pod, Kubernetes 1.30 or later"
            )
        return str(nodes[0])

    def _token_of(self, name: str) -> str:
        """What subjects call the node."""
        nodes = self._cluster.of(NODES)
        node = nodes.get(("", name))
        if not self._cluster.is_complete or (node is not None and not token_of(node)):
            raise RefusedError(503, f"nothing is known of node {name} yet; ask again")
        if node is None or node.is_leaving:
            raise RefusedError(403, f"there is no node {name}")
        token = node_tokens(nodes.values()).get(name)
        if token is None:
            raise RefusedError(
                403,
                f"node {name} has the machine id of an older node; give it one of its own: remove "
                "/etc/machine-id, systemd-machine-id-setup, and restart its kubelet",
            )
        return token
