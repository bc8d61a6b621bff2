# SPDX-License-Identifier: Apache-2.0
"""The child process that compiles: ``python -m headwater_agent.compile BTF RELEASE OUTPUT``.

It is the only place that imports bcc, and with it LLVM, so the agent never carries that memory.
It compiles the C text against the types in a BTF file, which need not be the running kernel's, and
writes a :class:`~headwater_agent.program_object.ProgramObject`.

Started by :mod:`headwater_agent.program_cache`; the next step is :mod:`headwater_agent.bpf_load`.
"""

import ctypes
import os
import re
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from headwater_agent.btf import function_numbers
from headwater_agent.btf_headers import BtfUnavailableError, write_header_tree
from headwater_agent.program_object import (
    MapSpec,
    ProgramObject,
    ProgramSpec,
    replace_map_references,
)
from headwater_agent.program_text import read_program_text, vocabulary_constants

RING_PAGES: Final = 1
"""The ring's size is set when it is loaded; bcc wants one to compile."""

_HOOKS: Final = re.compile(r"^(LSM_PROBE|KFUNC_PROBE|RAW_TRACEPOINT_PROBE)\((\w+)", re.MULTILINE)
_STRUCTS: Final = re.compile(r"\bstruct (\w+)")
_KINDS: Final = {
    "LSM_PROBE": ("lsm", ("lsm__",), "bpf_lsm_"),
    "KFUNC_PROBE": ("fentry", ("kfunc__", "kfunc__vmlinux__"), ""),
    "RAW_TRACEPOINT_PROBE": ("raw_tracepoint", ("raw_tracepoint__",), None),
}
"""By bcc's macro: our word, bcc's prefixes of the program, the kernel's prefix of the function.

Newer versions of bcc name the module, vmlinux, in programs at a function's entry."""


class CompileError(Exception):
    """The C text does not compile on this node; clang's own messages are on stderr."""


def compile_programs(btf: Path, release: str) -> ProgramObject:
    """Compile the program set.

    :param btf: BTF of the kernel it is for
    :param release: that kernel's ``uname -r``
    :raises BtfUnavailableError: without BTF or bpftool
    :raises CompileError: if clang refuses the text
    """
    text = read_program_text()
    with tempfile.TemporaryDirectory(prefix="headwater-headers-") as directory:
        tree = write_header_tree(Path(directory), btf, release, _STRUCTS.findall(text))
        os.environ.update(tree.environment())
        flags = ["-w", f"-DHW_RING_PAGES={RING_PAGES}"]
        flags += [f"-D{name}={value}" for name, value in vocabulary_constants().items()]
        from bcc import BPF, lib

        class Unattached(BPF):  # type: ignore[misc]
            """bcc loads and attaches whatever it finds; here it only compiles."""

            def _trace_autoload(self) -> None:
                return

        try:
            compiled = Unattached(text=text, cflags=flags)
        except Exception as error:  # bcc raises bare Exception
            raise CompileError(str(error)) from error
    hooks = [(*_KINDS[macro], hook) for macro, hook in _HOOKS.findall(text)]
    numbers = function_numbers(
        btf.read_bytes(), (f"{prefix}{hook}" for _, _, prefix, hook in hooks if prefix is not None)
    )
    maps, index_by_descriptor = _maps(lib, compiled.module)
    return ProgramObject(
        maps,
        tuple(
            ProgramSpec(
                kind,
                hook,
                numbers.get(f"{prefix}{hook}", 0),
                replace_map_references(
                    _instructions(lib, compiled.module, [f"{each}{hook}" for each in prefixes]),
                    index_by_descriptor,
                ),
            )
            for kind, prefixes, prefix, hook in hooks
        ),
    )


def _maps(lib: Any, module: Any) -> tuple[tuple[MapSpec, ...], dict[int, int]]:
    # bcc's Python declares only some of its library's functions.
    for function, result in (
        (lib.bpf_num_tables, ctypes.c_size_t),
        (lib.bpf_table_name, ctypes.c_char_p),
        (lib.bpf_table_key_size_id, ctypes.c_size_t),
        (lib.bpf_table_leaf_size_id, ctypes.c_size_t),
        (lib.bpf_table_fd_id, ctypes.c_int),
    ):
        function.restype = result
        function.argtypes = [ctypes.c_void_p, ctypes.c_size_t][
            : 1 if function is lib.bpf_num_tables else 2
        ]
    count = lib.bpf_num_tables(module)
    specs = tuple(
        MapSpec(
            name=lib.bpf_table_name(module, index).decode(),
            type=lib.bpf_table_type_id(module, index),
            key_bytes=lib.bpf_table_key_size_id(module, index),
            value_bytes=lib.bpf_table_leaf_size_id(module, index),
            entries=lib.bpf_table_max_entries_id(module, index),
            flags=lib.bpf_table_flags_id(module, index),
        )
        for index in range(count)
    )
    return specs, {lib.bpf_table_fd_id(module, index): index for index in range(count)}


def _instructions(lib: Any, module: Any, names: Sequence[str]) -> bytes:
    """The code of the program that has one of these names."""
    for name in names:
        size = lib.bpf_function_size(module, name.encode())
        if size:
            return ctypes.string_at(lib.bpf_function_start(module, name.encode()), size)
    raise CompileError(f"bcc made no program {' or '.join(names)} of the text")


def main() -> int:
    """Compile as the arguments say; exit status 0, or 1 with the reason on stderr."""
    btf, release, output = sys.argv[1:4]
    try:
        content = compile_programs(Path(btf), release).encode()
    except (BtfUnavailableError, CompileError) as error:
        print(error, file=sys.stderr)
        return 1
    target = Path(output)
    with tempfile.NamedTemporaryFile(dir=target.parent, delete=False) as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    Path(file.name).replace(target)
    return 0


if __name__ == "__main__":
    sys.exit(main())
