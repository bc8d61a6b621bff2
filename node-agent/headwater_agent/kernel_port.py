# SPDX-License-Identifier: Apache-2.0
"""What the agent needs of the kernel, in ten words.

Why: everything above this line is the same for a real program set and for the fake that the tests
and the pipeline's benchmark feed; and what the agent may do to the kernel can be read on one page.
`attached_kernel.AttachedKernel` is the real one; `service.Agent` calls it.
"""

from collections.abc import Mapping
from typing import Protocol

from headwater_prov.policy import CompiledPolicy

from headwater_agent.reader import CpuCounters
from headwater_agent.ring import RingReader


class KernelPort(Protocol):
    """An attached program set."""

    slots: int
    """How many slots its maps hold, slot 0 included."""

    load_id: bytes
    """Eight random bytes: this attach. Serials and numbers count within it."""

    mode: str
    """Capture mode: "lsm"."""

    @property
    def hooks(self) -> Mapping[str, str]:
        """Every hook with "attached", or why it is not."""
        ...

    def ring(self) -> RingReader:
        """Open the ring for reading; once."""
        ...

    def read(self, slots: list[int]) -> Mapping[int, list[CpuCounters]]:
        """Return the counters of `slots`, one entry per CPU."""
        ...

    def configure(self, slot: int, epoch: int, policy: CompiledPolicy) -> None:
        """Put a policy in force: one write that every later hook of the slot sees."""
        ...

    def suspend(self, slot: int) -> None:
        """Record nothing more in the slot."""
        ...

    def add_cgroup(self, cgroup: int, slot: int) -> None:
        """Put a cgroup and all it will contain in scope."""
        ...

    def remove_cgroup(self, cgroup: int) -> None:
        """Take a cgroup out of scope."""
        ...
