# SPDX-License-Identifier: Apache-2.0
"""Messages are input: every header checked, every bomb defused, every refusal worded."""

import pytest
import zstandard
from headwater_auditor import Batch, InvalidBatchError
from headwater_auditor.batch import decode_payload, parse_header
from headwater_prov.stream import SequenceRange
from headwater_prov.vocabulary import RecordClass
from hypothesis import given
from hypothesis import strategies as st

SUBJECT = "prov.v1.nodea.graph"
HEADERS = {
    "Nats-Msg-Id": "nodea-00112233445566ff-1",
    "Hw-Seq": "1-250",
    "Hw-Count": "700",
    "Hw-Epoch": "3",
    "Hw-Policy": "cafe",
    "Hw-Encoding": "zstd",
    "Hw-Load": "00112233445566ff",
}
EMPTY = b'{"prefix":{"hw":"https://headwater.dev/ns#"}}'


def test_header_is_typed() -> None:
    header = parse_header(SUBJECT, HEADERS, stream_sequence=9)
    assert header.origin == "nodea-00112233445566ff"
    assert header.record_class is RecordClass.GRAPH
    assert header.numbers == SequenceRange(1, 250)
    assert (header.count, header.epoch, header.policy) == (700, "3", "cafe")
    assert header.stream_sequence == 9


def test_machine_document_has_no_numbers() -> None:
    headers = {name: value for name, value in HEADERS.items() if name != "Hw-Seq"}
    assert parse_header("prov.v1.nodea.machine", headers).numbers is None


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("Hw-Seq", "250-1", "first <= last"),
        ("Hw-Seq", "1", 'is not "first-last"'),
        ("Hw-Seq", None, "Hw-Seq: missing in class graph"),
        ("Hw-Count", "-1", "Hw-Count"),
        ("Hw-Count", "9" * 30, "is not a number"),
        ("Hw-Load", "00112233445566FF", "is not 16 hex digits"),
        ("Hw-Load", None, "Hw-Load"),
        ("Nats-Msg-Id", None, "Nats-Msg-Id"),
        ("Nats-Msg-Id", "x" * 1000, "Nats-Msg-Id"),
    ],
)
def test_wrong_header_is_named(name: str, value: str | None, words: str) -> None:
    headers = {key: each for key, each in {**HEADERS, name: value}.items() if each is not None}
    with pytest.raises(InvalidBatchError, match=words):
        parse_header(SUBJECT, headers, stream_sequence=9)


@pytest.mark.parametrize("subject", ["prov.v1.nodea", "prov.v2.nodea.graph", "prov.v1.nodea.evil"])
def test_wrong_subject_is_named(subject: str) -> None:
    with pytest.raises(InvalidBatchError, match="subject"):
        parse_header(subject, HEADERS)


@given(st.dictionaries(st.sampled_from(sorted(HEADERS)), st.text(max_size=20)), st.text())
def test_any_header_is_typed_or_refused(headers: dict[str, str], subject: str) -> None:
    try:
        parse_header(subject, headers)
        parse_header(SUBJECT, {**HEADERS, **headers})
    except InvalidBatchError:
        return


def test_payload_round_trip() -> None:
    packed = zstandard.compress(EMPTY, 1)
    assert decode_payload(packed, "zstd") == EMPTY
    assert decode_payload(EMPTY, None) == EMPTY


def test_bomb_is_refused_whatever_its_header_promises() -> None:
    bomb = zstandard.compress(bytes(10_000_000), 1)
    assert len(bomb) < 2000
    with pytest.raises(InvalidBatchError, match="more than 1000000 bytes"):
        decode_payload(bomb, "zstd", max_bytes=1_000_000)
    unsized = zstandard.ZstdCompressor(write_content_size=False).compress(bytes(10_000_000))
    with pytest.raises(InvalidBatchError, match="more than 1000000 bytes"):
        decode_payload(unsized, "zstd", max_bytes=1_000_000)


def test_huge_window_is_refused() -> None:
    parameters = zstandard.ZstdCompressionParameters(window_log=27, write_content_size=False)
    frame = zstandard.ZstdCompressor(compression_params=parameters)
    stream = frame.compressobj()
    data = stream.compress(EMPTY) + stream.flush()
    with pytest.raises(InvalidBatchError, match="damaged zstd data"):
        decode_payload(data, "zstd")


@given(st.binary(max_size=200))
def test_any_bytes_decode_or_are_refused(data: bytes) -> None:
    try:
        decode_payload(data, "zstd", max_bytes=10_000)
    except InvalidBatchError:
        return


def test_unknown_encoding_is_refused() -> None:
    with pytest.raises(InvalidBatchError, match='"gzip" is not known'):
        decode_payload(EMPTY, "gzip")


def test_broken_document_says_which_message() -> None:
    header = parse_header(SUBJECT, HEADERS, stream_sequence=9)
    assert Batch(header, EMPTY).document.count == 0
    with pytest.raises(InvalidBatchError, match="message 9"):
        _ = Batch(header, b'{"used": 1}').document
