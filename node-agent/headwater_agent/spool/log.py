# SPDX-License-Identifier: Apache-2.0
"""The log of one tenant and load: batches in the order in which they were made, until answered.

Why: what NATS does not take in time waits here and not in memory, and a killed agent's successor
finds here what was owed. A log is a directory of files that only grow (`blocks`) and a mark
(`mark`). A file goes when everything in it is answered, from the oldest on, so what is left on disk
is what is owed and at most a file more.

Who calls it: `tenant`, for the log of this load and for those that `recovery` has read back. All
methods belong to the event loop's thread; nothing here waits for the disk but the page cache's own
throttling. Promises: G2, G3, G8.
"""

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from headwater_prov.stream import Header

from headwater_agent.batch import Batch
from headwater_agent.spool.blocks import (
    BLOCK_HEAD_BYTES,
    FILE_HEAD_BYTES,
    SALT_BYTES,
    Block,
    DamagedBlockError,
    FileHead,
    Kind,
    Sealer,
    SpooledBatch,
    block_length,
    blocks,
    decode_batch,
    decode_block,
    encode_batch,
    encode_block,
    encode_offer,
)
from headwater_agent.spool.mark import MARK_NAME, Mark, MarkFile

FILE_SUFFIX: Final = ".log"

_IDLE_BYTES: Final = 256 * 1024
"""A file of which everything is answered is kept for more until it has this size."""

_OFFER_HEADERS: Final = (Header.CHAIN.value, Header.VOID.value, Header.SIGNATURE.value)


@dataclass(slots=True, eq=False)
class LogFile:
    """One file of a log."""

    number: int
    path: Path
    salt: bytes
    size: int
    opened_ns: int
    """When it was made."""

    newest_ns: int
    """When something was written to it last, nanoseconds since 1970."""

    unsettled: int = 0
    """Messages in it that are not answered yet, read back or not."""

    unread: int = 0
    """Of them, those that are on disk only."""

    stored_last: int = 0
    """Highest number of a message in it that is stored."""

    offers_for: set[int] = field(default_factory=set)
    """Files of the messages whose offers are noted in it: while a message can be read back, so must
    be that it was offered, also when it is stored."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a message is in a log."""

    file: LogFile
    number: int


@dataclass(frozen=True, slots=True)
class Entry:
    """A message that was read back."""

    batch: Batch
    place: Place
    is_offered: bool
    """Whether it may be stored already."""

    is_inherited: bool
    """Whether an earlier load made it."""

    lost: tuple[int, int] | None = None
    """Numbers before it that were in blocks that are damaged."""


@dataclass(slots=True)
class Usage:
    """What all logs take together, kept as it changes: it is asked for at every write."""

    bytes: int = 0


class AnsweredNumbers:
    """Up to which number everything is answered, as answers come in any order."""

    def __init__(self, head: int = 0) -> None:
        self.head = head
        self._beyond: dict[int, int] = {}

    def add(self, first: int, last: int) -> None:
        """Enter a run of numbers."""
        if last <= self.head:
            return
        self._beyond[first] = max(last, self._beyond.get(first, 0))
        if first > self.head + 1:
            return
        for begin in sorted(self._beyond):
            if begin > self.head + 1:
                return
            self.head = max(self.head, self._beyond.pop(begin))


@dataclass(slots=True)
class LogState:
    """What a log begins with: nothing, or what `recovery` found."""

    mark: Mark
    files: dict[int, LogFile] = field(default_factory=dict)
    next_number: int = 1
    offers: dict[int, dict[str, str]] = field(default_factory=dict)
    """Headers of batches that were offered and are not known to be stored, by the number of their
    block."""

    settled: set[int] = field(default_factory=set)
    """Numbers of the blocks of messages that are stored."""

    declared: list[tuple[int, int]] = field(default_factory=list)
    """Numbers for which a gap is in the log: what else has them is not to be sent."""


