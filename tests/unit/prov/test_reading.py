# SPDX-License-Identifier: Apache-2.0
"""Documents survive being written and read; broken ones are refused with place and remedy."""

import io
import re

import orjson
import pytest
from headwater_prov.document import Document, DocumentError, Literal
from headwater_prov.reading import parse_document, parse_documents
from headwater_prov.vocabulary import GapReason, Relation, VertexType
from headwater_prov.writers import prov_json
from hypothesis import given
from hypothesis import strategies as st

from .recorder import report_story
from .strategies import documents

PREFIX = {"hw": "https://headwater.dev/ns#", "cf": "http://www.camflow.org/ns#"}
FILE = {"prov:type": {"$": "cf:file", "type": "xsd:QName"}, "cf:version": 0}
READ = {
    "prov:entity": "hw:f.0",
    "prov:activity": "hw:t.0",
    "prov:type": {"$": "cf:read", "type": "xsd:QName"},
    "prov:time": "2026-11-21T06:00:00Z",
}
GAP = {
    "prov:type": {"$": "hw:gap", "type": "xsd:QName"},
    "hw:first": 3,
    "hw:last": {"$": "5000000000", "type": "xsd:long"},
    "hw:count": {"$": "4999999998", "type": "xsd:long"},
    "hw:reason": "ring",
}


def written(document: Document) -> bytes:
    stream = io.BytesIO()
    prov_json.write(document, stream)
    return stream.getvalue()


@given(documents())
def test_what_is_written_is_read_back(document: Document) -> None:
    assert parse_document(written(document)) == document


def test_vertices_edges_and_gaps_are_understood() -> None:
    content = {
        "prefix": PREFIX,
        "entity": {
            "hw:f.0": {**FILE, "cf:ino": {"$": "77", "type": "xsd:long"}, "hw:foreign": True},
            "hw:gap.n.3": GAP,
        },
        "used": {"hw:n.1.0": {**READ, "cf:flags": "0x4"}},
    }
    document = parse_document(orjson.dumps(content))
    vertex = document.vertices["hw:f.0"]
    assert (vertex.type, vertex.object, vertex.version) == (VertexType.FILE, "f", 0)
    assert vertex.attributes == {"cf:ino": 77, "hw:foreign": True}
    [edge] = document.edges
    assert (edge.relation, edge.sender, edge.receiver) == (Relation.READ, "hw:f.0", "hw:t.0")
    assert edge.time_ns == 1_795_240_800_000_000_000
    assert edge.attributes == {"cf:flags": "0x4"}
    [gap] = document.gaps
    assert (gap.first, gap.last, gap.reason) == (3, 5_000_000_000, GapReason.RING)
    assert document.count == 3


def test_edges_come_in_the_order_of_capture_not_of_the_text() -> None:
    keys = ["hw:n.10.0", "hw:n.9.1", "hw:n.9.0"]
    content = {"prefix": PREFIX, "used": dict.fromkeys(keys, READ)}
    edges = parse_document(orjson.dumps(content)).edges
    assert [edge.key for edge in edges] == ["hw:n.9.0", "hw:n.9.1", "hw:n.10.0"]


def test_types_of_other_writers_are_understood() -> None:
    """The prov package writes its own name for a qualified name, and lists of declarations."""
    type_ = [{"$": "cf:file", "type": "prov:QUALIFIED_NAME"}]
    content = {
        "prefix": {**PREFIX, "ex": "http://example.org/"},
        "entity": {"hw:f.0": [{"prov:type": type_}, {"ex:note": {"$": "é", "lang": "fr"}}]},
    }
    vertex = parse_document(orjson.dumps(content)).vertices["hw:f.0"]
    assert vertex.attributes == {"ex:note": Literal("é", language="fr")}


def test_one_document_per_line() -> None:
    text = b"".join(written(d).replace(b"\n", b"") + b"\n\n" for d in report_story().documents)
    assert list(parse_documents(text + text)) == report_story().documents * 2
    broken = text + b'{"used": []}\n'
    with pytest.raises(DocumentError, match=r"tail\.json:3: used: is a list"):
        list(parse_documents(broken, "tail.json"))


def test_one_document_over_many_lines() -> None:
    [document] = parse_documents(written(report_story().documents[0]))
    assert document == report_story().documents[0]


def _entity(name: str, **attributes: object) -> dict[str, object]:
    return {"prefix": PREFIX, "entity": {name: {**FILE, **attributes}}}


def _used(key: str = "hw:n.1.0", **attributes: object) -> dict[str, object]:
    record = {**READ, **{name.replace("_", ":", 1): value for name, value in attributes.items()}}
    return {"prefix": PREFIX, "used": {key: {k: v for k, v in record.items() if v is not None}}}


