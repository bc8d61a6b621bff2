# SPDX-License-Identifier: Apache-2.0
"""What was recorded from a ring is what is played again."""

from __future__ import annotations

import os
from pathlib import Path
from random import Random

import orjson
import pytest
import zstandard
from headwater_agent.decode import decode
from headwater_agent.layout import RING_DISCARD
from headwater_agent.reference import ReferenceRenderer
from headwater_agent.ring import RingChunk
from headwater_prov.reading import parse_document
from headwater_prov.stream import SequenceRange
from headwater_prov.validation import Validator

from bench.pipeline.__main__ import RECORDING
from bench.pipeline.measure import CLOCK_OFFSET_NS, KEY, NODE, make_pipeline, render
from bench.pipeline.recording import RecordingHeader, load, record
from bench.pipeline.simulation import SimulatedKernel
from bench.pipeline.workloads import random_workload
from tests.unit.agent.test_ring import FakeRing, UnpolledReader


def test_recording_holds_every_byte_and_renders(tmp_path: Path) -> None:
    kernel = SimulatedKernel(Random(1))
    kernel.set_epoch(1, 1)
    random_workload(kernel, [1], 100)
    ring = FakeRing(64 * 1024)
    sent = bytes(kernel.ring)
    at = 0
    for _ in decode(sent):
        length = int.from_bytes(sent[at : at + 4], "little")
        ring.write(sent[at + 8 : at + 8 + length])
        at += 8 + length
    reader = UnpolledReader(ring.fd, ring.size)
    header = RecordingHeader({1: 1}, "make", "6.12.0")
    asked = iter([False, True])
    written = record(
        reader, tmp_path / "file", header, until=lambda: next(asked), poll_timeout_s=0.0
    )
    found = load(tmp_path / "file")
    assert (found.header, bytes(found.ring)) == (header, sent)
    assert written == len(sent) == reader.position
    assert render(found).records == sum(c.captured for c in kernel.counters[1])
    reader.close()
    os.close(ring.fd)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no zstd",
        zstandard.compress(b"no json\n"),
        zstandard.compress(b"[]\n"),
        zstandard.compress(b'{"format": "other"}\n'),
        zstandard.compress(b'{"format": "headwater-ring-1", "slots": {}}\n'),
    ],
)
def test_file_that_is_no_recording_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(ValueError, match="file: not a headwater-ring-1 recording"):
        load(tmp_path / "file")


@pytest.mark.parametrize("duplicate", [False, True])
def test_recorded_build_renders_as_the_reference_says_and_keeps_the_rules(duplicate: bool) -> None:
    """What a real kernel wrote: its first four thousand records."""
    recording = load(RECORDING)
    ring = bytes(recording.ring)
    begin = cut_after(ring, 4_000)
    pipeline = make_pipeline(recording, duplicate=duplicate)
    pipeline.feed(RingChunk(recording.ring[:begin], 0))
    reference = ReferenceRenderer(KEY, NODE, CLOCK_OFFSET_NS, {1}.__contains__, {})
    validator = Validator()
    records = decode(ring[:begin])
    for batch in pipeline.flush():
        if batch.klass == "machine":
            continue
        for _ in range(batch.last - batch.first + 1):
            reference.record(next(records), 1, "bench", stands_alone=duplicate)
        text = zstandard.decompress(batch.payload)
        assert orjson.loads(text) == reference.cut()
        validator.feed(
            parse_document(text),
            origin=NODE.origin,
            numbers=SequenceRange(batch.first, batch.last),
            epoch=batch.headers["Hw-Epoch"],
        )
    assert next(records, None) is None
    assert validator.finish() == []


def cut_after(ring: bytes, records: int) -> int:
    """Where so many records of a ring end."""
    at = 0
    for _ in range(records):
        length = int.from_bytes(ring[at : at + 4], "little") & ~RING_DISCARD
        at += 8 + (length + 7 & ~7)
    return at
