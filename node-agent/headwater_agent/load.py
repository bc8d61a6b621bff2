# SPDX-License-Identifier: Apache-2.0
"""Capture: the program set, attached for as long as a ``with`` block runs.

First step of the agent: program set (compiled or kept) -> kernel -> descriptors of the ring and of
the maps. Next are :mod:`headwater_agent.scope`, which says what is captured, and the ring's reader.
Promise G8 ends here for this version: when the agent ends, so do the programs.
"""

import errno
import secrets
from types import TracebackType
from typing import Any, Final, Self

from numpy.typing import NDArray

from headwater_agent import system_calls
from headwater_agent.attach_points import PROGRAM_TEXTS, CaptureMode, security_function
from headwater_agent.bpf_load import Loaded, load_programs
from headwater_agent.direct_maps import direct_value
from headwater_agent.kernel_maps import KernelMap
from headwater_agent.layout import COUNTERS
from headwater_agent.probe import probe
from headwater_agent.program_cache import ProgramCacheError, compiled_programs

RING_BYTES_DEFAULT: Final = 8 << 20
"""About 100,000 flow records: a second of a busy build."""

ESSENTIAL_HOOKS: Final = (
    *("file_open", "file_permission", "bprm_committed_creds"),
    *("sys_enter", "sys_exit", "sched_process_exec"),
)
"""Without these, of those that a mode has, nothing deserves the name of provenance."""

MODES: Final = ("auto", *(mode.value for mode in PROGRAM_TEXTS))
"""What can be asked for."""


class CaptureError(Exception):
    """The kernel cannot capture; the message says why and what to do."""


class Capture:
    """An attached program set and the maps through which it is ruled and read."""

    def __init__(self, ring_bytes: int = RING_BYTES_DEFAULT, mode: str = "auto") -> None:
        """:param ring_bytes: size of the ring buffer, a power of two, at least one page
        :param mode: ``auto`` for the best that works, or one of :data:`MODES`
        """
        if ring_bytes < 4096 or ring_bytes & (ring_bytes - 1):
            raise CaptureError(f"ring buffer of {ring_bytes} bytes: write a power of two >= 4096")
        if mode not in MODES:
            raise CaptureError(f'capture mode "{mode}" is unknown: write {" or ".join(MODES)}')
        self.ring_bytes = ring_bytes
        self._asked = None if mode == "auto" else CaptureMode(mode)
        self.mode = CaptureMode.UNSUPPORTED
        """How the programs are attached, once they are"""
        self.load_id = secrets.token_bytes(8)
        """This attach: object serials and sequences count within it."""
        self._loaded: Loaded | None = None

    def __enter__(self) -> Self:
        """Attach.

        :raises CaptureError: if the kernel refuses, or an essential hook cannot be had
        """
        report = probe()
        mode = self._asked or report.mode
        if mode is CaptureMode.UNSUPPORTED or report.refusals[mode]:
            raise CaptureError(report.explain(self._asked))
        try:
            loaded = load_programs(compiled_programs(mode=mode), self.ring_bytes)
        except ProgramCacheError as error:
            raise CaptureError(str(error)) from error
        except OSError as error:
            raise CaptureError(_explain(error)) from error
        essential = {*ESSENTIAL_HOOKS, *map(security_function, ESSENTIAL_HOOKS)}
        missing = [name for name in loaded.failures if name.partition(":")[2] in essential]
        if missing:
            loaded.close()
            reasons = "; ".join(f"{name}: {loaded.failures[name].strerror}" for name in missing)
            raise CaptureError(f"hooks that capture cannot do without do not attach: {reasons}")
        self._loaded, self.mode = loaded, mode
        self._tell_system_calls()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._loaded is not None:
            self._loaded.close()
            self._loaded = None

    @property
    def ring_fd(self) -> int:
        """Descriptor of the ring buffer."""
        return self._kernel.maps["events"]

    @property
    def attached(self) -> dict[str, str]:
        """Every hook with "attached", or why it is not."""
        status = dict.fromkeys(self._kernel.links, "attached")
        return status | {
            name: error.strerror or str(error) for name, error in self._kernel.failures.items()
        }

    @property
    def counters(self) -> KernelMap:
        """Captured and lost records per CPU, by slot (``struct hw_counters``)."""
        return self._map("counters", 4, COUNTERS.itemsize, per_cpu=True)

    @property
    def scope(self) -> KernelMap:
        """Slots by cgroup id."""
        return self._map("scope", 8, 4)

    @property
    def scope_buckets(self) -> NDArray[Any]:
        """The direct-mapped copy of scope (``struct hw_scope_buckets``), in the kernel's pages."""
        return direct_value("scope_buckets", self._kernel.maps["scope_buckets"])

    @property
    def policies(self) -> NDArray[Any]:
        """Policies by slot, one in force and one spare (``struct hw_policies``), likewise."""
        return direct_value("policies", self._kernel.maps["policies"])

    @property
    def automaton(self) -> NDArray[Any]:
        """Patterns of paths (``struct hw_automaton``), in the kernel's pages."""
        return direct_value("automaton", self._kernel.maps["automaton"])

    @property
    def strays(self) -> NDArray[Any]:
        """How many processes have left the scope and are captured (``struct hw_strays``)."""
        return direct_value("strays", self._kernel.maps["strays"])

    def _tell_system_calls(self) -> None:
        """Fill mode tracepoint's table. Nothing is in scope yet, so nobody has missed it."""
        if "system_calls" in self._kernel.maps:
            table = self._map("system_calls", 4, system_calls.VALUE_BYTES)
            for key, value in system_calls.entries():
                table.update(key, value)

    @property
    def _kernel(self) -> Loaded:
        if self._loaded is None:
            raise RuntimeError("the capture is not attached: use it in a with block")
        return self._loaded

    def _map(
        self, name: str, key_bytes: int, value_bytes: int, *, per_cpu: bool = False
    ) -> KernelMap:
        return KernelMap(name, self._kernel.maps[name], key_bytes, value_bytes, per_cpu)


def _explain(error: OSError) -> str:
    if error.errno in (errno.EPERM, errno.EACCES):
        return f"{error.strerror}: capture needs root, or the capabilities BPF and PERFMON"
    return f"the kernel does not make the capture's maps: {error.strerror}"
