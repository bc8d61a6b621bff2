# SPDX-License-Identifier: Apache-2.0
"""What `helm test` asks, from a pod: is the operator ready, and do its certificate and NATS's hold?

Why: an agent would find the same out, one pod later and in its log. Run with the operator's image,
standard library only. Arguments: URL of the pages; host and port of the exchange, and its
authority; the same of NATS. Each answer is a line; exit status 1 when one is no.
"""

import contextlib
import json
import socket
import ssl
import sys
import urllib.error
import urllib.request
from collections.abc import Callable

TIMEOUT_S = 10


def check_pages(url: str) -> str:
    """The model is complete."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"{url}/readyz", timeout=TIMEOUT_S) as answer:
        return f"{url}: {answer.read().decode().strip()}"


def check_exchange(host: str, port: int, authority: str) -> str:
    """The operator's certificate is for its name; who shows no token gets none."""
    tls = ssl.create_default_context(cafile=authority)
    handler = urllib.request.HTTPSHandler(context=tls)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), handler)
    try:
        opener.open(f"https://{host}:{port}/v1/agent-token", data=b"{}", timeout=TIMEOUT_S)
    except urllib.error.HTTPError as error:
        with error:
            if error.code == 400:
                return f"{host}:{port}: the certificate holds, and nobody gets a token for nothing"
            raise ValueError(f"answers {error.code}") from error
    raise ValueError("gives tokens away")


def check_nats(host: str, port: int, authority: str | None) -> str:
    """The server has JetStream, and its certificate is for its name."""
    tls = ssl.create_default_context(cafile=authority)
    with contextlib.closing(socket.create_connection((host, port), TIMEOUT_S)) as plain:
        said = plain.makefile("rb").readline().decode()
        info = json.loads(said.removeprefix("INFO "))
        if not info.get("jetstream"):
            raise ValueError("has no JetStream")
        with tls.wrap_socket(plain, server_hostname=host) as secured:
            return f"{host}:{port}: NATS {info.get('version')}, {secured.version()}"


def main(arguments: list[str]) -> int:
    """Ask everything, whatever the answer to the first."""
    pages, exchange, exchange_ca, nats, nats_ca = arguments
    where = {name: split(name) for name in (exchange, nats)}
    checks: dict[str, Callable[[], str]] = {
        pages: lambda: check_pages(pages),
        exchange: lambda: check_exchange(*where[exchange], exchange_ca),
        nats: lambda: check_nats(*where[nats], nats_ca or None),
    }
    status = 0
    for name, check in checks.items():
        try:
            print(check(), flush=True)
        except (OSError, ValueError) as error:
            print(f"{name}: {error}", file=sys.stderr, flush=True)
            status = 1
    return status


def split(address: str) -> tuple[str, int]:
    """Host and port."""
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
