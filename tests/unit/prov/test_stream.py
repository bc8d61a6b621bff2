# SPDX-License-Identifier: Apache-2.0
"""Subjects and headers: what is written is what is read back, and nothing else is accepted."""

import pytest
from headwater_prov.stream import SequenceRange, message_id, parse_subject, subject
from headwater_prov.vocabulary import RecordClass


@pytest.mark.parametrize("record_class", RecordClass)
def test_subjects_come_apart_again(record_class: RecordClass) -> None:
    text = subject("mfzwizltoq2dgmbr", record_class)
    assert text == f"prov.v1.mfzwizltoq2dgmbr.{record_class.value}"
    assert parse_subject(text) == ("mfzwizltoq2dgmbr", record_class)


@pytest.mark.parametrize("node", ["", "a.b", "*", ">", "a b"])
def test_node_tokens_that_would_change_the_subject_are_refused(node: str) -> None:
    with pytest.raises(ValueError, match="node token"):
        subject(node, RecordClass.GRAPH)


@pytest.mark.parametrize(
    "text",
    ["", "prov.v1.node", "prov.v2.node.graph", "prov.v1.node.x", "prov.v1..gap", "a.b.c.gap"],
)
def test_other_subjects_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="subject"):
        parse_subject(text)


def test_sequence_ranges() -> None:
    assert SequenceRange.parse("3-7") == SequenceRange(3, 7)
    assert SequenceRange(3, 7).count == 5
    assert str(SequenceRange(3, 3)) == "3-3"


@pytest.mark.parametrize("text", ["", "1", "0-3", "4-3", "-1-3", "1-x", " 1-2", "01-2"])
def test_broken_sequence_ranges_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"sequence range|Hw-Seq"):
        SequenceRange.parse(text)


def test_message_ids_name_node_load_and_batch() -> None:
    assert message_id("node", bytes(range(8)), 4) == "node-0001020304050607-4"