BROKEN: dict[str, tuple[object, str]] = {
    "not an object": ([], "is a list; a PROV-JSON document is an object"),
    "null": (None, "is null; a PROV-JSON document is an object"),
    "unknown section": ({"bundle": {}}, "bundle: is no section of the record format; known: pre"),
    "section is a list": ({"entity": []}, "entity: is a list; must be an object"),
    "record is text": ({"entity": {"hw:a.0": "x"}}, 'entity "hw:a.0": is text; must be an object'),
    "prefix means another": (
        {"prefix": {"cf": "http://www.camflow.org"}},
        'prefix "cf": stands for "http://www.camflow.org"; must be "http://www.camflow.org/ns#"',
    ),
    "prefix is a number": ({"prefix": {"ex": 1}}, 'prefix "ex": is a number; must be'),
    "prefix is empty": ({"prefix": {"": "x"}}, "default namespace has no use"),
    "no prefix section": (
        {"entity": {"hw:a.0": FILE}},
        'prefix "hw" is not declared; add "hw": "https://headwater.dev/ns#" to section prefix',
    ),
    "name without version": (_entity("hw:a"), 'must be "hw:<object>.<version>"'),
    "version without end": (_entity("hw:a." + "9" * 30), 'must be "hw:<object>.<version>"'),
    "name of another prefix": (_entity("cf:a.0"), 'must be "hw:<object>.<version>"'),
    "name with base64 padding": (_entity("hw:a=.0"), 'must be "hw:<object>.<version>"'),
    "no type": (
        {"prefix": PREFIX, "entity": {"hw:a.0": {}}},
        'prov:type is missing; write {"$": "cf:<name>", "type": "xsd:QName"}',
    ),
    "unknown type": (_entity("hw:a.0", **{"prov:type": "cf:fil"}), '"cf:fil" is no vertex type'),
    "type without prefix": (
        _entity("hw:a.0", **{"prov:type": "file"}),
        'did you mean "cf:file"?',
    ),
    "two types": (_entity("hw:a.0", **{"prov:type": ["cf:file", "cf:pipe"]}), "is a list"),
    "type of another section": (
        _entity("hw:a.0", **{"prov:type": "cf:task"}),
        '"cf:task" belongs to section activity',
    ),
    "version differs": (_entity("hw:a.1"), "cf:version 0 is not the version in the name"),
    "nested attribute": (_entity("hw:a.0", **{"cf:address": {"host": "x"}}), "must be flat"),
    "attribute is null": (_entity("hw:a.0", **{"cf:x": None}), "cf:x: is null; must be text"),
    "attribute without prefix": (_entity("hw:a.0", note="x"), '"note" is no name'),
    "attribute of unknown prefix": (
        _entity("hw:a.0", **{"ex:note": "x"}),
        'prefix "ex" is not declared; add "ex": "its namespace\'s IRI"',
    ),
    "number is no number": (
        _entity("hw:a.0", **{"cf:ino": {"$": "x", "type": "xsd:long"}}),
        'cf:ino: "x" is no xsd:long',
    ),
    "relation without type": (_used(prov_type=None), "prov:type is missing"),
    "unknown relation": (_used(prov_type="cf:reads"), '"cf:reads" is no relation'),
    "relation of another section": (
        _used(prov_type="cf:write"),
        '"cf:write" belongs to section wasGeneratedBy',
    ),
    "no sender": (_used(prov_entity=None), "prov:entity is missing; must be the name of a vertex"),
    "receiver is a list": (_used(prov_activity=[]), "prov:activity is a list; must be the name"),
    "endpoint is no vertex": (_used(prov_entity="hw:f"), '"hw:f" is no vertex name'),
    "CamFlow's date": (_used(prov_time="2026:11:21T06:00:00"), "is not a time like"),
    "time is a number": (_used(prov_time=12), "prov:time"),
    "blank relation name": (_used("_:id1"), '"_:id1" is no name'),
    "gap without reason": (
        _entity("hw:gap.n.1", **{**GAP, "hw:reason": "weather"}),
        "hw:reason: 'weather' is not a valid GapReason; known: ring, storage",
    ),
    "gap backwards": (_entity("hw:gap.n.1", **{**GAP, "hw:first": 2**53}), "is less than"),
    "gap that miscounts": (_entity("hw:gap.n.1", **{**GAP, "hw:count": 1}), "does not cover 3-5"),
    "gap without first": (
        _entity("hw:gap.n.1", **{**GAP, "hw:first": 0}),
        "hw:first is 0; must be",
    ),
    "gap counted by truth": (
        _entity("hw:gap.n.1", **{**GAP, "hw:count": True}),
        "is True; must be",
    ),
    "gap as activity": (
        {"prefix": PREFIX, "activity": {"hw:gap.n.1": GAP}},
        "a gap belongs to section entity",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_documents_are_refused_with_place_and_remedy(case: str) -> None:
    content, message = BROKEN[case]
    with pytest.raises(DocumentError, match=re.escape(message)) as caught:
        parse_document(orjson.dumps(content), "given.json")
    assert str(caught.value).startswith("given.json: ")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", 'is empty; a document without records is "{}"'),
        (b" \n", "is empty"),
        (b'{"used": {', "line 1, column 11, offset 10: is not JSON"),
        (b'{"used": {}}\n{', "document:2: line 1, column 2, offset 1: is not JSON"),
        (b'{"a": "\xff"}', "is not JSON"),
        (b"\xef\xbb\xbf{}", "is not JSON"),
        (b"\x28\xb5\x2f\xfd\x00", "is not JSON"),
        (b'{"entity": NaN}', "is not JSON"),
        (b"[" * 5000, "is not JSON"),
    ],
)
def test_what_is_no_json_is_refused_with_its_place(data: bytes, message: str) -> None:
    with pytest.raises(DocumentError, match=re.escape(message)):
        list(parse_documents(data))


def test_errors_carry_section_and_key() -> None:
    with pytest.raises(DocumentError) as caught:
        parse_document(orjson.dumps(_used(prov_entity=None)), "given.json")
    assert (caught.value.source, caught.value.section, caught.value.key) == (
        "given.json",
        "used",
        "hw:n.1.0",
    )


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["prov:type", "$", "type", "hw:a.0", "prov:entity", "hw:n.1.0", "x"]),
            inner,
            max_size=3,
        )
    ),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(["prefix", "entity", "activity", "used"]), json_values))
def test_no_json_makes_the_reader_fail_otherwise(content: dict[str, object]) -> None:
    try:
        parse_document(orjson.dumps(content))
    except DocumentError as error:
        assert str(error)


@given(st.binary(max_size=40))
def test_no_bytes_make_the_reader_fail_otherwise(data: bytes) -> None:
    try:
        list(parse_documents(data))
    except DocumentError as error:
        assert str(error)
