# SPDX-License-Identifier: Apache-2.0
"""PROV-JSON and PROV-N against the W3C's schema and the reference implementation."""

import io

import orjson
from headwater_prov.document import Document, Edge, Gap, Literal, Vertex, merge
from headwater_prov.vocabulary import GapReason, Relation, VertexType
from headwater_prov.writers import prov_json, prov_n
from hypothesis import given
from prov.model import ProvDocument

from . import standards
from .recorder import Recorder, report_story
from .strategies import documents, workloads


def as_json(document: Document) -> bytes:
    stream = io.BytesIO()
    prov_json.write(document, stream)
    return stream.getvalue()


def as_prov_n(document: Document) -> bytes:
    stream = io.BytesIO()
    prov_n.write(document, stream)
    return stream.getvalue()


def load_prov_n(data: bytes) -> ProvDocument:
    document = ProvDocument.deserialize(content=data.decode(), format="provn", profile="strict")
    assert isinstance(document, ProvDocument)
    return document


@given(workloads())
def test_every_batch_passes_the_schema_and_loads_in_prov(recorder: Recorder) -> None:
    for document in recorder.documents:
        standards.check(as_json(document))


def test_the_whole_story_passes_the_schema_and_loads_in_prov() -> None:
    standards.check(as_json(merge(report_story().documents)))


@given(documents())
def test_prov_n_says_what_prov_json_says(document: Document) -> None:
    assert load_prov_n(as_prov_n(document)) == standards.load(as_json(document))


def test_every_relation_and_type_has_its_prov_n_form() -> None:
    vertices = {f"hw:v{t.value}.0": Vertex(f"hw:v{t.value}.0", t) for t in VertexType}
    edges = tuple(
        Edge(
            f"hw:n.{r.value}.0",
            r,
            f"hw:v{min(r.senders)}.0",
            f"hw:v{min(r.receivers)}.0",
            10**18 + r.value,
        )
        for r in Relation
    )
    document = Document(vertices, edges)
    standards.check(as_json(document))
    assert load_prov_n(as_prov_n(document)) == standards.load(as_json(document))


def test_prov_n_reads_as_in_the_standard() -> None:
    document = Document(
        {"hw:-f.0": Vertex("hw:-f.0", VertexType.FILE, {"cf:ino": 2**40, "hw:foreign": True})},
        (Edge("hw:n.1.0", Relation.READ, "hw:-f.0", "hw:t.0", 0, {"cf:flags": "0x4"}),),
        (Gap("hw:gap.n.2", 2, 3, GapReason.RING, 0, attributes={"cf:x": Literal("a", "", "en")}),),
    )
    assert as_prov_n(document).decode().splitlines() == [
        "document",
        "  prefix hw <https://headwater.dev/ns#>",
        "  prefix cf <http://www.camflow.org/ns#>",
        "  entity(hw:\\-f.0, [prov:type='cf:file', cf:version=0, "
        'cf:ino="1099511627776" %% xsd:long, hw:foreign="true" %% xsd:boolean])',
        "  entity(hw:gap.n.2, [prov:type='hw:gap', hw:first=2, hw:last=3, hw:count=2, "
        'hw:reason="ring", hw:begin="1970-01-01T00:00:00.000000000Z" %% xsd:dateTime, '
        'cf:x="a"@en])',
        "  used(hw:n.1.0; hw:t.0, hw:\\-f.0, 1970-01-01T00:00:00.000000000Z, "
        "[prov:type='cf:read', cf:flags=\"0x4\"])",
        "endDocument",
    ]


def test_prov_json_has_one_record_per_line() -> None:
    data = as_json(merge(report_story().documents))
    content = orjson.loads(data)
    records = sum(len(part) for section, part in content.items() if section != "prefix")
    assert sum(line.startswith(b'"hw:') for line in data.splitlines()) == records


def test_integers_that_javascript_would_round_are_typed() -> None:
    vertex = Vertex("hw:f.0", VertexType.FILE, {"cf:a": 2**31 - 1, "cf:b": 2**31, "cf:c": 2**63})
    record = orjson.loads(as_json(Document({vertex.name: vertex})))["entity"]["hw:f.0"]
    assert record["cf:a"] == 2**31 - 1
    assert record["cf:b"] == {"$": "2147483648", "type": "xsd:long"}
    assert record["cf:c"] == {"$": "9223372036854775808", "type": "xsd:unsignedLong"}
