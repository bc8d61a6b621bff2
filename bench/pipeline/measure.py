# SPDX-License-Identifier: Apache-2.0
"""One pass of the pipeline over recorded ring bytes, with and without a stream at its end.

A "captured record" is one record of the ring; a "PROV record" is one element or relation of the
documents made of it. A rate per core is per second of CPU time: everything here runs on one thread,
and a machine that has other things to do only makes the wall clock's rate lower.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nats
from headwater_agent.batch import Batch
from headwater_agent.delivery import Fate
from headwater_agent.node import NodeIdentity
from headwater_agent.pipeline import Pipeline, SlotBinding
from headwater_agent.publish import PublishWindow
from headwater_agent.render import scan
from headwater_agent.ring import MAX_CHUNK_BYTES, RingChunk
from headwater_cli.embedded_nats import EmbeddedNats

from bench.pipeline.recording import Recording

TENANT = "bench"
NODE = NodeIdentity(bytes(range(16)), bytes(range(16)), b"bench 01")
KEY = bytes(range(32))
CLOCK_OFFSET_NS = 1_795_000_000_000_000_000


@dataclass(frozen=True, slots=True)
class Pass:
    """What one pass took, in seconds, and made."""

    cpu_s: float
    total_s: float
    """By the wall clock, like the parts that follow."""

    scan_s: float
    """Finding whole records in the ring: reads each header."""

    ids_s: float
    """Object ids of objects seen for the first time: a keyed BLAKE2b each, in Python."""

    names_s: float
    """Paths and arguments: in Python."""

    zstd_s: float
    records: int
    elements: int
    json_bytes: int
    payload_bytes: int
    documents: int

    @property
    def render_s(self) -> float:
        """Everything else: the compiled walk, object table, versions and text."""
        return self.total_s - self.scan_s - self.ids_s - self.names_s - self.zstd_s


@dataclass(frozen=True, slots=True)
class Published:
    """What publishing the batches of one pass took and left."""

    total_s: float
    """Until the last acknowledgement, by the wall clock."""

    cpu_s: float
    """Of it, CPU time of the agent's process."""

    records: int
    elements: int
    stored: int
    """Messages acknowledged."""

    stream_bytes: int
    """What the stream says it takes."""


def chunks(recording: Recording) -> Iterator[tuple[RingChunk, float]]:
    """The ring in chunks as a reader hands them out, and what finding each one took."""
    at = 0
    while at < len(recording.ring):
        begin = time.perf_counter()
        size = scan(recording.ring[at:], MAX_CHUNK_BYTES)
        spent = time.perf_counter() - begin
        if not size:
            raise ValueError(f"recording ends within a record, at byte {at}")
        yield RingChunk(recording.ring[at : at + size], at), spent
        at += size


def make_pipeline(recording: Recording, *, duplicate: bool = False) -> Pipeline:
    """A pipeline that knows the recording's slots, all of one tenant.

    Args:
        recording: whose slots.
        duplicate: as in the policy's spec.compression: each document stands alone.
    """
    pipeline = Pipeline(NODE, clock_offset_ns=CLOCK_OFFSET_NS)
    for slot, epoch in recording.header.slots.items():
        pipeline.bind(SlotBinding(slot, TENANT, epoch, "bench", duplicate), KEY)
    return pipeline


class _Stopwatch:
    """Counts the time spent in a function; costs some 150 ns a call itself."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.spent_s = 0.0
        self._function = function

    def __call__(self, *args: Any) -> Any:
        begin = time.perf_counter()
        result = self._function(*args)
        self.spent_s += time.perf_counter() - begin
        return result


def render(recording: Recording, *, shares: bool = False, duplicate: bool = False) -> Pass:
    """Ring bytes to compressed documents.

    Args:
        recording: what to render.
        shares: also time the calls into Python, which slows the pass down a little.
        duplicate: as in the policy's spec.compression.
    """
    pipeline = make_pipeline(recording, duplicate=duplicate)
    tenant = pipeline.tenants[TENANT]
    watches = {
        name: _Stopwatch(getattr(tenant, name)) for name in ("object_id", "name", "arguments")
    }
    if shares:
        for name, watch in watches.items():
            setattr(tenant, name, watch)
    scan_s = 0.0
    cpu, begin = time.process_time(), time.perf_counter()
    for chunk, spent in chunks(recording):
        scan_s += spent
        pipeline.feed(chunk)
        pipeline.take()
    pipeline.flush()
    total_s, cpu_s = time.perf_counter() - begin, time.process_time() - cpu
    made = tenant.statistics
    return Pass(
        cpu_s=cpu_s,
        total_s=total_s,
        scan_s=scan_s,
        ids_s=watches["object_id"].spent_s,
        names_s=watches["name"].spent_s + watches["arguments"].spent_s,
        zstd_s=made.compress_ns / 1e9,
        records=made.records,
        elements=made.elements,
        json_bytes=made.json_bytes,
        payload_bytes=made.payload_bytes,
        documents=made.documents,
    )


async def publish(recording: Recording, state: Path, *, duplicate: bool = False) -> Published:
    """Ring bytes to acknowledged messages in a tenant's stream, on a server started for it."""
    with EmbeddedNats(state) as server:
        await server.ensure_tenant(TENANT)
        window = PublishWindow(server.capture_connection_options(NODE.token), node=NODE.token)
        await window.start()
        if not await window.wait_connected(10.0):
            raise RuntimeError(f"no connection to NATS: {window.statistics.last_error}")
        refused: list[str] = []

        def answered(fate: Fate, words: str) -> None:
            if fate is not Fate.STORED:
                refused.append(words)

        async def send(batches: list[Batch]) -> None:
            for batch in batches:
                await window.put(batch, answered)
            await asyncio.sleep(0)  # lets answers in, as between two reads of the ring

        pipeline = make_pipeline(recording, duplicate=duplicate)
        cpu, begin = time.process_time(), time.perf_counter()
        for chunk, _ in chunks(recording):
            pipeline.feed(chunk)
            await send(pipeline.take())
        await send(pipeline.flush())
        drained = await window.drain(60.0)
        total_s, cpu_s = time.perf_counter() - begin, time.process_time() - cpu
        if refused or not drained:
            raise RuntimeError(f"not everything was stored: {refused[:1] or 'no answer'}")
        stored = window.statistics.stored
        await window.stop()
        stream_bytes = await _stream_bytes(server)
    made = pipeline.tenants[TENANT].statistics
    return Published(total_s, cpu_s, made.records, made.elements, stored, stream_bytes)


async def _stream_bytes(server: EmbeddedNats) -> int:
    credentials = server.tenant_credentials(TENANT)
    client = await nats.connect(server.url, **credentials.connection_options())
    try:
        info = await client.jetstream().stream_info("PROV")
        return info.state.bytes
    finally:
        await client.close()
