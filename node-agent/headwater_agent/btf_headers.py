# SPDX-License-Identifier: Apache-2.0
"""Kernel headers for bcc, made from the node's own BTF.

bcc compiles against a kernel source tree. Nodes have none; what they do have is BTF, the exact
types of the running kernel. This module writes a small tree whose only content is the C form of
that BTF, so no package of headers has to match the kernel and no relocation is needed.

bpftool writes the C form, and not always right: version 7.1 (Debian 12) gives enums of one byte
four, which moves half of ``struct inode`` on 6.12, and loses padding behind anonymous structs,
which moves the namespaces' members on 7.2. So enums get their size here, the offset
of every member of each struct that the programs name is asserted against BTF, and the few that
stay wrong are read by offsets that come from BTF (``HW_OFFSET_*``). A wrong layout does not
compile.

Called by :mod:`headwater_agent.compile` before bcc is imported (bcc reads the environment when it
compiles); nothing else needs it.
"""

import itertools
import os
import re
import subprocess
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from headwater_agent.btf import BtfFormatError, StructLayout, one_byte_enums, struct_layouts

BTF = Path("/sys/kernel/btf/vmlinux")

_KCONFIG = """\
#define _UAPI__LINUX_BPF_H__ /* bcc's copy of the UAPI header: BTF has its types */
#define CONFIG_BPF_SYSCALL 1
#define CONFIG_FUNCTION_TRACER 1
/* bcc relocates nothing: the types are the running kernel's own. */
#define BPF_NO_PRESERVE_ACCESS_INDEX 1
#include <{types}>
#define BPF_PSEUDO_MAP_FD 1
#define __always_inline inline __attribute__((always_inline))
#define PAGE_SIZE 4096
{helpers}
{offsets}
{assertions}
"""

_VERSION = """\
#define LINUX_VERSION_CODE {code}
#define KERNEL_VERSION(a, b, c) (((a) << 16) + ((b) << 8) + ((c) > 255 ? 255 : (c)))
"""

_ENUM = re.compile(r"^(enum (\w+) \{[^}]*\});", re.MULTILINE)

_PADDING = re.compile(r"\blong: 64;")

_EMPTY_HEADERS = (
    "asm/page.h",
    "linux/bpf_common.h",
    "linux/log2.h",
    "linux/types.h",
    "uapi/linux/bpf.h",
    "uapi/linux/if_ether.h",
    "uapi/linux/if_packet.h",
    "uapi/linux/ptrace.h",
)
"""Headers that bcc's own includes name and whose content is in BTF."""

_BCC_HELPERS = {"cgrp_storage_get": 210, "cgrp_storage_delete": 211}
"""Helpers that bcc's helpers.h declares and that kernels before 6.2 do not number."""


class BtfUnavailableError(Exception):
    """The kernel's types cannot be had; the message names the cause and the remedy."""


@dataclass(frozen=True, slots=True)
class HeaderTree:
    """A tree that bcc takes for the kernel's source."""

    root: Path
    version_code: int
    """``LINUX_VERSION_CODE`` of the running kernel."""

    def environment(self) -> dict[str, str]:
        """Variables under which bcc finds the tree."""
        return {
            "BCC_KERNEL_SOURCE": str(self.root),
            "BCC_LINUX_VERSION_CODE": str(self.version_code),
        }


def version_code(release: str) -> int:
    """Number of a kernel release as the kernel computes it.

    :param release: ``uname -r``, for example ``6.1.0-56-amd64``
    :raises ValueError: if it does not begin with two numbers
    """
    match = re.match(r"(\d+)\.(\d+)(?:\.(\d+))?", release)
    if match is None:
        raise ValueError(f"kernel release {release!r} does not begin with a version")
    major, minor, patch = (int(part or 0) for part in match.groups())
    return (major << 16) + (minor << 8) + min(patch, 255)


OFFSETS = {
    "cgroup_namespace": ("ns",),
    "ipc_namespace": ("ns",),
    "mnt_namespace": ("ns",),
    "net": ("ns",),
    "ns_common": ("inum",),
    "pid_namespace": ("ns",),
    "uts_namespace": ("ns",),
}
"""Members that the programs read by offset, because their struct's C form may be wrong."""


