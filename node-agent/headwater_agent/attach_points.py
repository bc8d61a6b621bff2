# SPDX-License-Identifier: Apache-2.0
"""How programs are attached: the capture modes, and what a hook of the C text is in each.

Why: a hook is written once, as an LSM hook. A kernel that does not run BPF programs as an LSM still
calls a function `security_*` for each hook, and a program at that function's exit sees the same
arguments and what all LSMs said (`bpf/headwater/hook.h`).
Used by :mod:`headwater_agent.compile`, :mod:`headwater_agent.probe` and
:mod:`headwater_agent.load`. Pure.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class CaptureMode(StrEnum):
    """How a node captures, by falling completeness."""

    LSM = "lsm"
    FENTRY = "fentry"
    TRACEPOINT = "tracepoint"
    UNSUPPORTED = "unsupported"


PROGRAM_TEXTS: Final = {
    CaptureMode.LSM: "headwater.bpf.c",
    CaptureMode.FENTRY: "fentry.bpf.c",
    CaptureMode.TRACEPOINT: "tracepoint.bpf.c",
}
"""The top file of each mode's program set; the modes that there are, the best one first."""

_RENAMED: Final = {"pipe_read": ("anon_pipe_read",)}
"""Kernel functions that later kernels call otherwise.

``pipe_read``: since 6.15 FIFOs have a function of their own, which calls this one
(262b2fa99c12 "pipe: introduce struct file_operations pipeanon_fops")."""


LATER_HOOKS: Final = frozenset({"inode_get_acl", "inode_remove_acl", "inode_set_acl"})
"""LSM hooks that a kernel may lack without a loss: older ones mediate the same elsewhere.

Access control lists have hooks of their own since 6.2; before, they pass the hooks of extended
attributes."""


@dataclass(frozen=True, slots=True)
class AttachPoint:
    """Where a program goes."""

    kind: str
    """``lsm``, ``fentry``, ``fexit``, ``raw_tracepoint`` or ``tp_btf``"""

    hook: str
    """LSM hook, kernel function or tracepoint"""

    functions: tuple[str, ...] = ()
    """Types in the kernel's BTF of which the first that exists is attached to: functions, or the
    one of a tracepoint with arguments; none for those without"""

    @property
    def name(self) -> str:
        """``lsm:file_open``"""
        return f"{self.kind}:{self.hook}"


def attach_point(
    kind: str, hook: str, mode: CaptureMode, returns_nothing: frozenset[str] = frozenset()
) -> AttachPoint:
    """Where a hook of the C text goes in a mode.

    :param kind: the text's word for it: ``lsm``, ``fentry``, ``fexit``, ``raw_tracepoint``
        or ``tp_btf``
    :param hook: LSM hook, kernel function or tracepoint
    :param returns_nothing: functions `security_*` without a result: nothing can be refused there,
        and what is to be freed is there at the entry only
    """
    if kind == "raw_tracepoint":
        return AttachPoint(kind, hook)
    if kind == "tp_btf":
        return AttachPoint(kind, hook, (f"btf_trace_{hook}",))
    if kind != "lsm":
        return AttachPoint(kind, hook, (hook, *_RENAMED.get(hook, ())))
    if mode is CaptureMode.LSM:
        return AttachPoint(kind, hook, (f"bpf_lsm_{hook}",))
    function = security_function(hook)
    return AttachPoint("fentry" if function in returns_nothing else "fexit", function, (function,))


def security_function(hook: str) -> str:
    """The kernel's function that calls an LSM hook (security/security.c): `inode_free_security` is
    called by `security_inode_free`, all others have the hook's name."""
    return f"security_{hook.removesuffix('_security')}"
