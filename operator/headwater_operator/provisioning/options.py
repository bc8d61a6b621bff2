# SPDX-License-Identifier: Apache-2.0
"""The operator's options about NATS, and what they mean.

Why: `headwater_operator.cluster.main` says what there is to a person; the checks are here, where
the reasons are.
"""

import argparse
import os
import ssl
from pathlib import Path
from typing import Final

from headwater_prov.endpoints import check_encrypted
from headwater_prov.policy.quantities import parse_bytes, parse_seconds

from headwater_operator.accounts import Quotas
from headwater_operator.provisioning.settings import NATS_SECRET, ExchangeSettings, NatsSettings

_REPLICAS: Final = (1, 3, 5)
_AGENT_TOKEN_MIN_S: Final = 2
"""A second for the renewal; less than minutes is for tests."""


def add_nats_options(parser: argparse.ArgumentParser) -> None:
    """Add them to a command line."""
    parser.add_argument(
        "--nats",
        metavar="URLS",
        help="URLs of NATS, with commas; TLS everywhere but on loopback (default: tenants get no "
        "account)",
    )
    parser.add_argument(
        "--nats-ca", type=Path, metavar="FILE", help="certificate of the authority of NATS, PEM"
    )
    parser.add_argument(
        "--nats-secret",
        default=NATS_SECRET,
        metavar="NAME",
        help="Secret with the operator's signing key and a system user (default: %(default)s)",
    )
    parser.add_argument(
        "--nats-namespace",
        metavar="NAMESPACE",
        help="where that Secret is, and all that are made (default: that of the Lease)",
    )
    parser.add_argument(
        "--nats-replicas",
        type=int,
        default=1,
        choices=_REPLICAS,
        help="servers that hold a copy of each stream (default: %(default)s; 3 in a cluster)",
    )
    parser.add_argument(
        "--nats-check-interval",
        type=float,
        default=30.0,
        metavar="SECONDS",
        help="how often accounts are held against the server (default: %(default)s)",
    )
    parser.add_argument(
        "--platform-stream-bytes",
        default="1Gi",
        metavar="SIZE",
        help="size of the platform's own stream, for ClusterProvenancePolicies (default: 1Gi)",
    )
    parser.add_argument(
        "--platform-stream-age",
        default="168h",
        metavar="TIME",
        help="how long records stay in it (default: 168h)",
    )


def add_exchange_options(parser: argparse.ArgumentParser) -> None:
    """Add those about the exchange of agents' tokens."""
    parser.add_argument(
        "--exchange-listen",
        metavar="HOST:PORT",
        help="where agents exchange a ServiceAccount's token for one of NATS (default: nowhere)",
    )
    parser.add_argument(
        "--exchange-certificate",
        type=Path,
        metavar="FILE",
        help="its certificate, PEM; needed everywhere but on loopback, read again when it changes",
    )
    parser.add_argument(
        "--exchange-key", type=Path, metavar="FILE", help="key of the certificate, PEM"
    )
    parser.add_argument(
        "--exchange-audience",
        default="headwater-operator",
        help="audience of agents' tokens (default: %(default)s)",
    )
    parser.add_argument(
        "--agent-account",
        metavar="NAME",
        help="ServiceAccount of the agents, in the operator's namespace (default: headwater-agent)",
        default="headwater-agent",
    )
    parser.add_argument(
        "--agent-token-life",
        default="1h",
        metavar="TIME",
        help="how long an agent's NATS token is good for (default: %(default)s)",
    )


def exchange_settings(options: argparse.Namespace, namespace: str) -> ExchangeSettings | None:
    """What the options mean; None where there is no exchange.

    Args:
        options: as parsed.
        namespace: of the operator.

    Raises:
        ValueError: one of them cannot be meant; with what to write.
    """
    if options.exchange_listen is None:
        return None
    if options.nats is None:
        raise ValueError("--exchange-listen: there is nothing to exchange for without --nats")
    host, _, port = options.exchange_listen.rpartition(":")
    if not host or not port.isdigit() or int(port) > 65535:
        raise ValueError(f'--exchange-listen "{options.exchange_listen}" is not HOST:PORT')
    files = (options.exchange_certificate, options.exchange_key)
    if (files[0] is None) != (files[1] is None):
        raise ValueError("--exchange-certificate and --exchange-key: write both")
    scheme = "http" if files[0] is None else "https"
    check_encrypted([f"{scheme}://{options.exchange_listen}"], "--exchange-listen")
    for option, file in zip(("certificate", "key"), files, strict=True):
        if file is not None and not os.access(file, os.R_OK):
            raise ValueError(f"--exchange-{option}: {file} cannot be read; name a PEM file")
    life_s = parse_seconds(options.agent_token_life)
    if life_s < _AGENT_TOKEN_MIN_S:
        raise ValueError(f"--agent-token-life: write at least {_AGENT_TOKEN_MIN_S}s")
    return ExchangeSettings(
        listen=(host.strip("[]"), int(port)),
        account=f"system:serviceaccount:{namespace}:{options.agent_account}",
        certificate=files[0],
        key=files[1],
        audience=options.exchange_audience,
        token_s=float(life_s),
    )


def nats_settings(options: argparse.Namespace, namespace: str) -> NatsSettings | None:
    """What the options mean; None where there is no NATS.

    Args:
        options: as parsed.
        namespace: of the operator.

    Raises:
        ValueError: one of them cannot be meant; with what to write.
        QuotaError: the same of the platform's quotas.
    """
    if options.nats is None:
        return None
    servers = tuple(filter(None, (each.strip() for each in options.nats.split(","))))
    if not servers:
        raise ValueError("--nats: names no server; write for instance tls://nats.headwater:4222")
    check_encrypted(servers, "--nats")
    if options.nats_check_interval <= 0:
        raise ValueError("--nats-check-interval: write a number of seconds above 0")
    authority: Path | None = options.nats_ca
    if authority is not None and not os.access(authority, os.R_OK):
        raise ValueError(f"--nats-ca: {authority} cannot be read; name a file with certificates")

    def make_tls() -> ssl.SSLContext | None:
        if authority is None:
            return None
        return ssl.create_default_context(cafile=str(authority))

    return NatsSettings(
        servers=servers,
        namespace=options.nats_namespace or namespace,
        secret=options.nats_secret,
        make_tls=make_tls,
        authority=lambda: authority.read_bytes() if authority is not None else b"",
        replicas=options.nats_replicas,
        check_interval_s=options.nats_check_interval,
        agent_token_s=float(parse_seconds(options.agent_token_life)),
        platform_quotas=Quotas(
            stream_bytes=parse_bytes(options.platform_stream_bytes),
            stream_age_s=parse_seconds(options.platform_stream_age),
        ),
    )
