# SPDX-License-Identifier: Apache-2.0
"""Which addresses may be talked to without TLS: those of this machine's loopback, and no other.

Why: operator and agents send tokens and records over these connections; the rule is the same for
both and stands here once. Pure: names are not looked up, so only `localhost` and addresses written
as numbers are taken for loopback.
"""

import ipaddress
from collections.abc import Iterable
from typing import Final
from urllib.parse import urlsplit

_ENCRYPTED: Final = ("tls", "wss", "https")


def check_encrypted(urls: Iterable[str], option: str) -> None:
    """Refuse addresses that would be talked to in the clear.

    Args:
        urls: with a scheme.
        option: where they were written, for the message.

    Raises:
        ValueError: one is no URL, or goes beyond loopback without TLS.
    """
    for url in urls:
        parts = urlsplit(url)
        if not parts.scheme or not parts.hostname:
            raise ValueError(f"{option}: {url} is not a URL; write for instance tls://nats:4222")
        if parts.scheme not in _ENCRYPTED and not _is_loopback(parts.hostname):
            secure = "https" if parts.scheme == "http" else "tls"
            raise ValueError(
                f"{option}: {url} goes over the network without TLS; write {secure}:// instead of "
                f"{parts.scheme}://, and have the server take it"
            )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
