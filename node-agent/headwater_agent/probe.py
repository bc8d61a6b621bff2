# SPDX-License-Identifier: Apache-2.0
"""Can this kernel capture, and in which mode? Found out by trying, not by reading a configuration.

A kernel may list ``bpf`` among its LSMs and still refuse the load (a sandbox), so the probe loads
the smallest program of each mode. Nothing else is changed: no boot line, no sysctl.

Called by :mod:`headwater_agent.load` before anything is compiled, by ``headwater trace`` to choose
between this kernel and a node VM, and by ``headwater doctor``.
"""

import errno
import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from headwater_agent import system_calls
from headwater_agent.attach_points import PROGRAM_TEXTS, CaptureMode, attach_point
from headwater_agent.bpf_load import load_program
from headwater_agent.btf import BtfFormatError, function_numbers, typedef_numbers
from headwater_agent.btf_headers import BTF, version_code
from headwater_agent.program_object import ProgramSpec

LSM_LIST: Final = Path("/sys/kernel/security/lsm")
OLDEST: Final = (6, 1)
"""Oldest kernel whose verifier accepts the programs."""

_RETURN_0: Final = bytes.fromhex("b7000000000000009500000000000000")
_HOOK: Final = "file_open"
_TRACEPOINT: Final = "sys_exit"
_PROGRAMS: Final = {
    CaptureMode.LSM: "LSM programs",
    CaptureMode.FENTRY: "programs at the kernel's functions (fexit)",
    CaptureMode.TRACEPOINT: "programs at tracepoints (tp_btf)",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that stands in the way."""

    what: str
    remedy: str


@dataclass(frozen=True, slots=True)
class ProbeReport:
    """What the running kernel offers."""

    kernel: str
    """``uname -r``"""
    btf: bool
    lsms: tuple[str, ...]
    """Active LSMs in their order; empty where securityfs is not mounted"""
    refusals: Mapping[CaptureMode, tuple[Finding, ...]]
    """What stands in the way of each mode; nothing where it works"""

    @property
    def mode(self) -> CaptureMode:
        """Best capture mode that works."""
        working = (mode for mode, findings in self.refusals.items() if not findings)
        return next(working, CaptureMode.UNSUPPORTED)

    @property
    def can_capture(self) -> bool:
        """Whether any mode works."""
        return self.mode is not CaptureMode.UNSUPPORTED

    @property
    def has_whole_model(self) -> bool:
        """Whether the best mode that works sees all that there is to see."""
        return self.mode in (CaptureMode.LSM, CaptureMode.FENTRY)

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What stands in the way of the best mode that there is."""
        return next(iter(self.refusals.values()), ())

    def explain(self, mode: CaptureMode | None = None) -> str:
        """Findings and remedies in one paragraph; empty when capture works.

        :param mode: the one that was asked for; None: any
        """
        if mode is None and self.can_capture:
            return ""
        modes = self.refusals.values() if mode is None else [self.refusals[mode]]
        found = dict.fromkeys(finding for findings in modes for finding in findings)
        return "; ".join(f"{each.what} ({each.remedy})" for each in found)


def probe() -> ProbeReport:
    """Examine the running kernel; takes some milliseconds and leaves nothing behind."""
    release = os.uname().release
    lsms = active_lsms()
    everywhere = (*_age(release), *_types())
    refusals = {mode: everywhere or tuple(_attempt(mode, lsms)) for mode in PROGRAM_TEXTS}
    return ProbeReport(release, BTF.exists(), lsms, refusals)


def active_lsms() -> tuple[str, ...]:
    """The kernel's active LSMs, empty when it does not say."""
    try:
        return tuple(LSM_LIST.read_text().strip().split(","))
    except OSError:
        return ()


def _age(release: str) -> list[Finding]:
    if version_code(release) >= (OLDEST[0] << 16) + (OLDEST[1] << 8):
        return []
    oldest = f"{OLDEST[0]}.{OLDEST[1]}"
    return [Finding(f"kernel {release} is older than {oldest}", f"boot a kernel from {oldest} on")]


def _types() -> list[Finding]:
    if BTF.exists():
        return []
    return [
        Finding(
            f"{BTF} is missing, so the kernel's types are unknown",
            "boot a kernel built with CONFIG_DEBUG_INFO_BTF; every stock Debian kernel is",
        )
    ]


def _attempt(mode: CaptureMode, lsms: tuple[str, ...]) -> list[Finding]:
    if mode is CaptureMode.TRACEPOINT:
        if not system_calls.supported():
            return [
                Finding(
                    f"system calls of {platform.machine()} are not known by their numbers",
                    f"capture on {' or '.join(system_calls.MACHINES)}",
                )
            ]
        point = attach_point("tp_btf", _TRACEPOINT, mode)
    else:
        point = attach_point("lsm", _HOOK, mode)
    try:
        types = BTF.read_bytes()
        numbers = function_numbers(types, point.functions) | typedef_numbers(types, point.functions)
        number = numbers.get(point.functions[0])
    except (OSError, BtfFormatError) as error:
        return [Finding(f"{BTF} cannot be read: {error}", "run as root on a kernel with BTF")]
    if number is None and mode is CaptureMode.LSM:
        return [Finding("the kernel has no BPF LSM", "boot a kernel built with CONFIG_BPF_LSM")]
    if number is None and mode is CaptureMode.TRACEPOINT:
        return [
            Finding(
                "the kernel has no tracepoints of system calls",
                "boot a kernel built with CONFIG_FTRACE_SYSCALLS",
            )
        ]
    if number is None:
        return [
            Finding("the kernel has no LSMs at all", "boot a kernel built with CONFIG_SECURITY")
        ]
    try:
        descriptor = load_program(ProgramSpec(point.kind, point.hook, number, _RETURN_0), {})
    except OSError as error:
        return [_refused(error, mode)]
    os.close(descriptor)
    if mode is CaptureMode.LSM and lsms and "bpf" not in lsms:
        # Programs load all the same, and nobody calls them.
        return [
            Finding(
                f"the BPF LSM is not active: {LSM_LIST} says {','.join(lsms)}",
                f"boot with lsm={','.join((*lsms, 'bpf'))}",
            )
        ]
    return []


def _refused(error: OSError, mode: CaptureMode) -> Finding:
    if error.errno in (errno.EPERM, errno.EACCES):
        if os.geteuid() != 0:
            return Finding("not root", "run as root, or with the capabilities BPF and PERFMON")
        return Finding(
            f"the kernel refuses {_PROGRAMS[mode]} even to root",
            "this host is locked down; capture in a node VM instead (headwater trace --vm auto)",
        )
    return Finding(
        f"{_PROGRAMS[mode]} do not load: {error.strerror}", "report this with the kernel's release"
    )
