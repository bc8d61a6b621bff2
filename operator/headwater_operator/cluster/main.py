# SPDX-License-Identifier: Apache-2.0
"""`headwater-operator`: the operator's process.

Why: the one place that puts the parts together and knows the order of start and stop: the model
first, then the lease, then writing; at the end the writers stop before the lease is handed back.

Exit status: 0 after SIGTERM or SIGINT; 1 when something failed that a new start may mend (the lease
was lost, a bug); 2 for a wrong argument or no way to reach Kubernetes.
"""

import argparse
import asyncio
import contextlib
import logging
import os
import secrets
import signal
import socket
import sys
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Final

import orjson

from headwater_operator.accounts import QuotaError
from headwater_operator.cluster.api import KubernetesApi
from headwater_operator.cluster.connection import ConnectionSetupError, address_of, connect
from headwater_operator.cluster.leadership import LeadershipLostError, Lease, lead
from headwater_operator.cluster.listing import Listing
from headwater_operator.cluster.metrics import make_registry
from headwater_operator.cluster.provisioned import Provisioned
from headwater_operator.cluster.reconciler import Reconciler
from headwater_operator.cluster.serving import Health, make_application, serve
from headwater_operator.cluster.settings import OperatorSettings
from headwater_operator.cluster.watches import watch
from headwater_operator.provisioning.agents import IssuedAgents
from headwater_operator.provisioning.exchange import Exchange
from headwater_operator.provisioning.exchange_page import serve_exchange
from headwater_operator.provisioning.options import (
    add_exchange_options,
    add_nats_options,
    exchange_settings,
    nats_settings,
)
from headwater_operator.provisioning.provisioner import Provisioner
from headwater_operator.provisioning.settings import ExchangeSettings, NatsSettings
from headwater_operator.provisioning.vault import AgentKeys

log = logging.getLogger(__name__)

LEASE: Final = "headwater-operator"
NAMESPACE_FILE: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger and message; nothing else gets out by chance."""

    def format(self, record: logging.LogRecord) -> str:
        """See `logging.Formatter`."""
        line = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S%z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return orjson.dumps(line).decode()


def existing_file(text: str) -> Path:
    """A file that is there.

    Raises:
        argparse.ArgumentTypeError: it is not.
    """
    if not Path(text).is_file():
        raise argparse.ArgumentTypeError(f"there is no such file: {text}")
    return Path(text)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    one = argparse.ArgumentParser(
        prog="headwater-operator",
        description="Makes per-node configuration of ProvenancePolicies, on a Kubernetes API, and "
        "the tenants' accounts and streams in NATS. Runs in a pod with a service account, or with "
        "a kubeconfig.",
        epilog="Exit status: 0 after SIGTERM; 1 when something failed that a new start may mend; "
        "2 for a wrong argument or no way to reach Kubernetes.",
    )
    one.add_argument(
        "--kubeconfig", type=existing_file, help="file to connect with, outside a cluster"
    )
    one.add_argument(
        "--listen",
        default="127.0.0.1:8080",
        metavar="HOST:PORT",
        help="where /healthz, /readyz and /metrics are served (default: %(default)s; the chart "
        "listens on all addresses of the pod)",
    )
    one.add_argument(
        "--lease-namespace",
        help="namespace of the Lease that says which operator writes (default: the pod's own, "
        "else headwater-system)",
    )
    add_nats_options(one)
    add_exchange_options(one)
    one.add_argument("--log-format", choices=["json", "text"], default="json")
    one.add_argument("--log-level", choices=["debug", "info", "warning", "error"], default="info")
    return one


def listen_address(text: str) -> tuple[str, int]:
    """Host and port of `HOST:PORT`.

    Raises:
        ValueError: it is none.
    """
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit() or int(port) > 65535:
        raise ValueError(f'--listen "{text}" is not HOST:PORT, for example 127.0.0.1:8080')
    return host.strip("[]"), int(port)


def lease_namespace(given: str | None) -> str:
    """Where the Lease is: as given, the pod's own namespace, or the default."""
    if given:
        return given
    try:
        return NAMESPACE_FILE.read_text(encoding="utf-8").strip()
    except OSError:
        return "headwater-system"


