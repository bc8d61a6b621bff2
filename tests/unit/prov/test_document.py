# SPDX-License-Identifier: Apache-2.0
"""Many batches become one document, whatever came twice or out of order."""

from random import Random

import pytest
from headwater_prov.document import Document, DocumentError, Edge, Gap, Vertex, merge
from headwater_prov.vocabulary import GapReason, Relation, VertexType
from hypothesis import given
from hypothesis import strategies as st

from .recorder import Recorder, report_story
from .strategies import workloads

TASK = Vertex("hw:t.0", VertexType.TASK, {"cf:pid": 1, "cf:name": "sh"})


def edge(key: str, *, time_ns: int | None = None, sender: str = "hw:f.0") -> Edge:
    return Edge(key, Relation.READ, sender, "hw:t.0", time_ns)


def test_a_vertex_declared_again_keeps_the_old_and_takes_the_new() -> None:
    again = Vertex("hw:t.0", VertexType.TASK, {"cf:name": "python3", "cf:vpid": 2})
    merged = merge([Document({"hw:t.0": TASK}), Document({"hw:t.0": again})])
    assert merged.vertices["hw:t.0"].attributes == {"cf:pid": 1, "cf:name": "python3", "cf:vpid": 2}


def test_an_inode_whose_type_becomes_known_takes_it() -> None:
    unknown = Vertex("hw:f.0", VertexType.INODE_UNKNOWN, {"cf:ino": 7})
    known = Vertex("hw:f.0", VertexType.FILE)
    merged = merge([Document({"hw:f.0": unknown}), Document({"hw:f.0": known})])
    assert merged.vertices["hw:f.0"] == Vertex("hw:f.0", VertexType.FILE, {"cf:ino": 7})


@given(workloads(), st.data())
def test_g3_redelivered_batches_change_nothing(recorder: Recorder, data: st.DataObject) -> None:
    documents = recorder.documents
    again = data.draw(st.lists(st.sampled_from(documents), max_size=4))
    assert merge([*documents, *again]) == merge(documents)


@given(workloads(), st.randoms(use_true_random=False))
def test_the_order_of_edges_does_not_depend_on_the_order_of_batches(
    recorder: Recorder, random: Random
) -> None:
    documents = recorder.documents
    shuffled = list(documents)
    random.shuffle(shuffled)
    assert merge(shuffled).edges == merge(documents).edges
    assert merge(shuffled).vertices == merge(documents).vertices


def test_origins_follow_their_first_time_and_then_their_numbers() -> None:
    late = (edge("hw:a.1.0", time_ns=50), edge("hw:a.2.0", time_ns=60))
    early = (edge("hw:b.2.0", time_ns=40), edge("hw:b.10.0", time_ns=99))
    merged = merge([Document(edges=late), Document(edges=early)])
    assert [e.key for e in merged.edges] == ["hw:b.2.0", "hw:b.10.0", "hw:a.1.0", "hw:a.2.0"]


def test_merging_nothing_is_the_empty_document() -> None:
    assert merge([]) == Document()
    assert merge([]).count == 0


def test_merging_keeps_every_record_of_a_story() -> None:
    documents = report_story().documents
    assert merge(documents).count == sum(document.count for document in documents)


@pytest.mark.parametrize(
    ("documents", "message"),
    [
        (
            [Document({"hw:t.0": TASK}), Document({"hw:t.0": Vertex("hw:t.0", VertexType.FILE)})],
            'entity "hw:t.0": is declared as task and as file',
        ),
        (
            [Document(edges=(edge("hw:a.1.0"),)), Document(edges=(edge("hw:a.1.0", time_ns=5),))],
            'used "hw:a.1.0": two different relations have this name',
        ),
        (
            [
                Document(gaps=(Gap("hw:gap.a.1", 1, 2, GapReason.RING),)),
                Document(gaps=(Gap("hw:gap.a.1", 1, 3, GapReason.RING),)),
            ],
            'entity "hw:gap.a.1": two gaps have this name',
        ),
        (
            [Document(prefixes={"ex": "http://a/"}), Document(prefixes={"ex": "http://b/"})],
            'prefix "ex": stands for "http://a/" in one document and "http://b/" in another',
        ),
    ],
)
def test_documents_that_contradict_each_other_are_refused(
    documents: list[Document], message: str
) -> None:
    with pytest.raises(DocumentError) as caught:
        merge(documents, source="given")
    assert str(caught.value) == f"given: {message}"
