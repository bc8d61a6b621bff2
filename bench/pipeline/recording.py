# SPDX-License-Identifier: Apache-2.0
"""Ring bytes recorded on a real machine, to be played again.

Why: made-up records have made-up shares of vertices, names and repeats; the benchmark's figures are
worth something only on what a kernel really wrote.

File: zstd over one line of JSON (:class:`RecordingHeader`) and the ring's bytes as they were, whole
submitted records one after the other. Who records: whoever has an attached program set, e.g. in the
node VM::

    reader = RingReader(capture.ring_fd, capture.ring_bytes)
    header = RecordingHeader(slots={1: 1}, command="make -j2", kernel=os.uname().release)
    record(reader, path, header, until=lambda: build.poll() is not None)
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import zstandard
from headwater_agent.ring import RingReader
from numpy.typing import NDArray

FORMAT = "headwater-ring-1"
_LEVEL = 12


@dataclass(frozen=True, slots=True)
class RecordingHeader:
    """What the bytes do not say themselves."""

    slots: dict[int, int]
    """The one epoch token of each slot in them."""

    command: str
    """What was run while it was recorded."""

    kernel: str
    """uname's release."""

    format: str = FORMAT


@dataclass(frozen=True, slots=True)
class Recording:
    """A recording in memory."""

    header: RecordingHeader
    ring: NDArray[np.uint8]


def record(
    reader: RingReader,
    path: Path,
    header: RecordingHeader,
    *,
    until: Callable[[], bool],
    poll_timeout_s: float = 0.05,
) -> int:
    """Write a recording of what comes through a ring.

    Args:
        reader: the only consumer of the ring.
        path: file to write.
        header: its first line.
        until: asked between two reads; the ring is read empty once it says so.
        poll_timeout_s: longest wait for records, in seconds.

    Returns:
        How many bytes of the ring it holds.
    """
    written = 0
    compressor = zstandard.ZstdCompressor(level=_LEVEL)
    with path.open("wb") as file, compressor.stream_writer(file) as stream:
        stream.write(json.dumps(asdict(header)).encode() + b"\n")
        ended = False
        while True:
            chunk = reader.read()
            if len(chunk.bytes):
                stream.write(chunk.bytes.tobytes())
                written += len(chunk.bytes)
                reader.release(chunk.end)
            elif ended:
                return written
            else:
                ended = until()
                if not ended:
                    reader.poll(poll_timeout_s)


def load(path: Path) -> Recording:
    """Read a recording.

    Raises:
        ValueError: the file is no recording.
        OSError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            data = zstandard.ZstdDecompressor().stream_reader(file).read()
        line, _, ring = data.partition(b"\n")
        fields = json.loads(line)
        if fields.get("format") != FORMAT:
            raise ValueError(f'format "{fields.get("format")}"')
        fields["slots"] = {int(slot): int(epoch) for slot, epoch in fields["slots"].items()}
        header = RecordingHeader(**fields)
    except (zstandard.ZstdError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"{path}: not a {FORMAT} recording: {error}") from error
    return Recording(header, np.frombuffer(ring, np.uint8))
