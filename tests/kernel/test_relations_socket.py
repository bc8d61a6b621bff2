# SPDX-License-Identifier: Apache-2.0
"""Sockets: made, named, connected, accepted, and what goes through them (G2, G4)."""

from pathlib import Path

import pytest

from tests.kernel.graph import graph
from tests.kernel.lab import Tenant


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
        listen task.1 -> socket.0
        connect task.1 -> socket2.0
        accept_socket socket.0 -> socket3.0
        version_activity task.1 -> task.2
        accept socket3.0 -> task.2
        version_entity memory.0 -> memory.1
        memory_write task.2 -> memory.1
        version_activity task.2 -> task.3
        memory_read memory.1 -> task.3
        send_msg task.3 -> socket2.0
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
        inode_create task.1 -> here.0 0xc1ed
        listen task.1 -> socket.0
        connect task.1 -> socket2.0
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
