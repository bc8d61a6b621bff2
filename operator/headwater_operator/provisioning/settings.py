# SPDX-License-Identifier: Apache-2.0
"""Everything about NATS that a platform team may choose, with the reason of each default.

Why: what an operator is started with stands in one place; `headwater_operator.cluster.main` fills
it from the command line.
"""

import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from headwater_operator.accounts import Quotas

NATS_SECRET: Final = "headwater-nats"


@dataclass(frozen=True, slots=True)
class ExchangeSettings:
    """Where agents get their tokens, and whose are taken for agents."""

    listen: tuple[str, int]
    """Host and port; port 0 for a free one."""

    account: str
    """User name of the agents' ServiceAccount."""

    certificate: Path | None = None
    """Of the server, PEM with what it is signed by; None on loopback only."""

    key: Path | None = None
    """Of the certificate."""

    audience: str = "headwater-operator"
    """What agents' tokens have to be for: a token for the API server is none for us, and one for us
    none for the API server."""

    token_s: float = 3600.0
    """Life of an agent's NATS token. It is renewed at two thirds, so the operator may be away for a
    third of it before an agent can publish no more."""


@dataclass(frozen=True, slots=True)
class NatsSettings:
    """How the operator comes to NATS, and what it makes there."""

    servers: tuple[str, ...]
    """URLs; any of them will do."""

    namespace: str = "headwater-system"
    """Where the Secrets are: the operator's own."""

    secret: str = NATS_SECRET
    """Name of the Secret with what the platform team hands over."""

    make_tls: Callable[[], ssl.SSLContext | None] = field(default=lambda: None, repr=False)
    """Reads the certificates and makes a context; None for the system's authorities."""

    authority: Callable[[], bytes] = field(default=lambda: b"", repr=False)
    """The certificate of the authority, PEM, for auditors; empty for the system's authorities."""

    replicas: int = 1
    """Servers that hold a copy of each stream: 3 in a cluster of three or more."""

    check_interval_s: float = 30.0
    """How often all accounts are held against what the server has. What somebody overwrote, or the
    server lost, is repaired within this time; agents keep records meanwhile."""

    platform_quotas: Quotas = field(default_factory=Quotas)
    """Of the platform's own tenant, to which ClusterProvenancePolicies send: it has no object."""

    agent_token_s: float = 3600.0
    """Life of an agent's token. It is renewed at two thirds, so an operator may be away for a third
    of it."""

    streams_per_pass: int = 100
    """Streams that are held against their quotas in one pass, beside those that have changed: each
    costs a connection into the tenant's account."""
