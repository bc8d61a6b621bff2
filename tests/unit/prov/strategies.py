# SPDX-License-Identifier: Apache-2.0
"""Hypothesis strategies: any document, and the documents of any workload."""

from __future__ import annotations

from headwater_prov.document import Document, Edge, Gap, Literal, Scalar, Value, Vertex, order_edges
from headwater_prov.identifiers import gap_key, relation_key
from headwater_prov.vocabulary import GapReason, Relation, VertexType
from hypothesis import strategies as st

from .recorder import ORIGIN, Recorder

texts = st.text(st.characters(codec="utf-8"), max_size=12)
scalars: st.SearchStrategy[Scalar] = st.one_of(
    texts,
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=False, allow_infinity=False),
    st.just(Literal("cf:file", "xsd:QName")),
    st.just(Literal("2026-11-21T06:00:00Z", "xsd:dateTime")),
    st.builds(Literal, texts, st.just(""), st.just("en")),
)
values: st.SearchStrategy[Value] = scalars | st.lists(scalars, min_size=2, max_size=3).map(tuple)
attributes = st.dictionaries(
    st.sampled_from(["cf:name", "cf:flags", "cf:pathname", "prov:label"]),
    values,
    max_size=3,
)
times = st.none() | st.integers(0, 2**62)
object_ids = st.text("abcXYZ019-_", min_size=1, max_size=22)
vertex_names = st.builds("hw:{}.{}".format, object_ids, st.integers(0, 2**40))


@st.composite
def documents(draw: st.DrawFn) -> Document:
    """Any document that the format can say, whether or not it makes sense."""
    names = draw(st.lists(vertex_names, unique=True, max_size=5))
    types = st.sampled_from(VertexType)
    # Few names, so that edges meet.
    ends = st.sampled_from(names) if names else vertex_names
    vertices = {name: Vertex(name, draw(types), draw(attributes)) for name in names}
    edges = [
        Edge(
            relation_key(ORIGIN, sequence, draw(st.integers(0, 3))),
            draw(st.sampled_from(Relation)),
            draw(ends | vertex_names),
            draw(ends | vertex_names),
            draw(times),
            draw(attributes),
        )
        for sequence in draw(st.lists(st.integers(1, 10**6), unique=True, max_size=5))
    ]
    gaps = [
        Gap(
            gap_key(ORIGIN, first),
            first,
            first + draw(st.integers(0, 2**33)),
            draw(st.sampled_from(GapReason)),
            draw(times),
            draw(times),
            draw(attributes),
        )
        for first in draw(st.lists(st.integers(1, 2**40), unique=True, max_size=2))
    ]
    ordered = {
        vertex.name: vertex
        for kind in ("entity", "activity", "agent")
        for vertex in vertices.values()
        if vertex.type.prov == kind
    }
    return Document(ordered, tuple(order_edges(edges)), tuple(gaps))


@st.composite
def workloads(draw: st.DrawFn) -> Recorder:
    """Processes that fork, read and write, cut into batches anywhere, with losses declared."""
    recorder = Recorder()
    processes = [recorder.process("init", 1)]
    files = [recorder.file(f"/data/{index}") for index in range(3)]
    recorder.cut()
    actions = st.sampled_from(["read", "write", "fork", "thread", "exec", "cut", "lose"])
    for step, action in enumerate(draw(st.lists(actions, max_size=30)), 2):
        process = draw(st.sampled_from(processes))
        file = draw(st.sampled_from(files))
        if action == "read":
            recorder.read(file, process)
        elif action == "write":
            recorder.write(process, file)
        elif action == "fork":
            processes.append(recorder.fork(process, step))
        elif action == "thread":
            processes.append(recorder.thread(process, step))
        elif action == "exec":
            recorder.exec(process, file, f"program{step}", "-v")
        else:
            if recorder.sequence >= recorder._first:
                recorder.cut()
            if action == "lose":
                recorder.lose(draw(st.integers(1, 5)))
    if recorder.sequence >= recorder._first:
        recorder.cut()
    return recorder
