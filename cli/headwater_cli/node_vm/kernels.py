# SPDX-License-Identifier: Apache-2.0
"""Find the stock kernels that set-up unpacked, or that this machine has installed.

Why: a node VM boots a distribution's kernel as it is; which ones are there is a question of files.
Called by `vm` and by the kernel tests. Next: `modules`.
Layout of the cache, written by setup/kernels.py: `<cache>/kernels/<release>/` holds the package's
own tree (`boot/vmlinuz-<release>` or `usr/lib/modules/<release>/vmlinuz`, and the modules).
"""

import os
import platform
import re
from dataclasses import dataclass
from pathlib import Path

from headwater_agent.program_cache import cache_directory

from headwater_cli.node_vm.errors import NodeVmError


@dataclass(frozen=True, slots=True)
class Kernel:
    """A kernel that can be booted."""

    release: str
    """What `uname -r` says in it, for instance 6.12.107+deb13-amd64."""
    image: Path
    """The compressed kernel, readable by QEMU."""
    modules: Path
    """The directory with its `kernel/` and `modules.dep`."""

    @property
    def version(self) -> tuple[int, ...]:
        """The numbers at the start of the release, for comparison."""
        return tuple(int(part) for part in re.findall(r"\d+", self.release.split("-")[0])[:3])


def _in_tree(root: Path, release: str) -> Kernel | None:
    """Return the kernel `release` below `root`, a cache entry or the machine's own root."""
    for modules in (root / "usr/lib/modules" / release, root / "lib/modules" / release):
        if not (modules / "modules.dep").is_file():
            continue
        for image in (root / f"boot/vmlinuz-{release}", modules / "vmlinuz"):
            if image.is_file() and os.access(image, os.R_OK):
                return Kernel(release, image, modules)
    return None


def known_kernels() -> list[Kernel]:
    """Return every bootable kernel, newest first; the cache comes before the machine's own."""
    found: dict[str, Kernel] = {}
    cached = cache_directory() / "kernels"
    if cached.is_dir():
        for entry in cached.iterdir():
            kernel = _in_tree(entry, entry.name)
            if kernel is not None:
                found[entry.name] = kernel
    for installed in Path("/lib/modules").glob("*"):
        kernel = _in_tree(Path("/"), installed.name)
        if kernel is not None and "cloud" not in kernel.release:
            found.setdefault(installed.name, kernel)
    return sorted(found.values(), key=lambda kernel: kernel.version, reverse=True)


def _debian_default() -> str:
    """Return the version prefix of this distribution's own kernel."""
    try:
        codename = platform.freedesktop_os_release().get("VERSION_CODENAME", "")
    except OSError:
        codename = ""
    return {"bookworm": "6.1", "trixie": "6.12"}.get(codename, "")


def _of_suite(wanted: str) -> str:
    """Return the release that set-up took from the suite of that name, or `wanted` itself."""
    record = cache_directory() / "kernel-suites" / wanted
    return record.read_text(encoding="utf-8").strip() if record.is_file() else wanted


def find_kernel(wanted: str = "") -> Kernel:
    """Return the newest kernel whose release starts with the numbers in `wanted`.

    Args:
        wanted: a release or its beginning ("6.12"), or a Debian suite ("sid"); empty for this
            distribution's own version, or the newest there is when it is not among them.

    Raises:
        NodeVmError: no kernel is there, or none matches.
    """
    kernels = known_kernels()
    prefix = _of_suite(wanted) if wanted else _debian_default()
    for kernel in kernels:
        if kernel.release == prefix or re.match(re.escape(prefix) + r"(?!\d)", kernel.release):
            return kernel
    if kernels and not wanted:
        return kernels[0]
    have = ", ".join(kernel.release for kernel in kernels) or "none"
    raise NodeVmError(
        f"no kernel {wanted or 'at all'} to boot a node VM with (there: {have})",
        f'"make kernels" in the checkout downloads them into {cache_directory()}',
    )
