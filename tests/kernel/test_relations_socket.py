# SPDX-License-Identifier: Apache-2.0
"""Sockets: made, named, connected, accepted, and what goes through them (G2, G4)."""

from pathlib import Path

import pytest
from headwater_prov.vocabulary import Relation, VertexType

from tests.kernel.graph import graph
from tests.kernel.lab import NO_LOOK_UPS, Lab, Tenant


def test_socket(whole: Tenant, work: Path) -> None:
    assert whole.lines(work, "socket") == graph("""
        version_activity task.0 -> task.1
        memory_read memory.0 -> task.1
        socket_create task.1 -> socket.0
    """)


def test_socket_pair(whole: Tenant, work: Path) -> None:
    assert whole.lines(work, "socket-pair") == graph("""
        version_activity task.0 -> task.1
        memory_read memory.0 -> task.1
        socket_create task.1 -> socket.0
        socket_create task.1 -> socket2.0
        socket_pair_create task.1 -> socket.0
        socket_pair_create task.1 -> socket2.0
    """)


def test_last_close_ends_a_socket(whole: Tenant, work: Path) -> None:
    assert whole.lines(work, "free-socket") == ["free socket.0 -> socket.1"]


def test_inet_stream(whole: Tenant, work: Path) -> None:
    assert whole.lines(work, "inet") == graph("""
        version_activity task.0 -> task.1
        memory_read memory.0 -> task.1
        bind task.1 -> socket.0
        addressed 127.0.0.1:0 -> socket.0
        listen task.1 -> socket.0
        connect task.1 -> socket2.0
        addressed 127.0.0.1:* peer -> socket2.0
        accept_socket socket.0 -> socket3.0
        addressed 127.0.0.1:* -> socket3.0
        addressed 127.0.0.1:* peer joined -> socket3.0
        version_activity task.1 -> task.2
        accept socket3.0 -> task.2
        version_entity memory.0 -> memory.1
        memory_write task.2 -> memory.1
        version_activity task.2 -> task.3
        memory_read memory.1 -> task.3
        send_msg task.3 -> socket2.0
        addressed 127.0.0.1:* -> socket2.0
        addressed 127.0.0.1:* peer joined -> socket2.0
        version_activity task.3 -> task.4
        receive_msg socket3.0 -> task.4
        version_entity memory.1 -> memory.2
        memory_write task.4 -> memory.2
    """)


@pytest.mark.every_kernel
def test_unix_stream_reaches_the_peer(tenant: Tenant, work: Path) -> None:
    assert tenant.lines(work, "unix") == graph("""
        version_activity task.0 -> task.1
        memory_read memory.0 -> task.1
        bind task.1 -> socket.0
        addressed 'socket' -> socket.0
        inode_create task.1 -> here.0 0xc1ed
        listen task.1 -> socket.0
        connect task.1 -> socket2.0
        addressed 'socket' peer -> socket2.0
        connect_unix_stream task.1 -> socket2.0
        accept_socket socket.0 -> socket3.0
        version_activity task.1 -> task.2
        accept socket3.0 -> task.2
        version_entity memory.0 -> memory.1
        memory_write task.2 -> memory.1
        version_activity task.2 -> task.3
        memory_read memory.1 -> task.3
        send_msg task.3 -> socket2.0
        version_entity socket3.0 -> socket3.1
        receive_unix socket2.0 -> socket3.1
        version_activity task.3 -> task.4
        receive_msg socket3.1 -> task.4
        version_entity memory.1 -> memory.2
        memory_write task.4 -> memory.2
    """)


def test_socket_as_a_file(whole: Tenant, work: Path) -> None:
    assert whole.lines(work, "socket-files") == graph("""
        version_activity task.0 -> task.1
        memory_read memory.0 -> task.1
        send task.1 -> socket.0 0x2
        send_msg task.1 -> socket.0
        receive_unix socket.0 -> socket2.0
        version_activity task.1 -> task.2
        receive socket2.0 -> task.2 0x4
        version_entity memory.0 -> memory.1
        memory_write task.2 -> memory.1
        version_activity task.2 -> task.3
        receive_msg socket2.0 -> task.3
        memory_write task.3 -> memory.1
    """)


def test_unix_datagram_names_its_receiver(whole: Tenant, work: Path) -> None:
    assert whole.lines(work, "datagram") == graph("""
        version_activity task.0 -> task.1
        memory_read memory.0 -> task.1
        send_msg task.1 -> socket.0
        send_unix socket.0 -> socket2.0
        version_activity task.1 -> task.2
        receive_msg socket2.0 -> task.2
        version_entity memory.0 -> memory.1
        memory_write task.2 -> memory.1
    """)


@pytest.mark.every_kernel
def test_address_of_its_own_and_of_its_peer(tenant: Tenant, work: Path) -> None:
    assert tenant.lines(work, "address-inet6") == graph("""
        version_activity task.0 -> task.1
        memory_read memory.0 -> task.1
        bind task.1 -> socket.0
        addressed [::1]:8081 -> socket.0
        connect task.1 -> socket2.0
        addressed [::1]:8081 peer -> socket2.0
    """)


def test_name_that_no_directory_holds_is_an_address(tenant: Tenant, work: Path) -> None:
    lines = tenant.lines(work, "address-abstract")
    assert lines[-1] == r"addressed '\x00not in a directory' -> socket.0"


def test_each_peer_of_a_socket_has_an_address(tenant: Tenant, work: Path) -> None:
    assert tenant.lines(work, "address-datagram") == graph("""
        version_activity task.0 -> task.1
        memory_read memory.0 -> task.1
        connect task.1 -> socket.0
        addressed 127.0.0.1:8082 peer -> socket.0
        addressed 127.0.0.1:8083 peer -> socket.0
    """)


def test_socket_that_forgets_its_peer_has_no_new_address(tenant: Tenant, work: Path) -> None:
    assert tenant.lines(work, "address-forgotten") == graph("""
        version_activity task.0 -> task.1
        memory_read memory.0 -> task.1
        connect task.1 -> socket.0
    """)


def test_address_of_another_family_is_kept_as_it_is(tenant: Tenant, work: Path) -> None:
    lines = tenant.lines(work, "address-netlink")
    assert lines[-1] == "addressed 16:00000000000000000000 -> socket.0"


@pytest.mark.parametrize(
    ("off", "vertices_off", "left"),
    [
        ([Relation.BIND, Relation.CONNECT], [], ["addressed", "addressed"]),
        ([], [VertexType.ADDRESS], ["version_activity", "memory_read", "bind", "connect"]),
        ([Relation.ADDRESSED], [], ["version_activity", "memory_read", "bind", "connect"]),
        ([], [VertexType.SOCKET], []),
    ],
)
def test_addresses_can_be_off_and_can_be_alone(
    lab: Lab, work: Path, off: list[Relation], vertices_off: list[VertexType], left: list[str]
) -> None:
    with lab.tenant(off={*NO_LOOK_UPS, *off}, vertices_off=vertices_off) as tenant:
        lines = tenant.lines(work, "address-inet6")
    assert [line.split()[0] for line in lines] == left
