# SPDX-License-Identifier: Apache-2.0
"""The two ends of a connection: named alike, also where addresses are translated between them (G2).

Two network namespaces stand for two hosts. What an id is made of does not depend on the machine
(tests/unit/agent/test_flows.py), so the one agent here sees what two would.
"""

import subprocess
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import pytest
from headwater_agent.decode import AnyRecord, TextRecord
from headwater_agent.flows import flow_of
from headwater_agent.layout import RecordKind, SlotFlag, TextMark
from headwater_prov.identifiers import FlowIds
from headwater_prov.vocabulary import Relation, VertexType

from tests.kernel.graph import address_of
from tests.kernel.lab import DEFAULT_FLAGS, NO_LOOK_UPS, TIMEOUT_S, Lab, Tenant

IDS = FlowIds(bytes(32))
MACHINE = bytes(16)
CLIENT, SERVER, SERVICE = "10.0.0.1", "10.0.0.2", "10.96.0.1"
NAMES = {"client": "hw-client", "server": "hw-server"}

SERVICES = f"""
table ip services {{
	chain output {{
		type nat hook output priority -100
		ip daddr {SERVICE} tcp dport 80 dnat to {SERVER}:8080
	}}
}}
"""


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, timeout=TIMEOUT_S)


def inside(host: str, words: Sequence[str]) -> list[str]:
    return ["nsenter", f"--net=/run/netns/{NAMES[host]}", *words]


@pytest.fixture
def hosts() -> Iterator[None]:
    """A client, a server, a cable, and a Service's address that the client's side translates."""
    try:
        for name in NAMES.values():
            ip("netns", "add", name)
        here, there = ("netns", NAMES["client"]), ("netns", NAMES["server"])
        ip("link", "add", "hw-a", here[0], here[1], "type", "veth", "peer", "hw-b", *there)
        for name, link, address in (
            (here[1], "hw-a", CLIENT),
            (there[1], "hw-b", SERVER),
        ):
            ip("-n", name, "address", "add", f"{address}/24", "dev", link)
            ip("-n", name, "link", "set", link, "up")
        ip("-n", here[1], "route", "add", SERVICE, "dev", "hw-a")
        subprocess.run(
            inside("client", ["nft", "-f", "-"]), input=SERVICES, text=True, check=True, timeout=30
        )
        yield
    finally:
        for name in NAMES.values():
            subprocess.run(["ip", "netns", "delete", name], check=False, timeout=TIMEOUT_S)


def flows(records: Iterable[AnyRecord]) -> dict[str, dict[int, str]]:
    """Per flow its sockets, each with its peer's address."""
    found: dict[str, dict[int, str]] = defaultdict(dict)
    for record in records:
        if isinstance(record, TextRecord) and TextMark.FLOW in record.marks:
            assert record.kind is RecordKind.ADDRESS
            found[flow_of(record.data, IDS, MACHINE)][record.object] = address_of(record)
    return found


def addresses(records: Iterable[AnyRecord], socket: int) -> set[str]:
    """The addresses that a socket has itself."""
    return {
        address_of(record)
        for record in records
        if isinstance(record, TextRecord)
        and record.kind is RecordKind.ADDRESS
        and record.object == socket
        and TextMark.PEER not in record.marks
    }


@pytest.mark.every_kernel
@pytest.mark.parametrize(
    ("called", "port"), [(SERVER, "8080"), (SERVICE, "80")], ids=["address", "service"]
)
@pytest.mark.usefixtures("hosts")
def test_both_hosts_name_a_connection_alike(
    whole: Tenant, work: Path, called: str, port: str
) -> None:
    whole.prepare(work)
    server = subprocess.Popen(inside("server", whole.words("flow-serve", SERVER, "8080")), cwd=work)
    try:
        subprocess.run(
            inside("client", whole.words("flow-call", called, port)),
            cwd=work,
            check=True,
            timeout=TIMEOUT_S,
        )
        assert server.wait(TIMEOUT_S) == 0
    finally:
        server.kill()
        server.wait()
    records = whole.take()
    ((_, ends),) = flows(records).items()
    peers = {peer.partition(":")[0]: socket for socket, peer in ends.items()}
    assert set(peers) == {CLIENT, called}
    assert f"{SERVER}:8080" in addresses(records, peers[CLIENT])
    assert any(each.startswith(f"{CLIENT}:") for each in addresses(records, peers[called]))


