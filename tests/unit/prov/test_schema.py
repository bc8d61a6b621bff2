# SPDX-License-Identifier: Apache-2.0
"""The schemas and the page about the format say what the code does."""

import io
import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from headwater_prov import schema
from headwater_prov.document import Document, Edge, Gap, Vertex
from headwater_prov.identifiers import gap_key
from headwater_prov.reading import parse_document
from headwater_prov.stream import Header
from headwater_prov.validation import Validator
from headwater_prov.vocabulary import (
    PROV_CLASSES,
    GapReason,
    RecordClass,
    Relation,
    VertexType,
)
from headwater_prov.writers import prov_json
from hypothesis import given, settings

from . import standards
from .recorder import ORIGIN, Recorder
from .strategies import workloads

DOCS = Path(__file__).parents[3] / "docs"
PAGE = (DOCS / "record-format.md").read_text()
EXAMPLES = re.findall(r"<!-- class: (\w+) -->\n```json\n(.*?)```", PAGE, flags=re.DOTALL)
CLASSES = [
    RecordClass.GRAPH,
    RecordClass.GAP,
    RecordClass.MACHINE,
    RecordClass.CHECKPOINT,
]


@cache
def validator(record_class: RecordClass) -> jsonschema.Draft202012Validator:
    content = schema.schemas()[record_class]
    jsonschema.Draft202012Validator.check_schema(content)
    return jsonschema.Draft202012Validator(content)


def written(document: Document) -> dict[str, Any]:
    stream = io.BytesIO()
    prov_json.write(document, stream)
    content = json.loads(stream.getvalue())
    assert isinstance(content, dict)
    return content


@pytest.mark.parametrize("record_class", CLASSES)
def test_the_files_are_what_the_vocabulary_makes(record_class: RecordClass) -> None:
    text = (DOCS / "schema" / schema.FILE_NAMES[record_class]).read_text()
    remedy = "run: python -m headwater_prov.schema docs/schema"
    assert text == schema.text(schema.schemas()[record_class]), remedy


def test_the_files_can_be_written_again(tmp_path: Path) -> None:
    schema.main(str(tmp_path))
    assert {path.name for path in tmp_path.iterdir()} == set(schema.FILE_NAMES.values())


def test_there_is_an_example_of_each_class() -> None:
    assert [name for name, _ in EXAMPLES] == CLASSES


@pytest.mark.parametrize(("name", "text"), EXAMPLES)
def test_examples_of_the_page_are_valid(name: str, text: str) -> None:
    validator(RecordClass(name)).validate(json.loads(text))
    standards.check(text.encode())
    stream = Validator()
    stream.feed(parse_document(text))
    assert stream.finish() == []


def _names(record: dict[str, Any], length: int = 22) -> dict[str, Any]:
    """The recorder's short ids, made as long as an agent's."""

    def full(name: str) -> str:
        object_, _, version = name.removeprefix("hw:").rpartition(".")
        return f"hw:{object_:x<{length}}"[: length + 3] + f".{version}"

    renamed: dict[str, Any] = {"prefix": record["prefix"]}
    for section, records in record.items():
        if section in ("entity", "activity", "agent"):
            renamed[section] = {full(name): value for name, value in records.items()}
        elif section in PROV_CLASSES:
            prov_class = PROV_CLASSES[section]
            ends = {prov_class.sender_key, prov_class.receiver_key}
            renamed[section] = {
                key: {k: full(v) if k in ends else v for k, v in value.items()}
                for key, value in records.items()
            }
    return renamed


@settings(max_examples=30)
@given(workloads())
def test_batches_are_valid_by_the_schema(recorder: Recorder) -> None:
    for batch in recorder.batches:
        record_class = RecordClass.GAP if batch.document.gaps else RecordClass.GRAPH
        content = written(batch.document)
        validator(record_class).validate(content if batch.document.gaps else _names(content))


def test_every_type_relation_and_reason_is_valid_by_the_schema() -> None:
    vertices = {
        f"hw:{'v' * 22}.{t.value}": Vertex(f"hw:{'v' * 22}.{t.value}", t) for t in VertexType
    }
    ends = f"hw:{'v' * 22}.0"
    edges = tuple(Edge(f"hw:{ORIGIN}.{r.value}.0", r, ends, ends, 0) for r in Relation)
    content = written(Document(vertices, edges))
    validator(RecordClass.GRAPH).validate(content)
    standards.w3c_validator().validate(content)
    for reason in GapReason:
        gap = Gap(gap_key(ORIGIN, 1), 1, 2**40, reason, 0, 1)
        validator(RecordClass.GAP).validate(written(Document(gaps=(gap,))))


BROKEN: list[tuple[str, str]] = [
    ('"cf:read"', '"cf:reads"'),
    ('"prov:entity": "hw:Hfc5QgInfqot6A_C9oEXFQ.0", ', ""),
    ("Hfc5QgInfqot6A_C9oEXFQ.0", "Hfc5QgInfqot6A_C9oEXFQ=.0"),
    ('"cf:ino": 1311', '"cf:ino": {"value": 1311}'),
    ('"cf:ino": 1311', '"ino": 1311'),
    ("2026-11-21T06:00:00.123475813Z", "2026:11:21T06:00:00"),
    ('"used": {', '"bundle": {'),
    ("http://www.camflow.org/ns#", "http://www.camflow.org"),
    (".6.0", ".0.0"),
]


@pytest.mark.parametrize(("old", "new"), BROKEN)
def test_the_schema_refuses_what_the_format_does_not_allow(old: str, new: str) -> None:
    text = EXAMPLES[0][1]
    assert old in text
    with pytest.raises(jsonschema.ValidationError):
        validator(RecordClass.GRAPH).validate(json.loads(text.replace(old, new)))


def _table_row(first_cell: str) -> str:
    [row] = [line for line in PAGE.splitlines() if line.startswith(f"| `{first_cell}` |")]
    return row


def test_the_page_lists_every_relation_in_its_section() -> None:
    for section, prov_class in PROV_CLASSES.items():
        cells = _table_row(section).split(" | ")
        listed = re.findall(r"`(\w+)`", cells[-1])
        assert listed == [r.camflow for r in Relation if r.prov_class is prov_class]
        assert f"`{prov_class.sender_key}`" in cells[1]
        assert f"`{prov_class.receiver_key}`" in cells[2]


def test_the_page_lists_every_type_attribute_reason_and_header() -> None:
    for kind in ("entity", "activity", "agent"):
        listed = re.findall(r"`(\w+)`", _table_row(kind).split(" | ")[1])
        assert listed == [t.camflow for t in VertexType if t.prov == kind]
    for attributes in (
        schema.VERTEX_ATTRIBUTES,
        schema.EDGE_ATTRIBUTES,
        schema.MACHINE_ATTRIBUTES,
    ):
        for name, text in attributes.items():
            assert f"| `{name}` | {text} |" in PAGE
    for reason in GapReason:
        assert _table_row(reason)
    for header in Header:
        assert _table_row(header)


def test_the_page_has_the_test_vectors() -> None:
    vectors = Path(__file__).with_name("test_identifiers.py").read_text()
    for value in re.findall(r'== "([\w-]{16,22})"', vectors):
        assert f"`{value}`" in PAGE
