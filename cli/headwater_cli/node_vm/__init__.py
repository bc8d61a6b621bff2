# SPDX-License-Identifier: Apache-2.0
"""A stock distribution kernel under QEMU over this machine's own files.

Why: where the host's kernel refuses to attach (a locked-down sandbox, an old kernel, no BTF), the
same command over the same files can be captured in a virtual node. Used by the verb `trace`, by
the kernel tests and by the benchmarks. Way of a run: `kernels` finds the kernel, `programs`
compiles what it will capture with, `modules` and `initramfs` make what it boots with, `qemu` words
the machine, `vm` starts it and relays, and `guest` is what runs inside as process 1.
"""

from headwater_cli.node_vm.errors import NodeVmError
from headwater_cli.node_vm.kernels import Kernel, find_kernel, known_kernels
from headwater_cli.node_vm.programs import compile_for
from headwater_cli.node_vm.vm import NodeVm

__all__ = ["Kernel", "NodeVm", "NodeVmError", "compile_for", "find_kernel", "known_kernels"]
