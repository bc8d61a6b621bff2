# SPDX-License-Identifier: Apache-2.0
"""Can this kernel capture? Found out by trying, not by reading a configuration.

A kernel may list ``bpf`` among its LSMs and still refuse the load (a sandbox), so the probe loads
and attaches the smallest LSM program there is. Nothing else is changed: no boot line, no sysctl.

Called by :mod:`headwater_agent.load` before anything is compiled, by ``headwater trace`` to choose
between this kernel and a node VM, and by ``headwater doctor``.
"""

import errno
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from headwater_agent.bpf_load import load_program
from headwater_agent.btf import BtfFormatError, function_numbers
from headwater_agent.btf_headers import BTF, version_code
from headwater_agent.program_object import ProgramSpec

LSM_LIST: Final = Path("/sys/kernel/security/lsm")
OLDEST: Final = (6, 1)
"""Oldest kernel whose verifier accepts the programs."""

_RETURN_0: Final = bytes.fromhex("b7000000000000009500000000000000")
_HOOK: Final = "file_open"


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
    findings: tuple[Finding, ...]

    @property
    def can_capture(self) -> bool:
        """Whether mode ``lsm`` works."""
        return not self.findings

    @property
    def mode(self) -> str:
        """Best capture mode: ``lsm`` or ``unsupported``."""
        return "lsm" if self.can_capture else "unsupported"

    def explain(self) -> str:
        """Findings and remedies in one paragraph; empty when capture works."""
        return "; ".join(f"{each.what} ({each.remedy})" for each in self.findings)


def probe() -> ProbeReport:
    """Examine the running kernel; takes some milliseconds and leaves nothing behind."""
    release = os.uname().release
    lsms = active_lsms()
    findings = [*_age(release), *_types()]
    if not findings:
        findings += _attempt()
    if not findings and lsms and "bpf" not in lsms:
        findings.append(
            Finding(
                f"the BPF LSM is not active: {LSM_LIST} says {','.join(lsms)}",
                f"boot with lsm={','.join((*lsms, 'bpf'))}",
            )
        )
    return ProbeReport(release, BTF.exists(), lsms, tuple(findings))


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


def _attempt() -> list[Finding]:
    function = f"bpf_lsm_{_HOOK}"
    try:
        number = function_numbers(BTF.read_bytes(), [function]).get(function)
    except (OSError, BtfFormatError) as error:
        return [Finding(f"{BTF} cannot be read: {error}", "run as root on a kernel with BTF")]
    if number is None:
        return [Finding("the kernel has no BPF LSM", "boot a kernel built with CONFIG_BPF_LSM")]
    try:
        descriptor = load_program(ProgramSpec("lsm", _HOOK, number, _RETURN_0), {})
    except OSError as error:
        return [_refused(error)]
    os.close(descriptor)
    return []


def _refused(error: OSError) -> Finding:
    if error.errno in (errno.EPERM, errno.EACCES):
        if os.geteuid() != 0:
            return Finding("not root", "run as root, or with the capabilities BPF and PERFMON")
        return Finding(
            "the kernel refuses LSM programs even to root",
            "this host is locked down; capture in a node VM instead (headwater trace --vm auto)",
        )
    return Finding(
        f"an LSM program does not load: {error.strerror}", "report this with the kernel's release"
    )
