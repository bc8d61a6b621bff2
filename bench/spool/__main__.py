# SPDX-License-Identifier: Apache-2.0
"""`python -m bench.spool [--json FILE]`: what it costs to have every message on disk first.

Prints a table; never a gate. The batches are those of `bench.pipeline`'s recording, cut as an agent
cuts them at full speed and, for quiet tenants, every few records. Each is written, linked, noted as
offered, and settled at once, as where NATS takes everything in time. CPU time of one thread; the
directory decides what a sync costs, so that is in time of the clock.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from zlib import crc32

from headwater_agent.batch import Batch, BatchLimits
from headwater_agent.chain import Chains
from headwater_agent.node_key import NodeKey
from headwater_agent.spool.blocks import Sealer, encode_batch
from headwater_agent.spool.log import SpoolLog, position_of
from headwater_agent.spool.recovery import recover

from bench.pipeline.__main__ import RECORDING, simulate
from bench.pipeline.measure import KEY, NODE, TENANT
from bench.pipeline.recording import Recording, load
from bench.verify.__main__ import make_batches

LOAD = NODE.load_id.hex()
FILE_BYTES = 1024 * 1024
SYNCED = 50
"""Messages that are synced one by one: enough for a median."""


@dataclass(frozen=True, slots=True)
class Figures:
    """One pass, in microseconds for each message."""

    messages: int
    records: int
    payload_bytes: int
    make: float
    """Reading the ring, rendering, compressing."""

    link: float
    """Chain and signature."""

    spool: float
    """Written, noted as offered and settled."""

    seal: float
    """Of it, encrypting."""

    checksum: float
    """CRC-32 instead."""

    wait_only: float
    """Written and read back: what a message costs that is on disk because it has to wait."""

    recover: float
    """Found after a kill."""

    sync: float
    """Waiting for the disk after each message, by the clock."""


def timed(function: Callable[[], object]) -> float:
    """Microseconds of CPU that a call takes."""
    begin = time.process_time()
    function()
    return (time.process_time() - begin) * 1e6


def log_in(directory: Path) -> SpoolLog:
    """A new log."""
    return SpoolLog(
        directory / LOAD,
        tenant=TENANT,
        load=LOAD,
        sealer=Sealer(KEY, TENANT, LOAD),
        file_bytes=FILE_BYTES,
        boot=bytes(16),
    )


def deliver(log: SpoolLog, batches: Sequence[Batch], linked: Sequence[Batch]) -> None:
    """Have every message on disk before it is sent, and off it when it is stored."""
    for batch, sent in zip(batches, linked, strict=True):
        place = log.append(batch, keep=True)
        position = position_of(sent)
        log.offer(place, sent, position)
        log.settle(place, sent, position, bytes(32))


def wait(log: SpoolLog, batches: Sequence[Batch]) -> None:
    """Have every message on disk only, and read it back."""
    for batch in batches:
        log.append(batch, keep=False)
    while log.read() is not None:
        pass


def synced(batches: Sequence[Batch], directory: Path) -> float:
    """Microseconds by the clock to have one message on the disk itself."""
    times: list[float] = []
    descriptor = os.open(directory / "synced", os.O_WRONLY | os.O_CREAT)
    for batch in batches[:SYNCED]:
        os.write(descriptor, batch.payload)
        begin = time.perf_counter()
        os.fdatasync(descriptor)
        times.append(time.perf_counter() - begin)
    os.close(descriptor)
    return statistics.median(times) * 1e6


def measure(recording: Recording, limits: BatchLimits, base: Path) -> Figures:
    """One pass."""
    made: list[Batch] = []
    make = timed(lambda: made.extend(make_batches(recording, limits)))
    chains, linked = Chains(NODE, NodeKey.generate()), list[Batch]()

    def link_all() -> None:
        for batch in made:
            linked.append(chains.link(batch))
            chains.settle(linked[-1])

    sealer, count = Sealer(KEY, TENANT, LOAD), len(made)
    contents = [encode_batch(batch, 0) for batch in made]
    with tempfile.TemporaryDirectory(dir=base) as name:
        directory = Path(name)
        for each in ("a", "b"):
            (directory / each).mkdir()
        waiting = log_in(directory / "b")

        def find() -> None:
            recover(
                directory / "b" / LOAD,
                tenant=TENANT,
                load=LOAD,
                sealer=sealer,
                boot=bytes(16),
                file_bytes=FILE_BYTES,
            )

        figures = Figures(
            messages=count,
            records=sum(batch.last - batch.first + 1 for batch in made if batch.last),
            payload_bytes=sum(len(batch.payload) for batch in made),
            make=make / count,
            link=timed(link_all) / count,
            spool=timed(lambda: deliver(log_in(directory / "a"), made, linked)) / count,
            seal=timed(lambda: [sealer.seal(c, bytes(16), 0, b"") for c in contents]) / count,
            checksum=timed(lambda: [crc32(content) for content in contents]) / count,
            wait_only=timed(lambda: wait(waiting, made)) / count,
            recover=timed(find) / count,
            sync=synced(made, directory),
        )
    return figures


def middle(passes: Sequence[Figures]) -> Figures:
    """The median of each figure."""
    names = ("make", "link", "spool", "seal", "checksum", "wait_only", "recover", "sync")
    return replace(
        passes[0],
        **{name: statistics.median(getattr(each, name) for each in passes) for name in names},
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.spool", description=__doc__)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here")
    parser.add_argument("--runs", type=int, default=5, help="passes of which the median is printed")
    parser.add_argument("--records", type=int, default=150_000, help="size of a simulated build")
    parser.add_argument(
        "--directory", type=Path, default=Path("build"), help="on the disk to measure"
    )
    arguments = parser.parse_args()
    recording = load(RECORDING) if RECORDING.exists() else simulate(arguments.records)
    arguments.directory.mkdir(exist_ok=True)
    results: dict[str, dict[str, float]] = {}
    for name, limits in (
        ("full batches", BatchLimits()),
        ("100 records a batch", BatchLimits(max_records=100)),
        ("20 records a batch", BatchLimits(max_records=20)),
    ):
        runs = range(arguments.runs)
        each = middle([measure(recording, limits, arguments.directory) for _ in runs])
        results[name] = asdict(each)
        print(
            f"{name}: {each.messages} messages, {each.payload_bytes / each.messages:.0f} bytes and "
            f"{each.records / each.messages:.0f} records each; µs for one:\n"
            f"  make {each.make:.0f}, link {each.link:.0f}, spool {each.spool:.0f} "
            f"({each.spool / (each.make + each.link):.1%} of both), of it seal {each.seal:.0f} "
            f"(CRC-32 {each.checksum:.0f}); write and read back {each.wait_only:.0f}, "
            f"recover {each.recover:.0f}, sync each {each.sync:.0f}"
        )
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
