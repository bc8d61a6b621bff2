# SPDX-License-Identifier: Apache-2.0
"""Socket addresses: read from the kernel's bytes, said in flat attributes of valid PROV-JSON."""

from __future__ import annotations

import socket
import struct
from typing import Any

import orjson
import pytest
from headwater_agent.addresses import Address, parse_address
from headwater_agent.layout import TextMark
from headwater_agent.names import NameWriter, address_attributes
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.agent.harness import KEYS, NODE


def inet(host: str, port: int) -> bytes:
    return struct.pack("=H", socket.AF_INET) + struct.pack(">H", port) + socket.inet_aton(host)


def inet6(host: str, port: int, flow: int = 0, scope: int = 0) -> bytes:
    head = struct.pack("=H", socket.AF_INET6) + struct.pack(">HI", port, flow)
    return head + socket.inet_pton(socket.AF_INET6, host) + struct.pack("=I", scope)


def unix(name: bytes) -> bytes:
    return struct.pack("=H", socket.AF_UNIX) + name


@pytest.mark.parametrize(
    ("data", "described"),
    [
        (inet("10.1.2.3", 443) + bytes(8), {"cf:host": "10.1.2.3", "cf:service": 443}),
        (inet6("2001:db8::1", 53), {"cf:host": "2001:db8::1", "cf:service": 53}),
        (inet6("2001:db8::1", 53)[:24], {"cf:host": "2001:db8::1", "cf:service": 53}),
        (
            inet6("fe80::1", 1, scope=3),
            {"cf:host": "fe80::1", "cf:service": 1, "hw:scopeId": 3},
        ),
        (unix(b"/run/x\0rest"), {"cf:path": "/run/x"}),
        (unix(b"/run/\xff"), {"cf:path": "/run/%FF", "hw:escaped": True}),
        (unix(b"\0name"), {"cf:path": "name", "hw:abstract": True}),
        (unix(b"\0"), {"hw:abstract": True}),
        (inet("10.1.2.3", 443)[:6], {"hw:address": "01bb0a01"}),
        (struct.pack("=HHII", socket.AF_NETLINK, 0, 7, 1), {"hw:address": "00000700000001000000"}),
    ],
)
def test_what_is_said_of_an_address(data: bytes, described: dict[str, Any]) -> None:
    address = parse_address(data)
    assert address_attributes(address) == {"hw:family": address.family, **described}


def test_address_without_a_family_is_refused() -> None:
    with pytest.raises(ValueError, match="it has no family"):
        parse_address(b"\2")


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (inet("10.0.0.1", 80), inet("10.0.0.1", 80) + b"left over", True),
        (inet("10.0.0.1", 80), inet("10.0.0.1", 81), False),
        (inet6("::1", 80), inet6("::1", 80, flow=9), True),
        (inet6("fe80::1", 80, scope=1), inet6("fe80::1", 80, scope=2), False),
        (unix(b"/run/x\0"), unix(b"/run/x\0left over"), True),
        (unix(b"\0x"), unix(b"\0x\0"), False),
        (unix(b"x"), unix(b"\0x"), False),
    ],
)
def test_equal_addresses_are_one_vertex(one: bytes, other: bytes, same: bool) -> None:
    writer = NameWriter(KEYS["alpha"], NODE.machine_id)
    first, second = writer.address(one, 0), writer.address(other, TextMark.PEER)
    assert (first[0] == second[0]) is same
    assert (second[1] is None) is same
    assert (first[2], second[2]) == (b"", b',"hw:peer":true')


@given(st.binary(min_size=2, max_size=128))
def test_any_bytes_are_an_address(data: bytes) -> None:
    assert isinstance(parse_address(data), Address)
    _, declaration, _ = NameWriter(KEYS["alpha"], NODE.machine_id).address(data, 0)
    assert declaration is not None
    (vertex,) = orjson.loads(b"{" + declaration[:-1] + b"}").values()
    assert all(isinstance(value, str | int) for key, value in vertex.items() if key != "prov:type")