async def operate(
    *,
    kubeconfig: Path | None,
    listen: tuple[str, int],
    namespace: str,
    settings: OperatorSettings,
    nats: NatsSettings | None = None,
    exchange: ExchangeSettings | None = None,
) -> None:
    """Run the operator until SIGTERM or SIGINT.

    Args:
        kubeconfig: instead of the pod's service account.
        listen: where the pages are served.
        namespace: of the Lease.
        settings: every number.
        nats: where NATS is; None leaves tenants without accounts.
        exchange: where agents get their tokens; None for nowhere.

    Raises:
        ConnectionSetupError: there is nothing to connect with.
        LeadershipLostError: another operator may lead by now.
        OSError: the address cannot be listened on.
    """
    client = await connect(settings, kubeconfig)
    try:
        api = KubernetesApi(client)
        provisioned = Provisioned(is_configured=nats is not None)
        reconciler = Reconciler(api, settings, provisioned=provisioned)
        parts: list[Callable[[], Coroutine[None, None, None]]] = [reconciler.run]
        issued = IssuedAgents()
        if nats is not None:
            provisioner = Provisioner(api, reconciler.cluster, provisioned, nats, issued)
            reconciler.listeners.append(provisioner.notice)
            parts.append(provisioner.run)
        listing = Listing(api, reconciler.cluster, settings)
        health = Health(reconciler, listing)
        registry = make_registry(reconciler, listing)
        identity = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"

        lease = Lease(api, namespace, LEASE, identity)

        async def work() -> None:
            health.leads = True
            async with asyncio.TaskGroup() as running:
                for part in parts:
                    running.create_task(part())

        async with contextlib.AsyncExitStack() as served:
            pages = make_application(health, reconciler, registry)
            port = await served.enter_async_context(serve(pages, *listen))
            log.info("serving /healthz, /readyz and /metrics on port %d", port)
            if nats is not None and exchange is not None:
                keys = AgentKeys(api, nats.namespace, nats.secret)
                giving = Exchange(api, reconciler.cluster, keys, issued, exchange)
                port = await served.enter_async_context(serve_exchange(giving, exchange))
                log.info("agents get their tokens at port %d", port)
            stopping, watches_end = asyncio.Event(), threading.Event()
            for number in (signal.SIGTERM, signal.SIGINT):
                asyncio.get_running_loop().add_signal_handler(number, stopping.set)
            watching = asyncio.create_task(
                watch(reconciler.cluster, address_of(client), watches_end), name="watches"
            )
            tasks = [
                asyncio.create_task(stopping.wait(), name="signals"),
                asyncio.create_task(listing.run(), name="lists"),
                asyncio.create_task(lead(lease, work), name="leadership"),
            ]
            try:
                ended, _ = await asyncio.wait(
                    [watching, *tasks], return_when=asyncio.FIRST_COMPLETED
                )
                for task in ended:
                    await task
                if not stopping.is_set():
                    raise RuntimeError("the watches have ended by themselves")
                log.info("stopping")
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
                watches_end.set()
                await asyncio.gather(watching, return_exceptions=True)
    finally:
        await client.close()


def main() -> int:
    """The command."""
    options = parser().parse_args()
    handler = logging.StreamHandler(sys.stderr)
    if options.log_format == "json":
        handler.setFormatter(JsonFormatter())
    else:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logging.basicConfig(level=options.log_level.upper(), handlers=[handler])
    try:
        namespace = lease_namespace(options.lease_namespace)
        asyncio.run(
            operate(
                kubeconfig=options.kubeconfig,
                listen=listen_address(options.listen),
                namespace=namespace,
                settings=OperatorSettings(),
                nats=nats_settings(options, namespace),
                exchange=exchange_settings(options, namespace),
            )
        )
    except (ConnectionSetupError, QuotaError, ValueError) as error:
        print(f"headwater-operator: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(
            f"headwater-operator: {options.listen} or {options.exchange_listen} cannot be listened "
            f"on: {error.strerror}; choose another with --listen, --exchange-listen",
            file=sys.stderr,
        )
        return 2
    except LeadershipLostError as error:
        log.error("%s; starting anew is for whoever started this", error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
