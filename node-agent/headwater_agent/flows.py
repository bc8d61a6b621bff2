# SPDX-License-Identifier: Apache-2.0
"""Which connection a socket belongs to, as both of its ends would say it.

Why: a flow between two hosts is one only if both name it alike, without asking each other. TCP's
first sequence numbers do: either end knows both, they are random (RFC 9293, section 3.4.1), and a
translation of addresses, such as a Service's, leaves them alone. Other protocols have their
addresses and ports.

Who calls it: :mod:`headwater_agent.names` and the reference renderer. Pure.
"""

from __future__ import annotations

import ipaddress
from socket import IPPROTO_TCP
from typing import Final

import numpy as np
from headwater_prov.identifiers import FlowIds

from headwater_agent.addresses import Address, parse_address
from headwater_agent.layout import FLOW_ENDS

FLOW_ENDS_BYTES: Final = FLOW_ENDS.itemsize


def flow_of(data: bytes, ids: FlowIds, machine_id: bytes) -> str:
    """The id of the connection that an address record marked ``FLOW`` tells of.

    Args:
        data: the record's data: ``struct hw_flow_ends`` and the peer's ``struct sockaddr``.
        ids: of the tenant.
        machine_id: 16 bytes.

    Raises:
        ValueError: the data is too short.
    """
    if len(data) < FLOW_ENDS_BYTES:
        raise ValueError(f"ends of a connection in {len(data)} bytes: {FLOW_ENDS_BYTES} are due")
    (ends,) = np.frombuffer(data, FLOW_ENDS, 1)
    protocol = int(ends["protocol"])
    if protocol == IPPROTO_TCP:
        first = (int(ends[end]).to_bytes(4, "big") for end in ("own_sequence", "peer_sequence"))
        return ids(b"", protocol, *first)
    own = parse_address(bytes(ends["own"])[: int(ends["length"])])
    peer = parse_address(data[FLOW_ENDS_BYTES:])
    hosts = [_host(own), _host(peer)]
    place = machine_id if any(host.is_loopback for host in hosts) else b""
    both = (
        host.packed.rjust(16, b"\0") + (end.service or 0).to_bytes(2, "big")
        for host, end in zip(hosts, (own, peer), strict=True)
    )
    return ids(place, protocol, *both)


def _host(address: Address) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    host = ipaddress.ip_address(address.host)
    # One end may have a socket of both families, the other one of IPv4.
    return getattr(host, "ipv4_mapped", None) or host
