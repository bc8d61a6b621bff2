# SPDX-License-Identifier: Apache-2.0
"""The work of `headwater verify`: messages from a stream or from exports, through the verifier.

Why: the verifier is pure; here are the server, the files, the clock and the person who waits.
Called by the verb `verify`. Promise: G7.
"""

import contextlib
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from headwater_auditor import AuditorError, Start, StoredMessage, TenantStream
from headwater_auditor.export import ExportError, ExportHeader, ExportReader, ExportWriter
from headwater_auditor.verification import (
    Memory,
    MemoryFileError,
    Report,
    Scope,
    StreamVerifier,
    read_memory,
    render_memory,
)
from headwater_prov.times import NANOSECONDS

from headwater_cli.errors import ExitStatus, Failure, unwritable
from headwater_cli.output import write_whole

PROGRESS_S = 5.0
"""A line of progress this often: a run that ends sooner prints none."""

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Period:
    """Which messages are wanted, by when the server stored them; nanoseconds since 1970."""

    from_ns: int | None = None
    to_ns: int | None = None

    def scope(self, now_ns: int, *, from_begin: bool = True, to_end: bool = True) -> Scope:
        """Return what part of a stream it leaves."""
        return Scope(from_begin and self.from_ns is None, to_end and self.to_ns is None, now_ns)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of it."""

    report: Report
    records: int
    """Captured records in messages with a good signature."""

    seconds: float
    memory: Memory


class Progress:
    """Feeds the verifier and says how far it is.

    Args:
        verifier: to feed.
        say: takes a line.
    """

    def __init__(self, verifier: StreamVerifier, say: Say) -> None:
        self._verifier = verifier
        self._say = say
        self._began = time.monotonic()
        self._next = self._began + PROGRESS_S

    @property
    def seconds(self) -> float:
        """Since the beginning."""
        return time.monotonic() - self._began

    def feed(self, message: StoredMessage) -> None:
        """Feed one message."""
        self._verifier.feed(message)
        if self._verifier.messages % 64 == 0 and time.monotonic() >= self._next:
            self._next = time.monotonic() + PROGRESS_S
            records, seconds = self._verifier.records, self.seconds
            self._say(
                f"{self._verifier.messages:,} messages, {records:,} records, "
                f"{records / seconds:,.0f} records/s, at message {message.sequence:,}"
            )


async def verify_stream(
    stream: TenantStream,
    tenant: str,
    operators: Sequence[str],
    period: Period,
    *,
    memory: Memory | None = None,
    export: Path | None = None,
    say: Say,
) -> Outcome:
    """Verify what a server holds.

    Args:
        stream: of the tenant, not entered yet.
        tenant: whose it is.
        operators: to believe.
        period: which messages.
        memory: of an earlier verification.
        export: file to write the messages to as well.
        say: takes a line of progress.

    Raises:
        Failure: the stream cannot be read or the export cannot be written.
    """
    verifier = StreamVerifier(tenant, operators)
    progress = Progress(verifier, say)
    now_ns = time.time_ns()
    header = ExportHeader(tenant, now_ns, period.from_ns is None, period.to_ns is None)
    try:
        async with stream:
            with _exporting(export, header) as writer:
                async for message in _within(stream, period):
                    progress.feed(message)
                    if writer is not None:
                        writer.add(message)
                if writer is not None:
                    writer.finish()
    except AuditorError as error:
        raise Failure(error.message, error.remedy) from error
    scope = period.scope(now_ns)
    report = verifier.report(scope, memory)
    return Outcome(report, verifier.records, progress.seconds, verifier.remember(now_ns))


def verify_exports(
    files: Sequence[Path],
    tenant: str | None,
    operators: Sequence[str],
    period: Period,
    *,
    memory: Memory | None = None,
    say: Say,
) -> Outcome:
    """Verify exports of one tenant's stream, parts of one whole in any order.

    Args:
        files: the exports; a message that is in several counts once.
        tenant: whose stream it has to be; None: as the files say.
        operators: to believe.
        period: which messages.
        memory: of an earlier verification.
        say: takes a line of progress.

    Raises:
        Failure: with status `UNUSABLE`: a file is not a whole export, or of another tenant.
    """
    try:
        parts = [ExportReader(path) for path in files]
        tenants = {part.header.tenant for part in parts}
        wanted = tenant or parts[0].header.tenant
        if tenants != {wanted}:
            raise ExportError(
                f"the files are of {', '.join(sorted(tenants))}, not of tenant {wanted} only"
            )
        verifier = StreamVerifier(wanted, operators)
        progress = Progress(verifier, say)
        last = 0
        for message in _in_order(parts):
            if _is_within(message, period) and message.sequence > last:
                last = message.sequence
                progress.feed(message)
    except ExportError as error:
        raise Failure(
            str(error), 'make one with "headwater verify --export FILE"', ExitStatus.UNUSABLE
        ) from error
    except OSError as error:
        raise Failure(
            f"{error.filename}: cannot be read: {error.strerror}",
            'name a file made with "headwater verify --export FILE"',
            ExitStatus.UNUSABLE,
        ) from error
    newest = max(part.header.exported_ns for part in parts)
    scope = period.scope(
        newest,
        from_begin=any(part.header.from_begin for part in parts),
        to_end=any(part.header.to_end for part in parts),
    )
    report = verifier.report(scope, memory)
    return Outcome(report, verifier.records, progress.seconds, verifier.remember(newest))


def load_memory(path: Path, tenant: str | None) -> Memory:
    """Read what an earlier verification saved.

    Raises:
        Failure: with status `UNUSABLE`: there is none, or it is of another tenant.
    """
    try:
        memory = read_memory(path.read_bytes(), str(path))
    except OSError as error:
        raise Failure(
            f"--since-checkpoint: cannot read {path}: {error.strerror}",
            "name the file that --save-checkpoint wrote",
            ExitStatus.UNUSABLE,
        ) from error
    except MemoryFileError as error:
        raise Failure(f"--since-checkpoint: {error}", status=ExitStatus.UNUSABLE) from error
    if tenant is not None and memory.tenant != tenant:
        raise Failure(
            f"--since-checkpoint: {path} is of tenant {memory.tenant}, not of {tenant}",
            status=ExitStatus.UNUSABLE,
        )
    return memory


def save_memory(path: Path, memory: Memory) -> None:
    """Keep where the chains stand for the next verification.

    Raises:
        Failure: it cannot be written; what was there is untouched.
    """
    write_whole(str(path), render_memory(memory))


async def _within(stream: TenantStream, period: Period) -> AsyncIterator[StoredMessage]:
    start = Start()
    if period.from_ns is not None:
        start = Start(time=datetime.fromtimestamp(period.from_ns / NANOSECONDS, UTC))
    async for message in stream.fetch_messages(start):
        if period.to_ns is not None and message.time_ns > period.to_ns:
            return
        yield message


def _is_within(message: StoredMessage, period: Period) -> bool:
    after = period.from_ns is None or message.time_ns >= period.from_ns
    return after and (period.to_ns is None or message.time_ns <= period.to_ns)


def _in_order(parts: Sequence[ExportReader]) -> Iterator[StoredMessage]:
    """Yield the messages of all parts in the order of their numbers in the stream."""
    if len(parts) == 1:
        yield from parts[0].messages()
        return
    reading = [part.messages() for part in parts]
    heads = [next(each, None) for each in reading]
    while any(head is not None for head in heads):
        _, index = min((head.sequence, i) for i, head in enumerate(heads) if head is not None)
        message = heads[index]
        assert message is not None
        yield message
        heads[index] = next(reading[index], None)


@contextlib.contextmanager
def _exporting(path: Path | None, header: ExportHeader) -> Iterator[ExportWriter | None]:
    """Write beside the target and rename at the end: what is there is whole."""
    if path is None:
        yield None
        return
    temporary = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        with _open_private(temporary) as stream:
            yield ExportWriter(stream, header)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except OSError as error:
        raise unwritable(path, error) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def _open_private(path: Path) -> BinaryIO:
    """What tenants' processes did is nobody else's business."""
    return open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")
