# SPDX-License-Identifier: Apache-2.0
"""What was recorded from a ring is what is played again."""

from __future__ import annotations

import os
from pathlib import Path
from random import Random

import pytest
import zstandard
from headwater_agent.decode import decode

from bench.pipeline.measure import render
from bench.pipeline.recording import RecordingHeader, load, record
from bench.pipeline.simulation import SimulatedKernel, random_workload
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
