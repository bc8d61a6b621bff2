# SPDX-License-Identifier: Apache-2.0
"""Which modules a stock kernel needs before it can see this machine's files, in loading order.

Why: distribution kernels have 9p and, some of them, virtio as modules; the initramfs must bring
them along. `modules.dep` (made by depmod at set-up) has the dependencies; a name that is not in it
is built into the kernel. Called by `initramfs`.
"""

import lzma
import re
from collections.abc import Iterable
from pathlib import Path

import zstandard

BOOT_MODULES = ("virtio_pci", "virtio_console", "9p", "9pnet_virtio")
"""The bus, the command's streams, the file system and its transport."""

NETWORK_MODULES = ("virtio_net",)
"""For a guest that may reach what its host reaches."""

_SUFFIX = re.compile(r"\.ko(\.xz|\.zst|\.gz)?$")


def _name(path: str) -> str:
    return _SUFFIX.sub("", path.rsplit("/", 1)[-1]).replace("-", "_")


def resolve(modules: Path, names: Iterable[str]) -> list[Path]:
    """Return the files of `names` and of what they need, each after its dependencies.

    Args:
        modules: the kernel's module directory, with `modules.dep`.
        names: module names; what is built in is left out.
    """
    dependencies: dict[str, tuple[str, list[str]]] = {}
    for line in (modules / "modules.dep").read_text(encoding="utf-8").splitlines():
        path, _, rest = line.partition(":")
        # depmod lists needs with the deepest last.
        dependencies[_name(path)] = (path, rest.split()[::-1])
    ordered: dict[str, None] = {}
    for name in names:
        if name.replace("-", "_") in dependencies:
            path, needs = dependencies[name.replace("-", "_")]
            ordered.update(dict.fromkeys([*needs, path]))
    return [modules / path for path in ordered]


def read(path: Path) -> bytes:
    """Return the module's plain bytes, whatever it is compressed with."""
    packed = path.read_bytes()
    if path.suffix == ".xz":
        return lzma.decompress(packed)
    if path.suffix == ".zst":
        return zstandard.ZstdDecompressor().decompressobj().decompress(packed)
    return packed
