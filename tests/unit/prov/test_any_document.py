# SPDX-License-Identifier: Apache-2.0
"""Documents that make no sense are still answered, drawn and checked without a crash.

People hand in files that were edited; whatever the reader accepts, the rest has to bear.
"""

import io

from headwater_prov.document import Document, Edge, Vertex, merge
from headwater_prov.identifiers import relation_key
from headwater_prov.lineage import Direction, Lineage
from headwater_prov.picture import draw
from headwater_prov.validation import Rule, validate
from headwater_prov.vocabulary import Relation, VertexType
from headwater_prov.writers import Rendering, dot
from hypothesis import given
from hypothesis import strategies as st

from .recorder import ORIGIN
from .strategies import documents

PATH = Vertex("hw:path.0", VertexType.PATH, {"cf:pathname": "/a"})


def with_path(document: Document) -> Document:
    """The document with a path that names each of its vertices."""
    named = tuple(
        Edge(relation_key(ORIGIN, 10**7 + place, 0), Relation.NAMED, PATH.name, name)
        for place, name in enumerate(document.vertices)
    )
    return Document({**document.vertices, PATH.name: PATH}, (*document.edges, *named))


@given(documents(), st.booleans())
def test_lineage_answers_for_every_path(document: Document, everything: bool) -> None:
    document = with_path(document)
    lineage = Lineage(document, everything=everything)
    for path in lineage.paths():
        for direction in Direction:
            answer = lineage.origins(path) if direction == "origins" else lineage.uses(path)
            assert answer.sentence.isprintable()
            assert answer.table().replace("\n", "").isprintable()
            assert all(edge in document.edges for edge in answer.document.edges)


@given(documents(), st.booleans(), st.booleans())
def test_pictures_show_every_edge_that_is_kept(
    document: Document, versions: bool, everything: bool
) -> None:
    document = with_path(document)
    picture = draw(document, versions=versions, everything=everything)
    ids = {node.id for node in picture.nodes}
    assert all({arrow.tail, arrow.head} <= ids for arrow in picture.arrows)
    assert 0 <= picture.left_out <= len(document.edges)
    dot.write(document, io.BytesIO(), Rendering(versions=versions, everything=everything))


@given(st.lists(documents(), max_size=3))
def test_validation_names_places_that_exist(made: list[Document]) -> None:
    names = {name for document in made for name in document.vertices}
    names |= {edge.key for document in made for edge in document.edges}
    names |= {end for document in made for e in document.edges for end in (e.sender, e.receiver)}
    for problem in validate(made):
        assert problem.place in names
        assert problem.rule in Rule


@given(documents())
def test_a_document_merged_with_itself_is_itself(document: Document) -> None:
    assert merge([document, document]) == document
