# SPDX-License-Identifier: Apache-2.0
"""An export of a stream: its messages in a file, as they are, for evidence and for later.

Why: what a stream holds is gone when its age is over, and an auditor may have to show it to
somebody who has no access to NATS. `headwater verify --export` writes one, `headwater verify FILE`
reads it; any program can, for it is JSON, one object a line:

1. ``{"format": "headwater-export", "version": 1, "tenant": ..., "exported": <ISO 8601>,
   "fromBegin": ..., "toEnd": ...}``;
2. for each message ``{"sequence": ..., "time": <ISO 8601>, "subject": ..., "headers": {...},
   "payload": <base64>}``, in the order of the stream;
3. ``{"messages": <count>}``: without it the file was cut.

The file proves nothing by itself: the signatures in it do.
"""

import base64
import binascii
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import orjson
from headwater_prov.times import format_time, parse_time

from headwater_auditor.message import StoredMessage

_FORMAT = "headwater-export"
_VERSION = 1
_LINE_MAX = 64 * 1024 * 1024


class ExportError(ValueError):
    """A file is not an export, or not a whole one."""


@dataclass(frozen=True, slots=True)
class ExportHeader:
    """What an export is of."""

    tenant: str
    exported_ns: int
    """When the stream was read, nanoseconds since 1970."""

    from_begin: bool
    """Whether it has the first message that was stored then."""

    to_end: bool
    """Whether it has the newest."""


class ExportWriter:
    """Writes an export; without `finish` it is not a whole one.

    Args:
        stream: where to.
        header: of what.
    """

    def __init__(self, stream: BinaryIO, header: ExportHeader) -> None:
        self._stream = stream
        self._messages = 0
        self._write(
            {
                "format": _FORMAT,
                "version": _VERSION,
                "tenant": header.tenant,
                "exported": format_time(header.exported_ns),
                "fromBegin": header.from_begin,
                "toEnd": header.to_end,
            }
        )

    def add(self, message: StoredMessage) -> None:
        """Write the next message."""
        self._messages += 1
        self._write(
            {
                "sequence": message.sequence,
                "time": format_time(message.time_ns),
                "subject": message.subject,
                "headers": dict(message.headers),
                "payload": base64.b64encode(message.payload).decode("ascii"),
            }
        )

    def finish(self) -> None:
        """Say that this was all."""
        self._write({"messages": self._messages})

    def _write(self, content: dict[str, Any]) -> None:
        self._stream.write(orjson.dumps(content) + b"\n")


class ExportReader:
    """Reads an export.

    Args:
        path: of the file.

    Raises:
        ExportError: it is none; the message says where.
        OSError: it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with open(path, "rb") as stream:
            content = self._parse(1, stream.readline(_LINE_MAX))
        try:
            if (content["format"], content["version"]) != (_FORMAT, _VERSION):
                raise ValueError(f"its format is not {_FORMAT}, version {_VERSION}")
            flags = content["fromBegin"], content["toEnd"]
            if not all(isinstance(flag, bool) for flag in flags):
                raise ValueError("fromBegin and toEnd: must be truth values")
            self.header = ExportHeader(
                _text(content, "tenant"), parse_time(_text(content, "exported")), *flags
            )
        except (KeyError, ValueError) as error:
            raise self._error(1, error) from error

    def messages(self) -> Iterator[StoredMessage]:
        """Yield the messages.

        Raises:
            ExportError: a line is not one, or the file ends before the export does.
            OSError: it cannot be read.
        """
        count = 0
        with open(self._path, "rb") as stream:
            stream.readline(_LINE_MAX)
            for number, line in enumerate(iter(lambda: stream.readline(_LINE_MAX), b""), start=2):
                content = self._parse(number, line)
                if "messages" in content:
                    if content["messages"] != count or stream.read(1):
                        raise self._error(number, ValueError(f"{count} messages came before it"))
                    return
                count += 1
                try:
                    yield _message(content)
                except (KeyError, ValueError, binascii.Error) as error:
                    raise self._error(number, error) from error
        raise self._error(count + 2, ValueError("the file ends before the export does"))

    def _parse(self, number: int, line: bytes) -> dict[str, Any]:
        try:
            content = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            raise self._error(number, error) from error
        if not isinstance(content, dict):
            raise self._error(number, ValueError("not a JSON object"))
        return content

    def _error(self, line: int, error: Exception) -> ExportError:
        reason = f"{error.args[0]}: missing" if isinstance(error, KeyError) else str(error)
        return ExportError(f"{self._path}:{line}: not a line of an export: {reason}")


def _message(content: dict[str, Any]) -> StoredMessage:
    sequence, headers = content["sequence"], content["headers"]
    if type(sequence) is not int or sequence < 1:
        raise ValueError("sequence: must be a whole number from 1")
    if not isinstance(headers, dict) or not all(isinstance(v, str) for v in headers.values()):
        raise ValueError("headers: must be an object of texts")
    return StoredMessage(
        sequence,
        parse_time(_text(content, "time")),
        _text(content, "subject"),
        headers,
        base64.b64decode(_text(content, "payload"), validate=True),
    )


def _text(content: dict[str, Any], name: str) -> str:
    value = content[name]
    if not isinstance(value, str):
        raise ValueError(f"{name}: must be text")
    return value
