# SPDX-License-Identifier: Apache-2.0
"""Both ends of a connection name it alike, wherever they are, and no other connection (G5)."""

import socket

import numpy as np
import orjson
import pytest
from headwater_agent.flows import FLOW_ENDS_BYTES, flow_of
from headwater_agent.layout import FLOW_ENDS, TextMark
from headwater_agent.names import NameWriter
from headwater_prov.identifiers import FlowIds

from tests.unit.agent.harness import KEYS
from tests.unit.agent.test_addresses import inet, inet6

HERE, THERE = bytes(range(16)), bytes(range(16, 32))
ALPHA = FlowIds(KEYS["alpha"])


def ends(
    own: bytes,
    peer: bytes,
    *,
    protocol: int = socket.IPPROTO_TCP,
    first: tuple[int, int] = (0x01020304, 0xFF000000),
) -> bytes:
    """What the kernel says of a connection at one of its ends."""
    own_sequence, peer_sequence = first
    record = np.zeros(1, FLOW_ENDS)
    record[0] = (own_sequence, peer_sequence, protocol, len(own), own)
    return record.tobytes() + peer


CLIENT, SERVER, SERVICE = inet("10.0.1.7", 40123), inet("10.0.2.9", 8080), inet("10.96.0.1", 80)


def test_two_hosts_say_the_same() -> None:
    here = flow_of(ends(CLIENT, SERVER, first=(5, 9)), ALPHA, HERE)
    assert here == flow_of(ends(SERVER, CLIENT, first=(9, 5)), ALPHA, THERE)
    assert len(here) == 22


def test_a_translated_address_changes_nothing() -> None:
    """A Service's address is what a client connects to; its pod's is what the server has."""
    assert flow_of(ends(CLIENT, SERVICE, first=(5, 9)), ALPHA, HERE) == flow_of(
        ends(SERVER, CLIENT, first=(9, 5)), ALPHA, THERE
    )


def test_the_next_connection_between_the_same_ports_is_another() -> None:
    one, next_ = (ends(CLIENT, SERVER, first=(first, 9)) for first in (5, 6))
    assert flow_of(one, ALPHA, HERE) != flow_of(next_, ALPHA, HERE)


def test_two_tenants_cannot_compare() -> None:
    data = ends(CLIENT, SERVER)
    assert flow_of(data, ALPHA, HERE) != flow_of(data, FlowIds(KEYS["beta"]), HERE)


@pytest.mark.parametrize(
    ("own", "peer"),
    [
        (CLIENT, SERVER),
        (inet6("2001:db8::1", 4000), inet6("2001:db8::2", 53)),
        (inet6("::ffff:10.0.1.7", 40123), inet6("::ffff:10.0.2.9", 8080)),
    ],
)
def test_datagrams_are_told_by_their_addresses(own: bytes, peer: bytes) -> None:
    def flow(one: bytes, other: bytes, machine: bytes) -> str:
        data = ends(one, other, protocol=socket.IPPROTO_UDP, first=(0, 0))
        return flow_of(data, ALPHA, machine)

    assert flow(own, peer, HERE) == flow(peer, own, THERE)
    assert flow(own, peer, HERE) != flow(own, SERVICE, HERE)


def test_a_socket_of_both_families_is_the_same_end() -> None:
    mapped = inet6("::ffff:10.0.2.9", 8080), inet6("::ffff:10.0.1.7", 40123)
    one = ends(CLIENT, SERVER, protocol=socket.IPPROTO_UDP)
    assert flow_of(one, ALPHA, HERE) == flow_of(
        ends(*mapped, protocol=socket.IPPROTO_UDP), ALPHA, THERE
    )


def test_loopback_is_another_on_each_machine() -> None:
    data = ends(inet("127.0.0.1", 53), inet("127.0.0.1", 4000), protocol=socket.IPPROTO_UDP)
    assert flow_of(data, ALPHA, HERE) != flow_of(data, ALPHA, THERE)


def test_protocols_do_not_meet() -> None:
    udp, other = (ends(CLIENT, SERVER, protocol=number) for number in (socket.IPPROTO_UDP, 136))
    assert flow_of(udp, ALPHA, HERE) != flow_of(other, ALPHA, HERE)


def test_too_short_is_refused() -> None:
    with pytest.raises(ValueError, match=f"{FLOW_ENDS_BYTES} are due"):
        flow_of(bytes(FLOW_ENDS_BYTES - 1), ALPHA, HERE)


def test_the_edge_says_the_flow_and_the_vertex_only_the_address() -> None:
    writer = NameWriter(KEYS["alpha"], HERE)
    data = ends(CLIENT, SERVER)
    joined = writer.address(data, TextMark.PEER | TextMark.FLOW)
    plain = writer.address(SERVER, TextMark.PEER)
    assert joined[0] == plain[0]
    assert orjson.loads(b"{" + joined[2][1:] + b"}") == {
        "hw:peer": True,
        "hw:flow": flow_of(data, ALPHA, HERE),
    }