class SpoolLog:
    """The log of one tenant and load.

    Args:
        directory: of the log; made when something is written.
        tenant: whose.
        load: of the kernel programs.
        sealer: of the tenant's load.
        file_bytes: when a file is full.
        boot: of this boot.
        state: what is there already.
        usage: of this log and others; None: of nobody else.
        clock_ns: nanoseconds since 1970.
    """

    def __init__(
        self,
        directory: Path,
        *,
        tenant: str,
        load: str,
        sealer: Sealer,
        file_bytes: int,
        boot: bytes,
        state: LogState | None = None,
        usage: Usage | None = None,
        clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self.directory: Final = directory
        self.tenant: Final = tenant
        self.load: Final = load
        self.is_recovered: Final = state is not None
        state = state or LogState(Mark(boot))
        self.mark = replace(state.mark, boot=boot)
        self.unread = sum(each.unread for each in state.files.values())
        """Messages that are on disk only, settled ones of an earlier load included."""

        self.damaged = 0
        """Times that something could not be read back."""

        self.size = 0
        self.usage = usage or Usage()
        """What this log and others take."""

        self._sealer = sealer
        self._file_bytes = file_bytes
        self._clock_ns = clock_ns
        self._files = dict(state.files)
        self._take(sum(each.size for each in state.files.values()))
        self._offers = dict(state.offers)
        self._settled = set(state.settled)
        self._declared = list(state.declared)
        self._next_number = state.next_number
        self._newest = max(state.files, default=0)
        self._answered = AnsweredNumbers(self.mark.answered)
        self._cursor = (min(state.files, default=0), FILE_HEAD_BYTES)
        self._written_last = 0
        self._read_last = 0
        self._active: LogFile | None = None
        self._descriptor = -1
        self._reading: tuple[int, int] | None = None
        self._mark_file: MarkFile | None = None
        self._unsynced: dict[int, int] = {}
        self._is_dirty = False
        self._settled_at = 0.0

    # -- writing ---------------------------------------------------------------------------------

    def pass_by(self, batch: Batch) -> None:
        """A batch's numbers are to be answered for, also if it is not written.

        Raises:
            OSError: the mark cannot be written.
        """
        if not self.mark.given and batch.first > 1:
            # What was before went its way without a log.
            self._answered.head = self.mark.answered = batch.first - 1
        self.mark.given = max(self.mark.given, batch.last)
        self._write_mark()

    def append(self, batch: Batch, *, keep: bool) -> Place:
        """Write a batch that was not offered yet.

        Args:
            batch: as the pipeline made it.
            keep: the caller keeps it in memory; nothing may be unread then. Otherwise `read` gives
                it when its turn has come.

        Raises:
            OSError: it could not be written.
        """
        if batch.last:
            # First: if the agent is killed in the middle of the write, the numbers are known.
            self.pass_by(batch)
        place = self._append(Kind.BATCH, 0, encode_batch(batch, self._written_last))
        if batch.last:
            self._written_last = batch.last
        if keep:
            self._cursor = (place.file.number, place.file.size)
            self._read_last = self._written_last
        else:
            self.unread += 1
            place.file.unread += 1
        return place

    def offer(self, place: Place | None, batch: Batch, position: int) -> Place:
        """Write down what a message is, before it is sent for the first time.

        Args:
            place: of the batch; None: it is not in the log.
            batch: with all its headers.
            position: its place in the chain.

        Raises:
            OSError: it could not be written; that the place in the chain is used may be.
        """
        self.mark.used = max(self.mark.used, position)
        try:
            if place is None:
                return self._append(Kind.OWN, 0, encode_batch(batch, 0))
            names = (name for name in _OFFER_HEADERS if name in batch.headers)
            content = encode_offer({name: batch.headers[name] for name in names})
            noted = self._append(Kind.OFFERED, place.number, content).file
        except OSError:
            self._write_mark()
            raise
        noted.offers_for.add(place.file.number)
        return place

    def settle(self, place: Place | None, batch: Batch, settled: int, digest: bytes) -> None:
        """A message is stored.

        Args:
            place: where it is.
            batch: what it was.
            settled: how far its chain is settled now.
            digest: of the message there.

        Raises:
            OSError: the mark cannot be written.
        """
        if batch.last:
            self._answered.add(batch.first, batch.last)
            if place is not None:
                place.file.stored_last = max(place.file.stored_last, batch.last)
        self.mark.answered = min(self._answered.head, self.mark.given)
        if settled > self.mark.settled:
            self.mark.settled, self.mark.digest = settled, digest
            self.mark.used = max(self.mark.used, settled)
        self._write_mark()
        self._settled_at = time.monotonic()
        self.give_up(place)

    def give_up(self, place: Place | None) -> None:
        """A message will not be sent any more: it is stored, or a gap will have its numbers."""
        if place is not None:
            place.file.unsettled -= 1
        self._remove_answered()

    def _append(self, kind: Kind, number: int, content: bytes) -> Place:
        if self._active is None or self._active.size >= self._file_bytes:
            self._begin_file()
        file = self._active
        assert file is not None
        if not number:
            number, self._next_number = self._next_number, self._next_number + 1
        data = encode_block(self._sealer, file.salt, file.size, kind, number, content)
        try:
            _write_all(self._descriptor, data, file.size)
        except OSError:
            # Never again at this place: what is there is half a block.
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, file.size)
            self._end_file()
            raise
        file.size += len(data)
        file.newest_ns = self._clock_ns()
        self._take(len(data))
        self._is_dirty = True
        if kind is not Kind.OFFERED:
            file.unsettled += 1
        return Place(file, number)

    def join(self, usage: Usage) -> None:
        """Count what this log takes with others."""
        self.usage.bytes -= self.size
        self.usage = usage
        self.usage.bytes += self.size

    def _take(self, size: int) -> None:
        self.size += size
        self.usage.bytes += size

    def _begin_file(self) -> None:
        self._end_file()
        if self._mark_file is None:
            self._write_mark()  # while the disk has room for it
        number = self._newest + 1
        salt = os.urandom(SALT_BYTES)
        head = FileHead(number, salt, self._sealer.key_check(salt), self._clock_ns())
        path = self.directory / f"{number:012}{FILE_SUFFIX}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(path, flags, 0o600)
        try:
            _write_all(descriptor, head.encode(), 0)
        except OSError:
            os.close(descriptor)
            path.unlink(missing_ok=True)
            raise
        self._newest, self._descriptor = number, descriptor
        self._active = LogFile(
            number, path, head.salt, FILE_HEAD_BYTES, head.opened_ns, head.opened_ns
        )
        self._files[number] = self._active
        self._take(FILE_HEAD_BYTES)
        if not self._cursor[0]:
            self._cursor = (number, FILE_HEAD_BYTES)

    def _end_file(self) -> None:
        if self._active is not None:
            self._unsynced[self._active.number] = self._descriptor
            self._active, self._descriptor = None, -1

    def _make_directory(self) -> None:
        for each in (self.directory.parent, self.directory):
            each.mkdir(mode=0o700, exist_ok=True)

    def _write_mark(self) -> None:
        if self._mark_file is None:
            self._make_directory()
            self._mark_file = MarkFile(self.directory)
        self._mark_file.write(self.mark)

    # -- reading back ----------------------------------------------------------------------------

    @property
    def next_to_read_ns(self) -> int | None:
        """When the file of the next message to read was written last; None: nothing is unread."""
        if not self.unread:
            return None
        file = self._files.get(self._cursor[0]) or self._following(self._cursor[0])
        return file.newest_ns if file is not None else None

    def read(self) -> Entry | None:
        """The next message that is on disk only; None if there is none."""
        while self.unread:
            file = self._files.get(self._cursor[0])
            block = self._next_block(file) if file is not None else None
            if block is None:
                if file is not None:
                    self._pass_over(file)
                following = self._following(self._cursor[0])
                if following is None:
                    self.unread = 0
                    return None
                self._cursor = (following.number, FILE_HEAD_BYTES)
                continue
            assert file is not None
            self._cursor = (file.number, block.end)
            entry = self._entry(file, block)
            if entry is not None:
                return entry
        return None

    def unread_loss(self) -> tuple[int, int] | None:
        """Numbers at the end of what was read that were in blocks that are damaged."""
        if self.is_recovered or self.unread or self._read_last >= self._written_last:
            return None
        lost = (self._read_last + 1, self._written_last)
        self._read_last = self._written_last
        return lost

    def read_file(self) -> Iterator[Entry]:
        """Yield what is unread of the file whose turn it is, and go on to the next."""
        if not self.unread:
            return
        number = self._cursor[0]
        if self._files.get(number) is None or self._cursor[1] >= self._files[number].size:
            following = self._following(number)
            number = following.number if following is not None else number
        if self._active is not None and self._active.number == number:
            self._end_file()  # what comes next is newer, and not in this file
        while self.unread:
            file = self._files.get(self._cursor[0])
            is_over = file is None or self._cursor[1] >= file.size
            if self._cursor[0] > number or (self._cursor[0] == number and is_over):
                return
            entry = self.read()
            if entry is None:
                return
            yield entry

    def _following(self, number: int) -> LogFile | None:
        while number < self._newest:
            number += 1
            if number in self._files:
                return self._files[number]
        return None

    def _pass_over(self, file: LogFile) -> None:
        """What was counted in a file and not found there is damaged: it is in no file any more."""
        file.unsettled -= file.unread
        self.unread -= file.unread
        file.unread = 0

    def _entry(self, file: LogFile, block: Block) -> Entry | None:
        """What a block is to be sent as; None where it is nothing to send."""
        if block.kind is Kind.OFFERED or (block.kind is Kind.OWN and not self.is_recovered):
            return None
        self.unread -= 1
        file.unread -= 1
        try:
            spooled = decode_batch(self.tenant, block.content)
        except DamagedBlockError:
            self.damaged += 1
            file.unsettled -= 1
            return None
        place = Place(file, block.number)
        if self.is_recovered:
            return self._recovered_entry(place, block.kind, spooled)
        lost = None
        if spooled.after > self._read_last:
            lost = (self._read_last + 1, spooled.after)
            self.damaged += 1
        self._read_last = max(self._read_last, spooled.batch.last, spooled.after)
        return Entry(spooled.batch, place, is_offered=False, is_inherited=False, lost=lost)

    def _recovered_entry(self, place: Place, kind: Kind, spooled: SpooledBatch) -> Entry | None:
        batch = spooled.batch
        headers = self._offers.pop(place.number, None)
        if headers is not None:
            batch = replace(batch, headers={**batch.headers, **headers})
        position = position_of(batch)
        is_stored = place.number in self._settled
        is_declared = batch.klass != "gap" and any(
            first <= batch.first and batch.last <= last for first, last in self._declared
        )
        if is_stored and batch.last:
            self._answered.add(batch.first, batch.last)
            place.file.stored_last = max(place.file.stored_last, batch.last)
            self.mark.answered = min(self._answered.head, self.mark.given)
        is_answered = 0 < batch.last <= self.mark.answered
        if is_stored or is_answered or (batch.last and is_declared):
            self.give_up(place)
            return None
        return Entry(batch, place, is_offered=position > 0, is_inherited=True)

    def _next_block(self, file: LogFile) -> Block | None:
        """The next whole block of a file from the cursor on; None: there is none."""
        offset = self._cursor[1]
        if offset >= file.size:
            return None
        try:
            descriptor = self._open_for_reading(file)
            head = os.pread(descriptor, BLOCK_HEAD_BYTES, offset)
            length = block_length(head, offset)
            if length is not None:
                rest = os.pread(descriptor, length - BLOCK_HEAD_BYTES, offset + BLOCK_HEAD_BYTES)
                block = decode_block(head + rest, 0, offset, self._sealer, file.salt)
                if block is not None:
                    return block
            data = os.pread(descriptor, file.size, 0)
        except OSError:
            self.damaged += 1
            return None
        self.damaged += 1
        return next((b for b in blocks(data, self._sealer, file.salt) if b.offset > offset), None)

    def _open_for_reading(self, file: LogFile) -> int:
        if self._reading is None or self._reading[0] != file.number:
            self._end_reading()
            descriptor = os.open(file.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            self._reading = (file.number, descriptor)
        return self._reading[1]

    def _end_reading(self) -> None:
        if self._reading is not None:
            os.close(self._reading[1])
            self._reading = None

    # -- the end ---------------------------------------------------------------------------------

    @property
    def is_answered(self) -> bool:
        """Whether every message in it is stored or given up, and every number answered for."""
        return (
            not self.unread
            and self._answered.head >= self.mark.given
            and not any(file.unsettled for file in self._files.values())
        )

    def begin_sync(self, now: float, wait_s: float) -> list[int]:
        """Descriptors to be synced, and closed, by another thread.

        Args:
            now: monotonic seconds.
            wait_s: only where something has waited for so long.
        """
        is_moving = not self.unread and now - self._settled_at < wait_s
        is_owing = any(file.unsettled for file in self._files.values())
        if not self._is_dirty or is_moving or not is_owing:
            if not is_owing:
                self._close_unsynced()
            return []
        self._is_dirty = False
        descriptors = list(self._unsynced.values())
        self._unsynced.clear()
        with contextlib.suppress(OSError):
            if self._active is not None:
                descriptors.append(os.dup(self._descriptor))
            if self._mark_file is not None:
                descriptors.append(self._mark_file.sync_copy())
            descriptors.append(os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY))
        return descriptors

    def close(self) -> None:
        """Close the files; a log of which nothing is owed goes."""
        is_answered = self.is_answered
        self._end_reading()
        self._end_file()
        self._close_unsynced(sync=not is_answered)
        if self._mark_file is not None:
            self._mark_file.close()
            self._mark_file = None
        if is_answered:
            self._remove()

    def _remove(self) -> None:
        with contextlib.suppress(OSError):
            for file in self._files.values():
                file.path.unlink(missing_ok=True)
            self._files.clear()
            self._take(-self.size)
            (self.directory / MARK_NAME).unlink(missing_ok=True)
            self.directory.rmdir()

    def _close_unsynced(self, *, sync: bool = False) -> None:
        for descriptor in self._unsynced.values():
            with contextlib.suppress(OSError):
                if sync:
                    os.fdatasync(descriptor)
                os.close(descriptor)
        self._unsynced.clear()

    def remove_given_up(self) -> None:
        """Remove files of which everything was given up, wherever they are."""
        for file in list(self._files.values()):
            is_owed = file.unsettled or file.stored_last > self.mark.answered
            is_needed = is_owed or not (file.offers_for - {file.number}).isdisjoint(self._files)
            if not is_needed and file is not self._active:
                self._remove_file(file)

    def _remove_answered(self) -> None:
        """Remove files of which nothing is needed any more, from the oldest on."""
        for file in list(self._files.values()):
            if file.unsettled or file.stored_last > self.mark.answered:
                return
            if file is self._active:
                if file.size < _IDLE_BYTES:
                    return
                self._end_file()
            self._remove_file(file)

    def _remove_file(self, file: LogFile) -> None:
        # What only its blocks said is in the mark from now on.
        with contextlib.suppress(OSError):
            self._write_mark()
        if self._reading is not None and self._reading[0] == file.number:
            self._end_reading()
        del self._files[file.number]
        self._take(-file.size)
        with contextlib.suppress(OSError):
            file.path.unlink(missing_ok=True)
        descriptor = self._unsynced.pop(file.number, None)
        if descriptor is not None:
            os.close(descriptor)


def position_of(batch: Batch) -> int:
    """The place in the chain that a message was given; 0: none yet."""
    chain = batch.headers.get(Header.CHAIN.value, "")
    position = chain.partition(" ")[0]
    return int(position) if position.isascii() and position.isdigit() else 0


def _write_all(descriptor: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(descriptor, view, offset)
        view, offset = view[written:], offset + written
