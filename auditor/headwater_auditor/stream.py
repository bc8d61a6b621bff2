# SPDX-License-Identifier: Apache-2.0
"""A tenant's stream as an auditor sees it: batches in order, once, through all restarts.

Why: this is the seed of the auditor SDK. A program that asks what happened should be a loop over
documents; reconnecting, resuming, decoding, checking and counting are done here. Used by
`headwater tail`, `headwater lineage` and everybody's own auditors (`examples/auditors/`).
Promises: G2 (`balances` shows every hole), G3 (nothing twice).

    async with TenantStream("nats://127.0.0.1:4222", "acme.creds") as stream:
        async for batch in stream.follow():
            print(batch.header.node, batch.document.count)
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass
from typing import Self

import nats.errors
import nats.js.errors
from headwater_prov.balance import Balance
from headwater_prov.stream import STREAM_NAME, STREAM_SUBJECTS, SUBJECT_ROOT, Header
from headwater_prov.vocabulary import RecordClass
from nats.aio.msg import Msg

from headwater_auditor.batch import (
    DOCUMENT_BYTES_MAX,
    Batch,
    decode_payload,
    parse_header,
)
from headwater_auditor.errors import AuditorError, InvalidBatchError
from headwater_auditor.message import StoredMessage
from headwater_auditor.policy_filter import PolicyFilter
from headwater_auditor.stream_session import (
    TROUBLE,
    Credentials,
    Place,
    Session,
    Start,
    place_of,
)
from headwater_auditor.tracking import Tracker

log = logging.getLogger(__name__)

_RETRY_S = (0.05, 0.1, 0.25, 0.5, 1.0, 2.0)

OnInvalid = Callable[[InvalidBatchError], None]


@dataclass(slots=True)
class ReadStatistics:
    """Counts since the stream was opened."""

    batches: int = 0
    """Handed to the reader."""

    duplicates: int = 0
    """Left out, because all of what they hold had come before."""

    invalid: int = 0
    """Left out, because they are not batches; each was reported."""

    sessions: int = 0
    """Connections made: one, and one per trouble since."""

    last_error: str = ""
    """What ended the last session, or why the next cannot be opened."""


class TenantStream:
    """Reads one tenant's stream. Use it as an asynchronous context manager.

    Args:
        servers: one URL or several of one cluster.
        credentials: path of the tenant's `.creds` file, or a function that returns its text.
        name: of the program, shown in the server's monitoring.
        durable: name of a consumer whose place the server remembers. A batch is acknowledged when
            the next one is asked for, so one that the auditor did not finish comes again. None: the
            auditor decides where to start, each time.
        classes: only these classes; empty: all. Without graph and gap there is no balance.
        nodes: only these node tokens; empty: all.
        policies: only what was recorded under these ("namespace/name"), of what tasks did; empty:
            all. NATS delivers everything all the same: see `policy_filter`.
        document_bytes_max: larger documents are invalid.
        inbox_prefix: where the credentials let it receive answers; those of a ProvenanceAuditor's
            Secret say another one than NATS' own.
        authority: certificate of the servers' authority, PEM; empty: those that the system trusts.
        patience_s: how long `fetch_all` tries to get a lost server back. `follow` tries for ever.
        on_invalid: called for each message that is not a batch; the default logs a warning.
    """

    def __init__(
        self,
        servers: str | Iterable[str],
        credentials: Credentials,
        *,
        name: str = "auditor",
        durable: str | None = None,
        classes: Iterable[RecordClass] = (),
        nodes: Iterable[str] = (),
        policies: Iterable[str] = (),
        document_bytes_max: int = DOCUMENT_BYTES_MAX,
        inbox_prefix: str = "_INBOX",
        authority: str = "",
        patience_s: float = 30.0,
        on_invalid: OnInvalid | None = None,
    ) -> None:
        self._servers = [servers] if isinstance(servers, str) else list(servers)
        self._credentials = credentials
        self._name = name
        self._durable = durable
        self._subjects = _filter_subjects(list(classes), list(nodes))
        self._policies = frozenset(policies)
        self._filter: PolicyFilter | None = None
        self._document_bytes_max = document_bytes_max
        self._inbox_prefix = inbox_prefix
        self._authority = authority
        self._patience_s = patience_s
        self._on_invalid = on_invalid or _log_invalid
        self._session: Session | None = None
        self._tracker = Tracker()
        self.statistics = ReadStatistics()

    async def __aenter__(self) -> Self:
        """Connect once, so that a wrong address or credential is an error, not an endless wait.

        Raises:
            AuditorError: the server cannot be reached, refuses, or has no stream for this tenant.
        """
        try:
            session = await self._connect()
            await session.last_sequence()
        except FileNotFoundError as error:
            raise AuditorError(
                f"credentials: {error.filename}: no such file", "name the tenant's .creds file"
            ) from error
        except nats.js.errors.NotFoundError as error:
            raise AuditorError(
                f"the tenant has no stream {STREAM_NAME}", "apply a ProvenancePolicy first"
            ) from error
        except TROUBLE as error:
            raise AuditorError(
                f"{', '.join(self._servers)}: cannot read the stream: {error!r}",
                "check the address, and that the credentials are this tenant's and not expired",
            ) from error
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self._close()

    async def fetch_all(self, start: Start | None = None) -> AsyncIterator[Batch]:
        """Yield what is stored now, from `start` (the first message) to the newest, then end.

        Raises:
            AuditorError: the server went away and did not come back within `patience_s`.
        """
        self._begin(start)
        async for batch in self._read(start or Start(), follow=False):
            yield batch

    async def follow(self, start: Start | None = None) -> AsyncIterator[Batch]:
        """Yield what is stored from `start` (the first message) on, and what will be, without end.

        A server that went away is waited for; `statistics.last_error` says why.
        """
        self._begin(start)
        async for batch in self._read(start or Start(), follow=True):
            yield batch

    async def fetch_messages(self, start: Start | None = None) -> AsyncIterator[StoredMessage]:
        """Yield what is stored now, from `start` to the newest, as it is: unchecked, also twice.

        For evidence; whoever wants provenance takes `fetch_all`.

        Raises:
            AuditorError: the server went away and did not come back within `patience_s`.
        """
        async for message, place in self._read_messages(start or Start(), follow=False):
            yield StoredMessage(
                place.stream,
                place.time_ns,
                message.subject,
                message.headers or {},
                message.data,
            )

    def balances(self) -> dict[str, Balance]:
        """Return, by origin (`<node>-<load>`), what has come, what was declared, what is missing.

        Read from its start, a stream without silent loss has only even balances.
        """
        return self._tracker.balances()

    def _begin(self, start: Start | None) -> None:
        whole = start is None or (start.sequence <= 1 and start.time is None)
        self._tracker = Tracker(from_start=whole and self._durable is None)
        self._filter = PolicyFilter(self._policies) if self._policies else None

    # -- reading ---------------------------------------------------------------------------------

    async def _read(self, start: Start, *, follow: bool) -> AsyncIterator[Batch]:
        async for message, place in self._read_messages(start, follow=follow):
            batch = self._accept(message, place.stream)
            if batch is not None:
                self.statistics.batches += 1
                yield batch

    async def _read_messages(
        self, start: Start, *, follow: bool
    ) -> AsyncIterator[tuple[Msg, Place]]:
        await self._close()
        last = 0
        target: int | None = None
        while True:
            session = await self._reopen(start, forever=follow)
            try:
                if target is None and not follow and not self._durable:
                    target = await session.last_sequence()
                while target is None or last < target:
                    messages = await session.pull(wait=follow)
                    if not messages and not follow:
                        return
                    for message in messages:
                        place = place_of(message.reply)
                        last = place.stream
                        yield message, place
                        if self._durable:
                            await session.finish(message)
                        if target is not None and last >= target:
                            break
                return
            except TROUBLE as error:
                self.statistics.last_error = str(error) or repr(error)
                log.debug("the stream's session ended: %r", error)
            if last:
                start = Start(sequence=last + 1)
            await self._close()

    def _accept(self, message: Msg, stream_sequence: int) -> Batch | None:
        """Decode and count a message; None if it is not a batch or came before."""
        headers = message.headers or {}
        try:
            header = parse_header(message.subject, headers, stream_sequence=stream_sequence)
            payload = decode_payload(
                message.data, headers.get(Header.ENCODING), max_bytes=self._document_bytes_max
            )
        except InvalidBatchError as error:
            self.statistics.invalid += 1
            self._on_invalid(InvalidBatchError(f"message {stream_sequence}: {error}"))
            return None
        if not self._tracker.admit(header):
            self.statistics.duplicates += 1
            return None
        batch = Batch(header, payload)
        if self._filter is None or header.record_class is not RecordClass.GRAPH:
            return batch
        try:
            whole = batch.document
        except InvalidBatchError as error:
            self.statistics.invalid += 1
            self._on_invalid(error)
            return None
        document = self._filter.apply(whole)
        return batch if document is whole else batch.with_document(document)

    # -- sessions --------------------------------------------------------------------------------

    async def _connect(self) -> Session:
        session = await Session.connect(
            servers=self._servers,
            credentials=self._credentials,
            name=self._name,
            durable=self._durable,
            inbox_prefix=self._inbox_prefix,
            authority=self._authority,
        )
        self._session = session
        return session

    async def _open(self, start: Start) -> Session:
        session = await self._connect()
        try:
            await session.begin(start, self._subjects)
        except BaseException:
            await self._close()
            raise
        self.statistics.sessions += 1
        return session

    async def _reopen(self, start: Start, *, forever: bool) -> Session:
        until = time.monotonic() + self._patience_s
        for attempt in range(10**9):
            try:
                return await self._open(start)
            except TROUBLE as error:
                self.statistics.last_error = f"{error!r}"
                if not forever and time.monotonic() > until:
                    raise AuditorError(
                        f"{', '.join(self._servers)}: lost while reading: {error!r}",
                        "check that the server runs, then read again",
                    ) from error
            await asyncio.sleep(_RETRY_S[min(attempt, len(_RETRY_S) - 1)])
        raise AssertionError("unreachable")

    async def _close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()


def _filter_subjects(classes: list[RecordClass], nodes: list[str]) -> list[str]:
    """Return the subjects to read; none: all of them."""
    if not classes and not nodes:
        return []
    if not classes:
        return [STREAM_SUBJECTS.replace(">", f"{node}.>") for node in nodes]
    return [f"{SUBJECT_ROOT}.{node}.{each}" for node in nodes or ["*"] for each in classes]


def _log_invalid(error: InvalidBatchError) -> None:
    log.warning("left out: %s", error)
