# SPDX-License-Identifier: Apache-2.0
"""The compiled walker and renderer on bytes that no kernel should write."""

from __future__ import annotations

import re
import struct
from pathlib import Path
from random import Random

import numpy as np
import pytest
from headwater_agent import _render
from headwater_agent.layout import RING_BUSY
from headwater_agent.ring import RingChunk
from headwater_prov.vocabulary import Relation
from hypothesis import given
from hypothesis import strategies as st

from bench.pipeline.simulation import SimulatedKernel
from bench.pipeline.workloads import random_workload
from tests.unit.agent.harness import document_of, feed, graphs


def chunk(data: bytes) -> RingChunk:
    return RingChunk(np.frombuffer(data, np.uint8), 0)


def record(payload: bytes, flags: int = 0) -> bytes:
    return struct.pack("<II", len(payload) | flags, 0) + payload


def header(kind: int, relation: int = 0, slot: int = 1, cpu: int = 0) -> bytes:
    return struct.pack("<BBHHHIIQ", kind, relation, slot, cpu, 0, 1, 11, 5)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\0\0\0", "end within a header"),
        (record(bytes(72), RING_BUSY), "record at byte 0 of 80"),
        (record(bytes(72))[:40], "record at byte 0 of 40"),
        (record(bytes(72)), "no slot"),
        (record(bytes(8)), "8 bytes, no slot"),
        (record(header(1, slot=1024) + bytes(48)), "no slot"),
        (record(header(1, cpu=9000) + bytes(48)), "CPU 9000"),
        (record(header(9) + bytes(48)), "kind 9 with 72 bytes"),
        (record(header(1) + bytes(40)), "kind 1 with 64 bytes"),
        (record(header(1, relation=0) + bytes(48)), "unknown relation 0"),
        (record(header(1, relation=95) + bytes(48)), "unknown relation 95"),
        (record(header(2) + bytes(128)), "unknown type 0"),
        (record(header(3) + struct.pack("<QIHH", 1, 0, 9, 0) + b"12345678"), "text record of 9"),
        (record(header(1, relation=53) + bytes(48)), "serial 0"),
    ],
)
def test_bytes_that_are_no_records_are_refused(data: bytes, message: str) -> None:
    fed = feed(SimulatedKernel(Random(1)), {1: "alpha"}, lambda: None)
    with pytest.raises(ValueError, match=message):
        fed.pipeline.feed(chunk(data))


@given(st.integers(0, 2**32), st.data())
def test_damaged_ring_never_crashes_the_process(seed: int, data: st.DataObject) -> None:
    """Whatever the bytes are, they are rendered or refused."""
    kernel = SimulatedKernel(Random(seed))
    fed = feed(kernel, {1: "alpha"}, lambda: None)
    random_workload(kernel, [1], 20)
    damaged = bytearray(kernel.ring)
    for _ in range(data.draw(st.integers(1, 8))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    try:
        fed.pipeline.feed(chunk(bytes(damaged)))
    except ValueError:
        return
    fed.pipeline.flush()


def test_document_is_cut_at_its_limits() -> None:
    kernel = SimulatedKernel(Random(1))
    fed = feed(kernel, {1: "alpha"}, lambda: random_workload(kernel, [1], 500), max_records=40)
    assert {batch.last - batch.first + 1 for batch in graphs(fed.batches, "alpha")[:-1]} == {40}


def test_number_too_large_for_32_bits_is_typed() -> None:
    kernel = SimulatedKernel(Random(1))

    def work() -> None:
        who = kernel.process(0, 1, 2**31 - 1)
        kernel.generated(who, Relation.WRITE, kernel.inode(0, 1, "/x", ino=2**63), 0, -(2**63))
        kernel.used(who, Relation.READ, kernel.inode(0, 1, "/y", ino=2**31), 0xFFFFFFFF, 2**31)

    (batch,) = graphs(feed(kernel, {1: "alpha"}, work).batches, "alpha")
    document = document_of(batch)
    (task,) = (v for v in document["activity"].values() if "cf:pid" in v)
    assert task["cf:pid"] == 2**31 - 1
    inodes = [v["cf:ino"] for v in document["entity"].values() if "cf:ino" in v]
    assert {"$": str(2**63), "type": "xsd:unsignedLong"} in inodes
    assert {"$": str(2**31), "type": "xsd:long"} in inodes
    (write,) = (e for e in document["wasGeneratedBy"].values() if "cf:offset" in e)
    assert write["cf:offset"] == {"$": str(-(2**63)), "type": "xsd:long"}
    (read,) = (e for e in document["used"].values() if "cf:flags" in e)
    assert (read["cf:flags"], read["cf:offset"]["$"]) == ("0xffffffff", str(2**31))


def test_text_of_every_size_is_read() -> None:
    kernel = SimulatedKernel(Random(1))
    lengths = [0, 1, 191, 192, 193, 511, 512, 513, 3_000, 4_100]

    def work() -> None:
        who = kernel.process(0, 1, 1)
        for length in lengths:
            kernel.arguments(who, b"x" * length)

    (batch,) = graphs(feed(kernel, {1: "alpha"}, work).batches, "alpha")
    relations = document_of(batch)["wasDerivedFrom"].values()
    assert sum(r["prov:type"]["$"] == "cf:arg" for r in relations) == len(lengths)


def test_members_of_enums_are_ints_whichever_compiler() -> None:
    """One beyond an int would make its whole enum unsigned (GCC 13): -HISTORY a large number."""
    for name in ("_render.pyx", "_objects.pxi", "_buffer.pxi"):
        text = (Path(_render.__file__).parent / name).read_text("utf-8")
        for body in re.findall(r"^cdef enum:\n((?:    .*\n|\n)+)", text, re.MULTILINE):
            values = [
                int(one, 0) for one in re.findall(r"^    [A-Z_]+ = (\w+)", body, re.MULTILINE)
            ]
            assert values
            if max(values) > 0x7FFFFFFF:
                assert len(values) == 2 and "RING_BUSY" in body