@pytest.mark.every_kernel
def test_two_connections_have_two_names(whole: Tenant, work: Path) -> None:
    first, second = (flows(whole.run(work, "inet")) for _ in range(2))
    assert [len(ends) for ends in (*first.values(), *second.values())] == [2, 2]
    assert not first.keys() & second.keys()


def test_datagrams_between_two_peers_are_one_flow(whole: Tenant, work: Path) -> None:
    """An edit begins an epoch, in which the connection is told of again."""
    whole.prepare(work)
    with subprocess.Popen(
        whole.words("flow-datagrams"), cwd=work, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin and process.stdout
        assert process.stdout.read(1) == b"x"
        ((flow, ends),) = flows(whole.take()).items()
        assert len(ends) == 2
        assert all(peer.startswith("[::1]:") for peer in ends.values())
        whole.edit()
        process.stdin.write(b"x")
        process.stdin.close()
        assert process.wait(TIMEOUT_S) == 0
    again = flows(whole.take())
    assert again.keys() == {flow}
    assert len(again[flow]) == 1


@pytest.mark.every_kernel
@pytest.mark.parametrize(
    ("family", "host"), [("inet", "127.0.0.1:"), ("inet6", "[::1]:")], ids=["inet", "inet6"]
)
def test_datagrams_of_sockets_without_peer_are_flows_by_message(
    whole: Tenant, work: Path, family: str, host: str
) -> None:
    records = whole.run(work, "datagrams-unconnected", family)
    found = flows(records)
    assert sorted(len(ends) for ends in found.values()) == [2, 2]
    first, second = (set(ends) for ends in found.values())
    (server,) = first & second
    assert all(peer.startswith(host) for ends in found.values() for peer in ends.values())
    for socket in first | second:
        own = addresses(records, socket)
        assert any(each.startswith(host) for each in own)
    # What comes again of a pair of ends is not told again, as far as a task remembers.
    told = [
        record.object
        for record in records
        if isinstance(record, TextRecord) and TextMark.FLOW in record.marks
    ]
    assert len(told) < 10
    assert told.count(server) >= 2


def test_datagrams_are_told_of_each_time_without_compression(lab: Lab, work: Path) -> None:
    flags = DEFAULT_FLAGS & ~SlotFlag.COMPRESS_EDGES
    with lab.tenant(flags=flags) as tenant:
        records = tenant.run(work, "datagrams-unconnected", "inet")
    told = [r for r in records if isinstance(r, TextRecord) and TextMark.FLOW in r.marks]
    assert len(told) == 10  # five datagrams, sent and received


@pytest.mark.parametrize("off", [Relation.ADDRESSED, VertexType.ADDRESS, VertexType.SOCKET])
def test_ends_of_datagrams_can_be_left_out(
    lab: Lab, work: Path, off: Relation | VertexType
) -> None:
    relations = {*NO_LOOK_UPS, *([off] if isinstance(off, Relation) else [])}
    types = [off] if isinstance(off, VertexType) else []
    with lab.tenant(off=relations, vertices_off=types) as tenant:
        assert flows(tenant.run(work, "datagrams-unconnected", "inet")) == {}


def test_ends_of_datagrams_without_their_flows(lab: Lab, work: Path) -> None:
    """As with names: an object is declared by whatever is recorded of it."""
    off = {*NO_LOOK_UPS, Relation.SEND_MSG, Relation.RECEIVE_MSG}
    with lab.tenant(off=off) as tenant:
        found = flows(tenant.run(work, "datagrams-unconnected", "inet"))
    assert sorted(len(ends) for ends in found.values()) == [2, 2]


@pytest.mark.every_kernel
@pytest.mark.usefixtures("hosts")
def test_both_hosts_name_datagrams_alike(whole: Tenant, work: Path) -> None:
    """Also where one of them listens on every address that it has."""
    whole.prepare(work)
    server = subprocess.Popen(inside("server", whole.words("datagrams-serve", "5353")), cwd=work)
    try:
        subprocess.run(
            inside("client", whole.words("datagrams-call", SERVER, "5353")),
            cwd=work,
            check=True,
            timeout=TIMEOUT_S,
        )
        assert server.wait(TIMEOUT_S) == 0
    finally:
        server.kill()
        server.wait()
    records = whole.take()
    ((_, ends),) = flows(records).items()
    peers = {peer.partition(":")[0]: socket for socket, peer in ends.items()}
    assert set(peers) == {CLIENT, SERVER}
    assert f"{SERVER}:5353" in addresses(records, peers[CLIENT])
    assert any(each.startswith(f"{CLIENT}:") for each in addresses(records, peers[SERVER]))
