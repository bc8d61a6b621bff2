# SPDX-License-Identifier: Apache-2.0
"""Socket addresses: from the bytes of a ``struct sockaddr`` to what is said of one.

Why: CamFlow nests an object in its ``cf:address``, which PROV-JSON has no place for; here each part
is an attribute of its own.

Who calls it: :mod:`headwater_agent.names` and the reference renderer. Pure.
"""

from __future__ import annotations

import ipaddress
import struct
from dataclasses import dataclass
from socket import AF_INET, AF_INET6, AF_UNIX
from typing import Final

_INET: Final = struct.Struct("=H2s4s")
_INET6: Final = struct.Struct("=H2sI16sI")
_FAMILY: Final = struct.Struct("=H")


@dataclass(frozen=True, slots=True)
class Address:
    """One socket address."""

    family: int
    """AF_*."""

    identity: bytes
    """What makes it this address and no other: equal addresses have equal bytes here."""

    host: str = ""
    """AF_INET and AF_INET6."""

    service: int | None = None
    """The port, likewise."""

    scope: int = 0
    """The network interface of a link-local IPv6 address."""

    path: bytes = b""
    """AF_UNIX: the path, or the name without its leading NUL byte."""

    is_abstract: bool = False
    """AF_UNIX: a name that no directory holds."""

    other: bytes = b""
    """What follows the family, of all other families."""


def parse_address(data: bytes) -> Address:
    """The address in the bytes of a ``struct sockaddr``, as long as the caller said.

    One that is shorter than its family's, which the kernel refuses, is taken as of an unknown
    family.

    Raises:
        ValueError: it has no family.
    """
    if len(data) < _FAMILY.size:
        raise ValueError(f"socket address of {len(data)} bytes: it has no family")
    (family,) = _FAMILY.unpack_from(data)
    if family == AF_INET and len(data) >= _INET.size:
        _, port, host = _INET.unpack_from(data)
        service = int.from_bytes(port, "big")
        return Address(family, data[: _INET.size], str(ipaddress.IPv4Address(host)), service)
    if family == AF_INET6 and len(data) >= _INET6.size - 4:
        # Without its last field it is as long as RFC 2133 had it.
        _, port, _, host, scope = _INET6.unpack(data[: _INET6.size].ljust(_INET6.size, b"\0"))
        service = int.from_bytes(port, "big")
        # A flow label is none of what it is reached by.
        identity = data[:4] + host + scope.to_bytes(4, "big")
        return Address(family, identity, str(ipaddress.IPv6Address(host)), service, scope)
    if family == AF_UNIX and data[2:3] == b"\0":
        return Address(family, data, path=data[3:], is_abstract=True)
    if family == AF_UNIX:
        path = data[2:].partition(b"\0")[0]
        return Address(family, data[:2] + path, path=path)
    return Address(family, data, other=data[2:])
