# SPDX-License-Identifier: Apache-2.0
"""Compile the capture programs for a node VM's kernel on this machine.

Why: an emulated CPU takes more than a minute for what this one does in seconds. Programs are kept
by the kernel's types (BTF) and release, so all that is needed of the guest is in its kernel's
image. Called by `headwater trace` and the kernel suite's runner before they boot.
"""

import lzma
import struct
import zlib
from pathlib import Path

import zstandard
from headwater_agent.attach_points import CaptureMode
from headwater_agent.program_cache import ProgramCacheError, cache_directory, compiled_programs

from headwater_cli.node_vm.errors import NodeVmError
from headwater_cli.node_vm.kernels import Kernel

_SECTION = struct.Struct("<IIQQQQIIQQ")


def _unpacked(image: bytes) -> bytes:
    """The ELF file in a bzImage; its setup header says where (Linux/x86 boot protocol 2.08)."""
    begin = (image[0x1F1] + 1) * 512 + struct.unpack_from("<I", image, 0x248)[0]
    packed = image[begin : begin + struct.unpack_from("<I", image, 0x24C)[0]]
    if packed.startswith(b"\x28\xb5\x2f\xfd"):
        # Packed with --ultra -22: the window is larger than what a decompressor takes unasked.
        return (
            zstandard.ZstdDecompressor(max_window_size=1 << 31).decompressobj().decompress(packed)
        )
    if packed.startswith(b"\xfd7zXZ\x00"):
        return lzma.LZMADecompressor().decompress(packed)
    if packed.startswith(b"\x1f\x8b"):
        return zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(packed)
    raise ValueError(f"kernel image packed in a way that is not known: {packed[:6].hex()}")


def _section(elf: bytes, wanted: bytes) -> bytes:
    """The content of a section of a 64-bit little-endian ELF file."""
    (table,) = struct.unpack_from("<Q", elf, 0x28)
    size, count, names = struct.unpack_from("<HHH", elf, 0x3A)
    headers = [_SECTION.unpack_from(elf, table + size * number) for number in range(count)]
    strings = headers[names][4]
    for name, _, _, _, offset, length, *_ in headers:
        end = elf.index(b"\0", strings + name)
        if elf[strings + name : end] == wanted:
            return elf[offset : offset + length]
    raise ValueError(f"the kernel has no section {wanted.decode()}")


def types_of(kernel: Kernel) -> Path:
    """The kernel's BTF, taken out of its image once."""
    file = cache_directory() / "kernels" / kernel.release / "btf"
    if not file.exists() or file.stat().st_mtime < kernel.image.stat().st_mtime:
        types = _section(_unpacked(kernel.image.read_bytes()), b".BTF")
        file.parent.mkdir(parents=True, exist_ok=True)
        fresh = file.with_name("btf.fresh")
        fresh.write_bytes(types)
        fresh.rename(file)
    return file


def compile_for(kernel: Kernel, mode: CaptureMode = CaptureMode.LSM) -> None:
    """Leave a mode's program set in the cache, where the guest looks for it.

    Raises:
        NodeVmError: it does not compile, or the image is not one that can be read.
    """
    try:
        compiled_programs(types_of(kernel), kernel.release, mode)
    except (ProgramCacheError, ValueError, OSError) as error:
        raise NodeVmError(
            f"no capture programs for kernel {kernel.release}: {error}",
            "run `headwater doctor`, or take another kernel",
        ) from error
