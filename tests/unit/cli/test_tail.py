# SPDX-License-Identifier: Apache-2.0
"""What `headwater tail` prints of a batch of which a filter by policy left relations out."""

import json

import pytest
from headwater_auditor import Batch
from headwater_auditor.batch import BatchHeader
from headwater_auditor.policy_filter import PolicyFilter
from headwater_cli.verbs.tail import _print
from headwater_prov.vocabulary import RecordClass

from tests.unit.auditor.policies import Node

HEADER = BatchHeader("n", RecordClass.GRAPH, "id", "0" * 16, None, 0, "1", "", 1)


@pytest.fixture
def batch() -> Batch:
    """Two pods read a file each; one name has what JSON has to escape."""
    node = Node()
    node.read(node.pod("shop/web"), node.file("/of web\n"))
    node.read(node.pod("shop/db"), node.file("/of db"))
    payloads = [node.payload(each) for each in node.batches() if each.klass == "graph"]
    return Batch(HEADER, payloads[-1])


@pytest.fixture
def part(batch: Batch) -> Batch:
    return batch.with_document(PolicyFilter(["shop/web"]).apply(batch.document))


def test_json_is_one_line_and_has_what_is_left(
    batch: Batch, part: Batch, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    _print(batch, "prov-json")
    whole = capsysbinary.readouterr().out
    assert whole == batch.payload + b"\n"
    _print(part, "prov-json")
    printed = capsysbinary.readouterr().out
    assert printed.count(b"\n") == 1 and printed.endswith(b"\n")
    assert len(json.loads(whole)["used"]) == 2
    assert len(json.loads(printed)["used"]) == 1
    assert not part.is_whole and batch.is_whole


def test_lines_are_those_that_are_left(
    part: Batch, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    _print(part, "lines")
    assert capsysbinary.readouterr().out.count(b" read ") == 1
