# SPDX-License-Identifier: Apache-2.0
"""One message of a tenant's stream, taken apart: typed header, JSON, document.

Why: the stream is input, and a node that was taken over may publish anything under its own name.
Every header is checked, decompression is bounded, and what is wrong is said. Pure: no server.
Made by `stream.TenantStream`; `tracking.Tracker` and the auditor read it. Promises: G2, G5.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import zstandard
from headwater_prov.document import Document, DocumentError
from headwater_prov.reading import parse_document
from headwater_prov.stream import ENCODING_ZSTD, Header, SequenceRange, parse_subject
from headwater_prov.vocabulary import RecordClass

from headwater_auditor.errors import InvalidBatchError

DOCUMENT_BYTES_MAX = 64 * 1024 * 1024
"""Of JSON in one message. Agents cut at half a megabyte; this stops a bomb, not an agent."""

_ZSTD_WINDOW_MAX = 8 * 1024 * 1024
_MESSAGE_ID_MAX = 256
_LOAD = re.compile(r"[0-9a-f]{16}")
_NUMBER = re.compile(r"0|[1-9][0-9]{0,18}")
_NUMBERED = frozenset({RecordClass.GRAPH, RecordClass.GAP})


@dataclass(frozen=True, slots=True)
class BatchHeader:
    """What stands around a document."""

    node: str
    """Node token, from the subject: the server let nobody else publish under it."""

    record_class: RecordClass
    """From the subject: graph, gap, machine or disclosed."""

    message_id: str
    """`Nats-Msg-Id`; the same batch sent again has the same."""

    load: str
    """`Hw-Load`: which attach of the programs the numbers belong to, 16 hex digits."""

    numbers: SequenceRange | None
    """`Hw-Seq`: the captured records that the batch answers for; None: for none."""

    count: int
    """`Hw-Count`: PROV elements and relations in the document."""

    epoch: str
    """`Hw-Epoch`: number of the policy epoch; with commas if the records are of several."""

    policy: str
    """`Hw-Policy`: hash of the policy in force, one for each epoch; empty if none applies."""

    stream_sequence: int
    """Where in the stream the message is; read on from the next one."""

    @property
    def origin(self) -> str:
        """Node and load: what the numbers are contiguous in."""
        return f"{self.node}-{self.load}"


@dataclass(frozen=True)
class Batch:
    """A message: its header and its document, parsed when it is asked for."""

    header: BatchHeader
    """Checked."""

    payload: bytes
    """The PROV-JSON document, UTF-8, decompressed."""

    is_whole: bool = True
    """Whether `document` is all of `payload`; not so where relations were left out."""

    @cached_property
    def document(self) -> Document:
        """The document.

        Raises:
            InvalidBatchError: it is not a PROV-JSON document of the record format.
        """
        name = f"message {self.header.stream_sequence}"
        try:
            return parse_document(self.payload, name)
        except DocumentError as error:
            raise InvalidBatchError(str(error)) from error

    def with_document(self, document: Document) -> "Batch":
        """The same message, of which only this part of the document counts."""
        batch = replace(self, is_whole=False)
        batch.__dict__["document"] = document  # where `cached_property` looks
        return batch


def parse_header(
    subject: str, headers: Mapping[str, str], *, stream_sequence: int = 0
) -> BatchHeader:
    """Check and type what surrounds a document.

    Args:
        subject: of the message.
        headers: of the message.
        stream_sequence: where in the stream it is.

    Raises:
        InvalidBatchError: with the field that is wrong.
    """
    try:
        node, record_class = parse_subject(subject)
        text = headers.get(Header.SEQUENCE)
        numbers = None if text is None else SequenceRange.parse(text)
    except ValueError as error:
        raise InvalidBatchError(str(error)) from error

    def field(name: Header, form: re.Pattern[str], meaning: str) -> str:
        value = headers.get(name, "")
        if form.fullmatch(value) is None:
            raise InvalidBatchError(f'{name}: "{value[:80]}" is not {meaning}')
        return value

    if numbers is None and record_class in _NUMBERED:
        raise InvalidBatchError(f"{Header.SEQUENCE}: missing in class {record_class}")
    message_id = headers.get(Header.MESSAGE_ID, "")
    if not 0 < len(message_id) <= _MESSAGE_ID_MAX:
        raise InvalidBatchError(f"{Header.MESSAGE_ID}: missing or long")
    return BatchHeader(
        node=node,
        record_class=record_class,
        message_id=message_id,
        load=field(Header.LOAD, _LOAD, "16 hex digits"),
        numbers=numbers,
        count=int(field(Header.COUNT, _NUMBER, "a number")),
        epoch=headers.get(Header.EPOCH, ""),
        policy=headers.get(Header.POLICY, ""),
        stream_sequence=stream_sequence,
    )


def decode_payload(
    data: bytes, encoding: str | None, *, max_bytes: int = DOCUMENT_BYTES_MAX
) -> bytes:
    """Undo `Hw-Encoding`, within a bound.

    Args:
        data: as in the message.
        encoding: value of the header; None for a payload that is not encoded.
        max_bytes: what the result may have.

    Raises:
        InvalidBatchError: unknown encoding, damaged data, or a result that is too large.
    """
    if encoding is None:
        text = data
    elif encoding == ENCODING_ZSTD:
        text = _decompress(data, max_bytes)
    else:
        raise InvalidBatchError(
            f'{Header.ENCODING}: "{encoding[:80]}" is not known; it is "{ENCODING_ZSTD}" or absent'
        )
    if len(text) > max_bytes:
        raise InvalidBatchError(f"the document has more than {max_bytes} bytes")
    return text


def _decompress(data: bytes, max_bytes: int) -> bytes:
    """Decompress one frame; what its header promises is not believed."""
    unpacker = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW_MAX)
    try:
        with unpacker.stream_reader(data, read_across_frames=False) as reader:
            text: bytes = reader.read(max_bytes + 1)
    except zstandard.ZstdError as error:
        raise InvalidBatchError(f"{Header.ENCODING}: damaged zstd data: {error}") from error
    return text
