# SPDX-License-Identifier: Apache-2.0
"""`python -m bench.verify [--json FILE]`: what signing costs, and how fast a stream is verified.

Prints a table; never a gate. The batches are those of `bench.pipeline`'s recording, cut as an agent
cuts them at full speed and, for quiet tenants, every few records. Everything is on one thread, in
CPU time, and each pass takes all sizes in turn, so the ratios are of one run.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import io
import json
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from headwater_agent.batch import Batch, BatchLimits
from headwater_agent.chain import Chains
from headwater_agent.node_key import NodeKey
from headwater_agent.pipeline import Pipeline, SlotBinding
from headwater_agent.publish import PublishWindow
from headwater_auditor import StoredMessage
from headwater_auditor.export import ExportHeader, ExportReader, ExportWriter
from headwater_auditor.verification import Report, Scope, StreamVerifier, Verdict
from headwater_cli.consume import open_stream
from headwater_cli.embedded_nats import EmbeddedNats
from headwater_operator.accounts import KeyPair, Role
from headwater_prov.signing import is_signature, parse_signature, signed_text
from headwater_prov.statement import sign_statement
from headwater_prov.stream import Header, subject
from headwater_prov.vocabulary import RecordClass

from bench.pipeline.__main__ import RECORDING, simulate
from bench.pipeline.measure import CLOCK_OFFSET_NS, KEY, NODE, TENANT, chunks
from bench.pipeline.recording import Recording, load

GOAL_RECORDS_PER_S = 200_000
SIZES = (100, 50, 20, 10)
OPERATOR = KeyPair.generate(Role.OPERATOR)


@dataclass(frozen=True, slots=True)
class Figures:
    """One pass over the recording, times in seconds of CPU."""

    records: int
    messages: int
    payload_bytes: int
    render_s: float
    link_s: float
    sha256_s: float
    blake2b_s: float
    signatures_s: float
    """Of `verify_s` what the library of signatures takes: no verifier can be faster."""

    verify_s: float
    export_s: float
    """Reading an export of it and verifying that."""

    @property
    def signing_share(self) -> float:
        """What chaining and signing add to making the batches."""
        return self.link_s / self.render_s


def make_batches(recording: Recording, limits: BatchLimits) -> list[Batch]:
    """Batches as an agent cuts them."""
    pipeline = Pipeline(NODE, limits=limits, clock_offset_ns=CLOCK_OFFSET_NS)
    for slot, epoch in recording.header.slots.items():
        pipeline.bind(SlotBinding(slot, TENANT, epoch, "bench", False), KEY)
    batches: list[Batch] = []
    for chunk, _ in chunks(recording):
        pipeline.feed(chunk)
        batches += pipeline.take()
    return batches + pipeline.flush()


def link(batches: Sequence[Batch]) -> list[Batch]:
    """Give every batch its place, between the two checkpoints."""
    key = NodeKey.generate()
    statement = sign_statement(
        node=NODE.token,
        key=key.public,
        issuer=OPERATOR.public,
        issued_at=0,
        sign=OPERATOR.sign,
    )
    chains = Chains(NODE, key, statement=statement)
    linked = [chains.checkpoint(TENANT)]
    for batch in batches:
        chains.settle(linked[-1])
        linked.append(chains.link(batch))
    return [*linked, chains.checkpoint(TENANT, is_closing=True)]


def as_stored(batches: Sequence[Batch]) -> list[StoredMessage]:
    """What a stream holds of them."""
    return [
        StoredMessage(
            number,
            time.time_ns(),
            subject(NODE.token, RecordClass(batch.klass)),
            batch.headers,
            batch.payload,
        )
        for number, batch in enumerate(batches, start=1)
    ]


def verify(messages: Sequence[StoredMessage]) -> Report:
    """Judge them, and see that they are what they should be."""
    verifier = StreamVerifier(TENANT, [OPERATOR.public])
    for message in messages:
        verifier.feed(message)
    report = verifier.report(Scope(now_ns=time.time_ns()))
    if report.verdict is not Verdict.INTACT:
        raise RuntimeError(f"the benchmark's own stream is not intact: {report.findings[:3]}")
    return report


def signature_checks(messages: Sequence[StoredMessage]) -> Callable[[], object]:
    """The signatures alone, of texts that are there already."""
    signed = [
        (
            *parse_signature(each.headers[Header.SIGNATURE]),
            signed_text(TENANT, each.subject, each.headers, each.payload),
        )
        for each in messages
    ]
    return lambda: [is_signature(*each) for each in signed]


def timed(function: Callable[[], object]) -> float:
    """Seconds of CPU that a call takes."""
    begin = time.process_time()
    function()
    return time.process_time() - begin


def measure(recording: Recording, limits: BatchLimits, export: Path) -> Figures:
    """One pass."""
    made: list[Batch] = []
    linked: list[Batch] = []
    render_s = timed(lambda: made.extend(make_batches(recording, limits)))
    link_s = timed(lambda: linked.extend(link(made)))
    messages = as_stored(linked)
    payloads = [message.payload for message in messages]
    buffer = io.BytesIO()
    writer = ExportWriter(buffer, ExportHeader(TENANT, time.time_ns(), True, True))
    for message in messages:
        writer.add(message)
    writer.finish()
    export.write_bytes(buffer.getvalue())
    return Figures(
        records=sum(batch.last - batch.first + 1 for batch in made if batch.last),
        messages=len(messages),
        payload_bytes=sum(map(len, payloads)),
        render_s=render_s,
        link_s=link_s,
        sha256_s=timed(lambda: [hashlib.sha256(payload).digest() for payload in payloads]),
        blake2b_s=timed(lambda: [hashlib.blake2b(payload).digest() for payload in payloads]),
        signatures_s=timed(signature_checks(messages)),
        verify_s=timed(lambda: verify(messages)),
        export_s=timed(lambda: verify(list(ExportReader(export).messages()))),
    )


async def from_stream(recording: Recording, limits: BatchLimits, state: Path) -> float:
    """Records a second of CPU of this process, read from a real server and verified."""
    batches = link(make_batches(recording, limits))
    with EmbeddedNats(state) as server:
        await server.ensure_tenant(TENANT)
        window = PublishWindow(server.capture_connection_options(NODE.token), node=NODE.token)
        await window.start()
        for batch in batches:
            await window.put(batch, lambda fate, words: None)
        await window.drain(60.0)
        await window.stop()
        begin = time.process_time()
        verifier = StreamVerifier(TENANT, [OPERATOR.public])
        async with open_stream(server.access, TENANT, name="bench") as stream:
            async for message in stream.fetch_messages():
                verifier.feed(message)
        report = verifier.report(Scope(now_ns=time.time_ns()))
        spent = time.process_time() - begin
    if report.verdict is not Verdict.INTACT or report.messages != len(batches):
        raise RuntimeError(f"the stream did not come back whole: {report}")
    return report.delivered / spent


def middle(passes: Sequence[Figures]) -> Figures:
    """The median of each figure."""
    names = (
        "render_s",
        "link_s",
        "sha256_s",
        "blake2b_s",
        "signatures_s",
        "verify_s",
        "export_s",
    )
    medians = {name: statistics.median(getattr(each, name) for each in passes) for name in names}
    return replace(passes[0], **medians)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.verify", description=__doc__)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here")
    parser.add_argument("--runs", type=int, default=5, help="passes of which the median is printed")
    parser.add_argument("--records", type=int, default=150_000, help="size of a simulated build")
    arguments = parser.parse_args()
    recording = load(RECORDING) if RECORDING.exists() else simulate(arguments.records)
    results: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as directory:
        sizes = {
            "full batches": BatchLimits(),
            **{f"{size} records a batch": BatchLimits(max_records=size) for size in SIZES},
        }
        passes: dict[str, list[Figures]] = {name: [] for name in sizes}
        streams: dict[str, list[float]] = {name: [] for name in sizes}
        export = Path(directory) / "export"
        for number in range(arguments.runs + 1):
            for name, limits in sizes.items():
                one = measure(recording, limits, export)
                if number:  # the first pass pays for cold caches
                    passes[name].append(one)
                    state = Path(directory) / "state"
                    streams[name].append(asyncio.run(from_stream(recording, limits, state)))
                    shutil.rmtree(state)
        for name in sizes:
            one = middle(passes[name])
            streamed = statistics.median(streams[name])
            per_message = 1e6 / one.messages
            results[name] = {
                "records": one.records,
                "messages": one.messages,
                "payload_bytes": one.payload_bytes,
                "signing_share_of_making_batches": one.signing_share,
                "link_us_per_message": one.link_s * per_message,
                "sha256_us_per_message": one.sha256_s * per_message,
                "blake2b_us_per_message": one.blake2b_s * per_message,
                "signature_us_per_message": one.signatures_s * per_message,
                "verify_us_per_message": one.verify_s * per_message,
                "verify_over_signature": one.verify_s / one.signatures_s,
                "verify_records_per_core_s": one.records / one.verify_s,
                "verify_export_records_per_core_s": one.records / one.export_s,
                "verify_stream_records_per_core_s": streamed,
            }
            print(f"{name}: {one.records:,} records in {one.messages:,} messages")
            for label, value in results[name].items():
                print(
                    f"  {label:<40}{value:>16,.3f}"
                    if value < 10
                    else f"  {label:<40}{value:>16,.0f}"
                )
    print(f"goal: {GOAL_RECORDS_PER_S:,} records/s verified")
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
