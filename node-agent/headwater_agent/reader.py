# SPDX-License-Identifier: Apache-2.0
"""The thread that keeps the ring empty.

Why: the ring fills at the kernel's pace, whatever NATS, the disk or the event loop do. One thread
reads, decodes and renders; it waits for nothing but the ring. Finished batches go to a callback,
which hands them to `delivery.DeliveryQueue` on the event loop's thread.
The pipeline belongs to this thread alone: who wants to change it (a new epoch) uses `call`.
Promise: G2, by the exact count: (1) read each CPU's counters, (2) note the ring's end, (3) read up
to it; a number up to the counter that was not seen then is lost, and is declared.
"""

import queue
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Protocol, TypeVar

from headwater_agent.batch import Batch
from headwater_agent.pipeline import Pipeline
from headwater_agent.ring import RingReader
from headwater_agent.settings import BatchSettings, RingSettings

Result = TypeVar("Result")

_BUSY_PAUSE_S = 0.0005
"""Programs submit what they reserved within microseconds."""

_CLOCK_STEP_NS = 5_000_000
"""More than reading two clocks one after the other ever differs, less than anybody's question."""


@dataclass(frozen=True, slots=True)
class CpuCounters:
    """The kernel's counts of one slot on one CPU."""

    captured: int
    """Number given last: records submitted and lost."""

    lost: tuple[int, ...]
    """Lost records by reason, in the order of enum hw_loss."""


class Counters(Protocol):
    """Reads the kernel's counters."""

    def read(self, slots: list[int]) -> Mapping[int, list[CpuCounters]]:
        """Return the counters of `slots` by slot, one entry per CPU."""
        ...


class RingThread:
    """Reads the ring until stopped; the last act is a complete count."""

    def __init__(
        self,
        *,
        ring: RingReader,
        pipeline: Pipeline,
        counters: Counters,
        deliver: Callable[[list[Batch]], None],
        ring_settings: RingSettings,
        batch_settings: BatchSettings,
    ) -> None:
        """Args: deliver: takes finished batches; called in the ring's thread, must not wait."""
        self._ring = ring
        self._pipeline = pipeline
        self._counters = counters
        self._deliver = deliver
        self._ring_settings = ring_settings
        self._batch_settings = batch_settings
        self._slots: list[int] = []
        self._calls: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="ring", daemon=True)
        self._clock_offset_ns = time.time_ns() - time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        self.failure: BaseException | None = None

    def start(self) -> None:
        """Begin reading."""
        self._thread.start()

    def watch_slot(self, slot: int) -> None:
        """Include a slot in the exact count from now on; thread-safe."""
        self._calls.put(lambda: self._slots.append(slot) if slot not in self._slots else None)

    def call(self, function: Callable[[Pipeline], Result]) -> Future[Result]:
        """Run `function` on the pipeline in the ring's thread, between two reads."""
        future: Future[Result] = Future()

        def run() -> None:
            # Who asked may have been cancelled meanwhile: a stopping agent's tasks are.
            if not future.set_running_or_notify_cancel():
                return
            try:
                future.set_result(function(self._pipeline))
            except Exception as error:
                future.set_exception(error)

        self._calls.put(run)
        if not self._stop.is_set():  # afterwards the ring may be closed
            self._ring.wake()
        return future

    def stop(self) -> None:
        """Read what is there, count exactly, flush, end.

        Raises:
            RuntimeError: the thread had failed; the cause is chained.
        """
        self._stop.set()
        self._thread.join()
        self.check()

    def check(self) -> None:
        """See that the thread has not failed.

        Raises:
            RuntimeError: it has; the cause is chained.
        """
        if self.failure is not None:
            raise RuntimeError("reading the ring failed; captured records are lost") from (
                self.failure
            )

    def _run(self) -> None:
        try:
            self._loop()
        except BaseException as error:
            self.failure = error

    def _loop(self) -> None:
        next_flush = next_count = time.monotonic()
        while not self._stop.is_set():
            self._ring.poll(self._ring_settings.poll_timeout_s)
            # As far as it is filled now: under load the end keeps moving, and the rest is due too.
            if not self._consume(self._ring.snapshot()):
                time.sleep(_BUSY_PAUSE_S)
            self._run_calls()
            now = time.monotonic()
            if now >= next_count:
                self._count()
                next_count = now + self._batch_settings.gap_interval_s
            if now >= next_flush:
                self._hand_over(self._pipeline.flush())
                next_flush = now + self._batch_settings.flush_interval_s
        self._run_calls()
        self._count()
        self._hand_over(self._pipeline.flush())

    def _run_calls(self) -> None:
        while not self._calls.empty():
            self._calls.get()()

    def _consume(self, limit: int) -> bool:
        """Feed what can be read up to position `limit`; tell whether that was everything."""
        while self._ring.position < limit:
            chunk = self._ring.read(limit)
            if not len(chunk.bytes):
                return False  # a program has reserved a record and not yet submitted it
            self._pipeline.feed(chunk)
            self._ring.release(chunk.end)
            self._hand_over(self._pipeline.take())
        return True

    def _count(self) -> None:
        """Find out exactly which numbers are missing."""
        captured = self._counters.read(self._slots)
        end = self._ring.snapshot()
        give_up_at = time.monotonic() + self._ring_settings.busy_wait_s
        while not self._consume(end) and time.monotonic() < give_up_at:
            time.sleep(_BUSY_PAUSE_S)
        for slot, cpus in captured.items():
            self._pipeline.reconcile(slot, cpus)
        self._follow_wall_clock()

    def _follow_wall_clock(self) -> None:
        """Take over a step of the wall clock (NTP, a suspended machine); jitter is left alone."""
        offset_ns = time.time_ns() - time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        if abs(offset_ns - self._clock_offset_ns) > _CLOCK_STEP_NS:
            self._clock_offset_ns = offset_ns
            self._pipeline.set_clock_offset(offset_ns)

    def _hand_over(self, batches: list[Batch]) -> None:
        if batches:
            self._deliver(batches)
