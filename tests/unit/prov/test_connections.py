# SPDX-License-Identifier: Apache-2.0
"""From the reader of a connection to its writer, on one node and across two (G4)."""

from dataclasses import dataclass, replace

import pytest
from headwater_prov.connections import CLOCKS_APART_NS, joined
from headwater_prov.document import Document, merge
from headwater_prov.graph import Graph
from headwater_prov.lineage import Lineage
from headwater_prov.vocabulary import Relation, VertexType

from .recorder import ORIGIN, Process, Recorder, Thing

ELSEWHERE = "y65lx32fkvgm7ig4-2021222324252627"
FLOW = "A" * 22


@dataclass
class Host:
    """One end of a connection: a program, its socket."""

    recorder: Recorder
    program: Process
    socket: Thing

    def send(self) -> None:
        self.recorder.generated(Relation.SEND_MSG, self.program, self.socket)

    def receive(self) -> None:
        self.recorder.used(Relation.RECEIVE_MSG, self.socket, self.program)

    def read(self, path: str) -> None:
        self.recorder.read(self.recorder.file(path), self.program)

    def write(self, path: str) -> None:
        self.recorder.write(self.program, self.recorder.file(path))


@dataclass
class Scene:
    """A client and a server, whose clocks are as far apart as is said."""

    client: Host
    server: Host
    apart_ns: int = 0

    def document(self) -> Document:
        parts = list(self.client.recorder.documents)
        if self.server.recorder is not self.client.recorder:
            for each in self.server.recorder.documents:
                edges = tuple(
                    replace(edge, time_ns=(edge.time_ns or 0) + self.apart_ns)
                    for edge in each.edges
                )
                parts.append(replace(each, edges=edges))
        return merge(parts)

    def origins(self, path: str) -> set[str]:
        answer = Lineage(self.document()).origins(path)
        return {
            name
            for vertex in answer.document.vertices.values()
            if isinstance(name := vertex.attributes.get("cf:pathname"), str)
        }


def host(recorder: Recorder, comm: str, pid: int, flow: str = FLOW) -> Host:
    socket = recorder.file(None, VertexType.SOCKET)
    recorder.join(socket, flow)
    return Host(recorder, recorder.process(comm, pid), socket)


def on_one_node() -> Scene:
    recorder = Recorder()
    return Scene(host(recorder, "curl", 10), host(recorder, "nginx", 20))


class Alternately(Recorder):
    """A second node, whose records are numbered (and so timed) after those of the first."""

    def __init__(self, first: Recorder) -> None:
        super().__init__(ELSEWHERE)
        self._first_node = first
        self._count = 1000

    def record(self, *flows: tuple[Relation, Thing, Thing]) -> None:
        self.sequence = self._first_node.sequence = (
            max(self.sequence, self._first_node.sequence) + 1
        )
        super().record(*flows)


def on_two_nodes(apart_ns: int = 0) -> Scene:
    first = Recorder()
    second = Alternately(first)
    return Scene(host(first, "curl", 10), host(second, "nginx", 20), apart_ns)


SCENES = {
    "one node": on_one_node,
    "two nodes": on_two_nodes,
    "a clock behind": lambda: on_two_nodes(-CLOCKS_APART_NS // 2),
    "a clock ahead": lambda: on_two_nodes(CLOCKS_APART_NS // 2),
}


@pytest.fixture(params=SCENES.values(), ids=list(SCENES))
def scene(request: pytest.FixtureRequest) -> Scene:
    made: Scene = request.param()
    return made


def test_what_a_server_read_is_an_origin_of_what_its_client_wrote(scene: Scene) -> None:
    client, server = scene.client, scene.server
    client.read("/etc/request")
    client.send()
    client.receive()  # begins to wait
    server.receive()
    server.read("/srv/data.csv")
    server.send()
    client.write("/tmp/answer.csv")
    assert {"/srv/data.csv", "/etc/request"} <= scene.origins("/tmp/answer.csv")


def test_the_answer_names_the_other_program() -> None:
    scene = on_one_node()
    scene.server.read("/srv/data.csv")
    scene.server.send()
    scene.client.receive()
    scene.client.write("/tmp/answer.csv")
    answer = Lineage(scene.document()).origins("/tmp/answer.csv")
    sent, received = (str(row) for row in reversed(answer.rows))
    socket = received.rpartition(" read ")[2]
    assert received == f"answer.csv was written by curl (pid 10) which read {socket}"
    assert sent == f"{socket} was written by nginx (pid 20) which read /srv/data.csv"


def test_uses_cross_a_connection_too(scene: Scene) -> None:
    scene.client.read("/home/secret")
    scene.client.send()
    scene.server.receive()
    scene.server.write("/srv/log")
    uses = Lineage(scene.document()).uses("/home/secret")
    assert any("/srv/log" in row.objects for row in uses.rows)


def test_what_is_sent_after_the_answer_was_taken_is_no_origin_of_it() -> None:
    scene = on_one_node()
    client, server = scene.client, scene.server
    client.send()
    server.receive()
    server.send()
    client.receive()
    client.write("/tmp/first")
    client.read("/home/later")
    client.send()
    server.receive()
    server.read("/srv/later")
    server.send()
    client.receive()
    client.write("/tmp/second")
    assert not scene.origins("/tmp/first") & {"/home/later", "/srv/later"}
    assert {"/home/later", "/srv/later"} <= scene.origins("/tmp/second")
    assert Graph(joined(scene.document()).edges).find_cycle() == []


def test_what_was_received_without_a_record_of_its_own_is_not_missed() -> None:
    """A flow that repeats is not recorded: the first receive stands for those that followed."""
    scene = on_one_node()
    scene.client.send()
    scene.server.receive()
    scene.client.read("/home/secret")
    scene.client.send()
    scene.server.write("/srv/upload")
    assert "/home/secret" in scene.origins("/srv/upload")


def test_a_call_with_two_records_is_joined_by_both() -> None:
    """read(2) of a socket is a receive and a receive_msg."""
    scene = on_one_node()
    scene.server.read("/srv/data.csv")
    scene.server.send()
    scene.client.recorder.used(Relation.RECEIVE, scene.client.socket, scene.client.program)
    scene.client.receive()
    own = scene.client.socket.name
    assert all(
        edge.sender != own
        for edge in joined(scene.document()).edges
        if edge.relation in (Relation.RECEIVE, Relation.RECEIVE_MSG)
    )


def test_another_connection_is_another() -> None:
    recorder = Recorder()
    scene = Scene(host(recorder, "curl", 10), host(recorder, "nginx", 20, "B" * 22))
    scene.server.read("/srv/data.csv")
    scene.server.send()
    scene.client.receive()
    scene.client.write("/tmp/answer.csv")
    assert "/srv/data.csv" not in scene.origins("/tmp/answer.csv")
    assert joined(scene.document()) == scene.document()


def test_keys_stay_unique_and_say_where_they_come_from() -> None:
    scene = on_one_node()
    for path in ("/a", "/b"):
        scene.server.read(path)
        scene.server.send()
        scene.server.receive()
    scene.client.receive()
    scene.client.write("/tmp/answer.csv")
    edges = joined(scene.document()).edges
    assert len({edge.key for edge in edges}) == len(edges)
    made = [edge for edge in edges if edge.relation is Relation.RECEIVE_MSG and edge.attributes]
    assert len(made) == 2
    assert all(edge.key.startswith(f"hw:{ORIGIN}.") for edge in made)
    assert {edge.attributes["hw:flow"] for edge in made} == {FLOW}
