# SPDX-License-Identifier: Apache-2.0
"""What an earlier agent left in a log: what is owed, what is missing, where its chain stood.

Why: the agent may have been killed between any two instructions, and the machine between any two
writes to its disk. Every block is opened, so what is found is what was written; a file's end that
is not a whole block is cut off. A number that was given, that is not known to be answered, and that
no block has is lost, and is to be declared. Called by `tenant` at the agent's start, in a thread of
its own. Promises: G2, G7 (no place of the chain is ever used twice).
"""

import contextlib
import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from headwater_prov.signing import NO_DIGEST

from headwater_agent.batch import Batch
from headwater_agent.spool.blocks import (
    FILE_HEAD_BYTES,
    DamagedBlockError,
    FileHead,
    Kind,
    Sealer,
    WrongKeyError,
    blocks,
    decode_batch,
    decode_offer,
)
from headwater_agent.spool.log import (
    FILE_SUFFIX,
    LogFile,
    LogState,
    SpoolLog,
    position_of,
)
from headwater_agent.spool.mark import Mark, read_mark

_SKIPPED_PLACES: Final = 1 << 16
"""After a power failure so many places of the chain are left out: more than a second's, which may
have been sent and not have reached the disk."""


@dataclass(slots=True)
class RecoveredLog:
    """A log of an earlier load."""

    log: SpoolLog
    missing: tuple[tuple[int, int], ...]
    """Runs of numbers to be declared lost."""

    last: Batch | None
    """The message at the chain's last place, if it is there: the chain goes on from it."""

    position: int
    """The last place of the chain that may have been used."""

    numbers_last: int
    """The highest number that a message of the chain answers for."""

    oldest_ns: int
    """No record that is missing is older, nanoseconds since 1970."""

    torn: int = 0
    """Bytes cut off at the ends of files."""

    damaged: int = 0
    """Bytes in the middle of files that are no blocks."""


def recover(
    directory: Path, *, tenant: str, load: str, sealer: Sealer, boot: bytes, file_bytes: int
) -> RecoveredLog:
    """Read back the log in a directory.

    Raises:
        OSError: it cannot be read.
        WrongKeyError: it was written with another key; nothing was changed.
    """
    mark = read_mark(directory)
    scan = _Scan(tenant, sealer, mark)
    for path in sorted(directory.glob(f"*{FILE_SUFFIX}")):
        scan.file(path)
    found = scan.mark
    position = max(found.used, scan.position)
    last = scan.last_message() if scan.position == position > found.settled else None
    # A message at the last place that is nowhere may be in the stream: nothing is chained to it.
    is_known = last is not None or position == found.settled
    if not scan.is_marked or found.boot != boot:
        position += _SKIPPED_PLACES
        last = None
    elif not is_known:
        position += 1
    state = LogState(
        mark=found,
        files=scan.files,
        next_number=scan.next_number,
        offers=scan.offers,
        settled=scan.settled,
        declared=scan.declared,
    )
    log = SpoolLog(
        directory,
        tenant=tenant,
        load=load,
        sealer=sealer,
        file_bytes=file_bytes,
        boot=boot,
        state=state,
    )
    return RecoveredLog(
        log=log,
        missing=tuple(_holes(scan.covered, found.answered, found.given)),
        last=last,
        position=position,
        numbers_last=found.given,
        oldest_ns=scan.oldest_ns,
        torn=scan.torn,
        damaged=scan.damaged,
    )


class _Scan:
    """What the files of a log say."""

    def __init__(self, tenant: str, sealer: Sealer, mark: Mark | None) -> None:
        self._tenant = tenant
        self._sealer = sealer
        self._last: Batch | None = None
        self._last_number = 0
        self.is_marked: Final = mark is not None
        self.mark = mark or Mark(digest=NO_DIGEST)
        self.files: dict[int, LogFile] = {}
        self.offers: dict[int, dict[str, str]] = {}
        self.settled: set[int] = set()
        self.covered: list[tuple[int, int]] = []
        self.declared: list[tuple[int, int]] = []
        self.next_number = 1
        self.position = 0
        self.oldest_ns = 0
        self.torn = 0
        self.damaged = 0

    def file(self, path: Path) -> None:
        """Read one file; the next one is newer."""
        data = path.read_bytes()
        head = FileHead.decode(data)
        if head is None:
            self.torn += len(data)
            with contextlib.suppress(OSError):
                path.unlink()
            return
        if head.key_check != self._sealer.key_check(head.salt):
            raise WrongKeyError(
                f"{path}: was written with another key of tenant {self._tenant}; give the tenant "
                "that key, or remove the file"
            )
        self.oldest_ns = self.oldest_ns or head.opened_ns
        file = LogFile(
            head.number,
            path,
            head.salt,
            FILE_HEAD_BYTES,
            head.opened_ns,
            path.stat().st_mtime_ns,
        )
        for block in blocks(data, self._sealer, head.salt):
            self.damaged += block.offset - file.size
            file.size = block.end
            self.next_number = max(self.next_number, block.number + 1)
            with contextlib.suppress(DamagedBlockError):
                if block.kind is Kind.OFFERED:
                    self._offer(block.number, decode_offer(block.content))
                    file.offers_for.update(self.files)
                else:
                    self._message(block.number, decode_batch(self._tenant, block.content).batch)
                    file.unsettled += 1
                    file.unread += 1
        self.torn += len(data) - file.size
        if len(data) > file.size:
            with contextlib.suppress(OSError):
                os.truncate(path, file.size)
        self.files[head.number] = file

    def _message(self, number: int, batch: Batch) -> None:
        if batch.last:
            if not self.is_marked and not self.covered:
                self.mark.answered = batch.first - 1
            self.mark.given = max(self.mark.given, batch.last)
            _cover(self.covered, batch.first, batch.last)
        position = position_of(batch)
        if position:
            if batch.last and batch.klass == "gap":
                self.declared.append((batch.first, batch.last))
            self._place(position, batch)
            if position <= self.mark.settled:
                self.settled.add(number)

    def _offer(self, number: int, headers: dict[str, str]) -> None:
        position = position_of(Batch(self._tenant, "", b"", headers, 0, 0))
        if position <= self.mark.settled:
            self.settled.add(number)
        else:
            self.offers[number] = headers
        self._place(position, None, number)

    def _place(self, position: int, batch: Batch | None, number: int = 0) -> None:
        """Note the last place; what was offered for it is found by its number."""
        if position > self.position:
            self.position, self._last, self._last_number = position, batch, number

    def last_message(self) -> Batch | None:
        """The message at the last place."""
        if self._last is not None or not self._last_number:
            return self._last
        for file in self.files.values():
            for block in blocks(file.path.read_bytes(), self._sealer, file.salt):
                if block.number == self._last_number and block.kind is Kind.BATCH:
                    batch = decode_batch(self._tenant, block.content).batch
                    return replace(batch, headers=batch.headers | self.offers[block.number])
        return None


def _cover(runs: list[tuple[int, int]], first: int, last: int) -> None:
    """Add a run to runs that mostly follow one another."""
    if runs and runs[-1][0] <= first <= runs[-1][1] + 1:
        runs[-1] = (runs[-1][0], max(runs[-1][1], last))
    else:
        runs.append((first, last))


def _holes(
    covered: Iterable[tuple[int, int]], answered: int, given: int
) -> Iterable[tuple[int, int]]:
    at = answered
    for first, last in sorted(covered):
        if first > at + 1:
            yield (at + 1, first - 1)
        at = max(at, last)
    if given > at:
        yield (at + 1, given)
