# SPDX-License-Identifier: Apache-2.0
"""Checkpoints are written and read alike, are documents like all others, and are checked."""

import json
from typing import Any

import pytest
from headwater_prov.checkpoint import (
    ChainHead,
    Checkpoint,
    parse_checkpoint,
    render_checkpoint,
)
from headwater_prov.document import merge
from headwater_prov.reading import parse_document
from headwater_prov.vocabulary import RecordClass
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.prov import standards
from tests.unit.prov.test_schema import validator

ORIGIN = "x65lx32fkvgm7ig4-3820627974657321"
_TIMES = st.integers(0, 2**62)
_POSITIONS = st.integers(1, 2**53)
_HEADS = st.builds(
    ChainHead, st.just("a" * 16), _POSITIONS, st.binary(min_size=32, max_size=32), _TIMES
)
CHECKPOINTS = st.builds(
    Checkpoint,
    origin=st.just(ORIGIN),
    position=_POSITIONS,
    time_ns=_TIMES,
    opened_ns=_TIMES,
    due_ns=st.none() | _TIMES,
    sequence=st.integers(0, 2**53),
    statement=st.sampled_from(["", "abc.def"]),
    previous=st.none() | _HEADS,
)


@given(CHECKPOINTS)
def test_what_was_written_is_read_back(checkpoint: Checkpoint) -> None:
    text = render_checkpoint(checkpoint)
    assert parse_checkpoint(text) == checkpoint
    content = json.loads(text)
    validator(RecordClass.CHECKPOINT).validate(content)
    standards.w3c_validator().validate(content)
    document = parse_document(text)
    assert document.checkpoints == (checkpoint,)
    assert document.count == 1
    assert merge([document]).count == 0


def changed(**attributes: Any) -> bytes:
    checkpoint = Checkpoint(ORIGIN, 7, 1, 0, 2, 5, "a.b", ChainHead("a" * 16, 3, bytes(32), 0))
    content = json.loads(render_checkpoint(checkpoint))
    [record] = content["entity"].values()
    for name, value in attributes.items():
        record["hw:" + name] = value
    record_without_none = {key: value for key, value in record.items() if value is not None}
    content["entity"] = dict.fromkeys(content["entity"], record_without_none)
    return json.dumps(content).encode()


@pytest.mark.parametrize(
    ("attributes", "words"),
    [
        ({"position": 8}, "hw:position: 8"),
        ({"position": True}, "hw:position"),
        ({"sequence": -1}, "hw:sequence"),
        ({"time": "yesterday"}, "hw:time"),
        ({"opened": None}, "hw:opened"),
        ({"closed": "no"}, "hw:closed"),
        ({"closed": True}, "hw:closed"),
        ({"due": None}, "hw:closed"),
        ({"statement": 1}, "hw:statement"),
        ({"previousLoad": "A" * 16}, "hw:previousLoad"),
        ({"previousDigest": "00"}, "hw:previousDigest"),
        ({"previousPosition": 0}, "hw:previousPosition"),
        ({"previousTime": None}, "hw:previousTime"),
    ],
)
def test_what_is_wrong_is_named(attributes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse_checkpoint(changed(**attributes))
    with pytest.raises(ValueError, match=words):
        parse_document(changed(**attributes))


@pytest.mark.parametrize("text", [b"", b"[]", b"{}", b'{"entity": {"a": 1}}', b'{"entity": []}'])
def test_what_is_no_checkpoint(text: bytes) -> None:
    with pytest.raises(ValueError, match="checkpoint"):
        parse_checkpoint(text)
