# SPDX-License-Identifier: Apache-2.0
"""An attached capture in the hands of a test: slots, cgroups, behaviours, and what was recorded.

One capture serves all tests of a session, because attaching takes half a minute in an emulated
guest; each test has its own slot, epoch and cgroup.
"""

import itertools
import os
import struct
import subprocess
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from headwater_agent.decode import AnyRecord, decode
from headwater_agent.layout import COUNTERS, SlotFlag
from headwater_agent.load import Capture
from headwater_agent.ring import RingReader
from headwater_agent.rule_tables import RuleTables
from headwater_agent.scope import Scope, SlotConfig
from headwater_prov.policy import ProcessRules
from headwater_prov.vocabulary import Relation, VertexType

from tests.kernel.graph import Labels, lines_of

CGROUPS = Path("/sys/fs/cgroup")
TIMEOUT_S = 300.0
DEFAULT_FLAGS = (
    SlotFlag.ACTIVE | SlotFlag.COMPRESS_NODES | SlotFlag.COMPRESS_EDGES | SlotFlag.ARGUMENTS
)
NO_LOOK_UPS = frozenset({Relation.PERM_CHECK})
"""The checks of every directory on a path, which most tests are not about."""


@dataclass(frozen=True, slots=True)
class Counted:
    """A slot's counters on one CPU."""

    captured: int
    lost: tuple[int, ...]


class Lab:
    """A capture and its ring."""

    def __init__(self, capture: Capture, program: Path) -> None:
        self.capture = capture
        self.scope = Scope(capture)
        self.rules = RuleTables(capture.automaton)
        self.program = program
        self.ring = RingReader(capture.ring_fd, capture.ring_bytes)
        self._slots = itertools.count(1)
        self._epochs = itertools.count(1)

    def tenant(
        self,
        *,
        off: Iterable[Relation] = NO_LOOK_UPS,
        vertices_off: Iterable[VertexType] = (),
        flags: SlotFlag = DEFAULT_FLAGS,
        records_per_second: int | None = None,
        processes: tuple[ProcessRules, ...] = (),
    ) -> "Tenant":
        """A slot of its own, with an empty cgroup in scope."""
        number = next(self._slots)
        config = SlotConfig(
            self.new_epoch(),
            flags,
            frozenset(off),
            frozenset(vertices_off),
            records_per_second,
            self.rules.place(number, processes),
        )
        cgroup = CGROUPS / f"lab-{os.getpid()}-{id(self):x}-{number}"
        return Tenant(self, number, config, cgroup)

    def new_epoch(self) -> int:
        return next(self._epochs)

    def drain(self) -> list[AnyRecord]:
        """All records up to now, of all slots."""
        found: list[AnyRecord] = []
        limit = self.ring.snapshot()
        until = time.monotonic() + TIMEOUT_S
        while self.ring.position < limit:
            chunk = self.ring.read(limit)
            if chunk.end == chunk.start:
                assert time.monotonic() < until, "a record is never submitted"
                time.sleep(0.001)
            found += decode(chunk.bytes.tobytes())
            self.ring.release(chunk.end)
        return found

    def counters(self, slot: int) -> list[Counted]:
        """By CPU."""
        raw = b"".join(self.capture.counters.lookup_cpus(struct.pack("<I", slot)))
        return [
            Counted(int(cpu["captured"]), tuple(int(n) for n in cpu["lost"]))
            for cpu in np.frombuffer(raw, COUNTERS)
        ]


class Tenant:
    """A slot, its policy and its cgroup, for one ``with`` block."""

    def __init__(self, lab: Lab, slot: int, config: SlotConfig, cgroup: Path) -> None:
        self.lab = lab
        self.slot = slot
        self.config = config
        self.cgroup = cgroup
        self.records: list[AnyRecord] = []

    def __enter__(self) -> Self:
        self.lab.scope.bind(self.slot, self.config)
        self.cgroup.mkdir()
        self.lab.scope.add_cgroup(self.cgroup_id, self.slot)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # What was made here may end much later, in whatever task: nobody waits for that any more.
        self.edit(flags=SlotFlag(0))
        self.cgroup.rmdir()
        self.lab.drain()

    @property
    def cgroup_id(self) -> int:
        return self.cgroup.stat().st_ino

    def edit(
        self,
        *,
        flags: SlotFlag | None = None,
        off: Iterable[Relation] | None = None,
        records_per_second: int | None = None,
        processes: tuple[ProcessRules, ...] | None = None,
    ) -> None:
        """Put a changed policy in force; a rate limit holds only if it is given again."""
        placed = self.config.processes
        if processes is not None:
            placed = self.lab.rules.place(self.slot, processes)
        self.config = replace(
            self.config,
            epoch=self.lab.new_epoch(),
            flags=self.config.flags if flags is None else flags,
            relations_off=self.config.relations_off if off is None else frozenset(off),
            records_per_second=records_per_second,
            processes=placed,
        )
        self.lab.scope.bind(self.slot, self.config)

    def words(self, *words: str, cgroup: Path | None = None) -> list[str]:
        """What runs a behaviour in the cgroup."""
        return self.command("./behaviours", *words, cgroup=cgroup)

    def command(self, *words: str, cgroup: Path | None = None) -> list[str]:
        """What runs a program in the cgroup."""
        return [str(self.lab.program), "enter", str(cgroup or self.cgroup), *words]

    def prepare(self, directory: Path) -> None:
        """Put the program where a behaviour finds it."""
        target = directory / "behaviours"
        if not target.exists():
            os.link(self.lab.program, target)

    def run(
        self, directory: Path, *words: str, cgroup: Path | None = None, status: int = 0
    ) -> list[AnyRecord]:
        """Run a behaviour in the cgroup; returns the slot's records since the last time."""
        self.prepare(directory)
        done = subprocess.run(
            self.words(*words, cgroup=cgroup),
            cwd=directory,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=TIMEOUT_S,
        )
        assert done.returncode == status, done.stderr
        return self.take()

    def take(self) -> list[AnyRecord]:
        """The slot's records since the last time."""
        self.records = [record for record in self.lab.drain() if record.slot == self.slot]
        return self.records

    def lines(self, directory: Path, *words: str) -> list[str]:
        """Run a behaviour and return what it added to the graph."""
        labels = Labels(directory)
        self.prepare(directory)
        labels.look_at()
        records = self.run(directory, *words)
        labels.look_at()
        lost = [sum(cpu.lost) for cpu in self.lab.counters(self.slot)]
        assert not any(lost)
        return lines_of(records, labels)