def write_header_tree(root: Path, btf: Path, release: str, structs: Iterable[str]) -> HeaderTree:
    """Write the tree for a kernel below an existing, empty directory.

    :param btf: that kernel's BTF, for the running one :data:`BTF`
    :param release: its ``uname -r``
    :param structs: names whose layout the programs rely on
    :raises BtfUnavailableError: without bpftool, without BTF, or if that is damaged
    """
    if not btf.exists():
        raise BtfUnavailableError(
            f"{btf} is missing: this kernel was built without CONFIG_DEBUG_INFO_BTF; "
            "boot a distribution kernel (Debian's has it)"
        )
    content = btf.read_bytes()
    try:
        layouts = struct_layouts(content, {*structs, *OFFSETS})
        small = one_byte_enums(content)
    except BtfFormatError as error:
        raise BtfUnavailableError(
            f"{btf} is damaged: {error}; read it again from {BTF} of its kernel"
        ) from error
    include = root / "include"
    for name in (*_EMPTY_HEADERS, "linux/kconfig.h", "linux/version.h"):
        header = include / name
        header.parent.mkdir(parents=True, exist_ok=True)
        header.write_text("")
    (root / "arch/x86/include").mkdir(parents=True)
    types = _dump_types(btf, include / "vmlinux.h", small)
    helpers = "\n".join(
        f"#define BPF_FUNC_{name} {number}"
        for name, number in _BCC_HELPERS.items()
        if f"BPF_FUNC_{name} " not in types
    )
    (include / "linux/kconfig.h").write_text(
        _KCONFIG.format(
            types=include / "vmlinux.h",
            helpers=helpers,
            offsets="\n".join(_offsets(layouts)),
            assertions="\n".join(_assertions(layouts)),
        )
    )
    code = version_code(release)
    (include / "linux/version.h").write_text(_VERSION.format(code=code))
    return HeaderTree(root, code)


def _dump_types(btf: Path, target: Path, small: Collection[str]) -> str:
    """The C form of the types as bpftool writes it, with the enums in `small` of one byte."""
    command = ["bpftool", "btf", "dump", "file", str(btf), "format", "c"]
    # Debian keeps bpftool in sbin, which is not on every user's PATH.
    path = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"))
    try:
        dump = subprocess.run(
            command, check=True, capture_output=True, text=True, env={**os.environ, "PATH": path}
        )
    except FileNotFoundError:
        raise BtfUnavailableError("bpftool is missing: install the package bpftool") from None
    except subprocess.CalledProcessError as error:
        raise BtfUnavailableError(
            f"bpftool could not read {btf}: {error.stderr.strip()}"
        ) from error
    text = _ENUM.sub(
        lambda enum: f"{enum[1]} __attribute__((packed));" if enum[2] in small else enum[0],
        dump.stdout,
    )
    # For a member behind an unnamed bit field LLVM 14 loads from elsewhere than its own offsetof
    # says (mm->arg_start on 6.12: 384 for 368), so whole words of padding become members.
    numbers = itertools.count()
    text = _PADDING.sub(lambda _: f"unsigned long headwater_padding_{next(numbers)};", text)
    target.write_text(text)
    return text


def _offsets(layouts: dict[str, StructLayout]) -> Iterator[str]:
    for struct, members in OFFSETS.items():
        for member in members:
            if struct not in layouts or member not in layouts[struct].members:
                raise BtfUnavailableError(
                    f"the kernel's BTF has no struct {struct} with a member {member}: "
                    "boot a distribution kernel (Debian's has them)"
                )
            yield f"#define HW_OFFSET_{struct}_{member} {layouts[struct].members[member]}"


def _assertions(layouts: dict[str, StructLayout]) -> Iterator[str]:
    message = "bpftool's C form of struct {} is not the kernel's: install a newer bpftool"
    for name in sorted(layouts.keys() - OFFSETS.keys()):
        layout = layouts[name]
        told = message.format(name)
        # A size that is off moves members only where the struct is a member itself.
        for member, offset in layout.members.items():
            yield (
                f"_Static_assert(__builtin_offsetof(struct {name}, {member}) == {offset}, "
                f'"{told}");'
            )
