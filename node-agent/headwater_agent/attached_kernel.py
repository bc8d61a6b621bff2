# SPDX-License-Identifier: Apache-2.0
"""The real kernel side: maps and ring of the program set that `load.Capture` attached.

Why: the one place where a compiled policy becomes the bits that the hooks read. Made by whoever
holds the capture (`headwater trace`, `headwater serve`); `service.Agent` calls it through
`kernel_port.KernelPort`. Promise: G6, a policy edit is one write.
"""

import dataclasses
from collections.abc import Mapping

import numpy as np
from headwater_prov.policy import CompiledPolicy

from headwater_agent.attach_points import CaptureMode
from headwater_agent.layout import COUNTERS, SLOTS, SlotFlag
from headwater_agent.load import Capture
from headwater_agent.reader import CpuCounters
from headwater_agent.ring import RingReader
from headwater_agent.rule_tables import RuleTables
from headwater_agent.scope import Scope, SlotConfig


def flags_of(policy: CompiledPolicy) -> SlotFlag:
    """Return the slot's flags for a policy."""
    flags = SlotFlag(0)
    for wanted, flag in (
        (not policy.suspend, SlotFlag.ACTIVE),
        (policy.compress_nodes, SlotFlag.COMPRESS_NODES),
        (policy.compress_edges, SlotFlag.COMPRESS_EDGES),
        (policy.duplicate, SlotFlag.DUPLICATE),
        (policy.arguments, SlotFlag.ARGUMENTS),
        (policy.environment, SlotFlag.ENVIRONMENT),
    ):
        if wanted:
            flags |= flag
    return flags


class AttachedKernel:
    """The real kernel side."""

    def __init__(self, capture: Capture, *, marks_setup: bool = False) -> None:
        """Take over an attached program set.

        Args:
            capture: entered; it stays the caller's to close.
            marks_setup: what is put into a captured cgroup from outside is a container runtime's
                until it executes a file under a root of its own.
        """
        self.slots = SLOTS
        self.load_id = capture.load_id
        self.mode: str = capture.mode
        self._capture = capture
        self._scope = Scope(capture)
        self._rules = RuleTables(capture.automaton)
        self._added = SlotFlag.MARK_SETUP if marks_setup else SlotFlag(0)
        self._judges = self.mode != CaptureMode.TRACEPOINT
        """Whether the mode sees what is executed before anything is recorded of it."""
        self._configs: dict[int, SlotConfig] = {}  # by slot, those in force

    @property
    def hooks(self) -> Mapping[str, str]:
        """Every hook with "attached", or why it is not."""
        return self._capture.attached

    def ring(self) -> RingReader:
        """Open the ring for reading; once."""
        return RingReader(self._capture.ring_fd, self._capture.ring_bytes)

    def read(self, slots: list[int]) -> Mapping[int, list[CpuCounters]]:
        """Return the counters of `slots`, one entry per CPU."""
        found: dict[int, list[CpuCounters]] = {}
        for slot in slots:
            values = self._capture.counters.lookup_cpus(slot.to_bytes(4, "little"))
            cpus = np.frombuffer(b"".join(values), COUNTERS)
            found[slot] = [
                CpuCounters(int(cpu["captured"]), tuple(int(n) for n in cpu["lost"]))
                for cpu in cpus
            ]
        return found

    def configure(self, slot: int, epoch: int, policy: CompiledPolicy) -> None:
        """Put a policy in force: one write that every later hook of the slot sees."""
        config = SlotConfig(
            epoch=epoch,
            flags=flags_of(policy) | self._added,
            relations_off=policy.relations_off,
            vertices_off=policy.vertices_off,
            records_per_second=policy.records_per_second,
            processes=self._rules.place(slot, policy.processes if self._judges else ()),
        )
        self._scope.bind(slot, config)
        self._configs[slot] = config

    def suspend(self, slot: int) -> None:
        """Record nothing more in the slot."""
        config = self._configs.get(slot)
        if config is not None and config.flags & SlotFlag.ACTIVE:
            config = dataclasses.replace(config, flags=config.flags & ~SlotFlag.ACTIVE)
            self._scope.bind(slot, config)
            self._configs[slot] = config

    def add_cgroup(self, cgroup: int, slot: int) -> None:
        """Put a cgroup and all it will contain in scope."""
        self._scope.add_cgroup(cgroup, slot)

    def remove_cgroup(self, cgroup: int) -> None:
        """Take a cgroup out of scope."""
        self._scope.remove_cgroup(cgroup)
