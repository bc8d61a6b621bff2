# SPDX-License-Identifier: Apache-2.0
"""The child process that compiles: ``python -m headwater_agent.compile BTF RELEASE MODE OUTPUT``.

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

from headwater_agent.attach_points import LATER_HOOKS, PROGRAM_TEXTS, CaptureMode, attach_point
from headwater_agent.btf import (
    BtfFormatError,
    function_numbers,
    functions_without_result,
    typedef_numbers,
)
from headwater_agent.btf_headers import BtfUnavailableError, write_header_tree
from headwater_agent.direct_maps import CONSTANTS, NUMBERS, SPECS
from headwater_agent.program_object import (
    MapSpec,
    ProgramObject,
    ProgramSpec,
    link_shared,
    replace_map_references,
    whole_program,
)
from headwater_agent.program_text import read_program_text, vocabulary_constants

RING_PAGES: Final = 1
"""The ring's size is set when it is loaded; bcc wants one to compile."""

_HOOKS: Final = re.compile(
    r"^(LSM_PROBE|RAW_TRACEPOINT_PROBE|HW_LSM|HW_FENTRY(?:_ALL)?|HW_FEXIT|HW_TRACEPOINT|HW_TP_BTF)\((\w+)",
    re.MULTILINE,
)
_STRUCTS: Final = re.compile(r"\bstruct (\w+)")
_KINDS: Final = {
    "LSM_PROBE": "lsm",
    "RAW_TRACEPOINT_PROBE": "raw_tracepoint",
    "HW_LSM": "lsm",
    "HW_FENTRY": "fentry",
    "HW_FENTRY_ALL": "fentry",
    "HW_FEXIT": "fexit",
    "HW_TRACEPOINT": "raw_tracepoint",
    "HW_TP_BTF": "tp_btf",
}
"""By macro, bcc's or ours (``bpf/headwater/hook.h``): our word, which begins the program's name."""

_MAPS: Final = re.compile(r'^BPF_\w+\((?:(?:"\w+"|HW_\w+), [^,]+, [^,]+, )?(\w+)', re.MULTILINE)

_SHARED_FUNCTION: Final = "hw_apart"
"""The one function that programs have a copy of, each its own (``bpf/headwater/apart.h``)."""


class CompileError(Exception):
    """The C text does not compile on this node; clang's own messages are on stderr."""


def compile_programs(btf: Path, release: str, mode: CaptureMode) -> ProgramObject:
    """Compile a program set.

    :param btf: BTF of the kernel it is for
    :param release: that kernel's ``uname -r``
    :param mode: how it will be attached; a key of :data:`~.attach_points.PROGRAM_TEXTS`
    :raises BtfUnavailableError: without BTF or bpftool
    :raises CompileError: if clang refuses the text
    """
    text = read_program_text(PROGRAM_TEXTS[mode])
    with tempfile.TemporaryDirectory(prefix="headwater-headers-") as directory:
        tree = write_header_tree(Path(directory), btf, release, _STRUCTS.findall(text))
        os.environ.update(tree.environment())
        # A hook's numbers come as pointers (bpf/headwater/hook.h); LLVM 19 makes that an error.
        flags = [
            "-Wno-everything",
            "-Wno-int-conversion",
            "-Werror=incompatible-pointer-types",
            f"-DHW_RING_PAGES={RING_PAGES}",
        ]
        flags += [f"-D{name}={value}" for name, value in vocabulary_constants().items()]
        flags += [f"-D{name}={value}" for name, value in CONSTANTS.items()]
        from bcc import BPF, lib

        class Unattached(BPF):  # type: ignore[misc]
            """bcc loads and attaches whatever it finds; here it only compiles."""

            def _trace_autoload(self) -> None:
                return

        try:
            compiled = Unattached(text=text, cflags=flags)
        except Exception as error:  # bcc raises bare Exception
            raise CompileError(str(error)) from error
    hooks = [(_KINDS[macro], hook) for macro, hook in _HOOKS.findall(text)]
    types = btf.read_bytes()
    nothing = functions_without_result(types)
    points = {each: attach_point(*each, mode, nothing) for each in hooks}
    targets = {name for each in points.values() for name in each.functions}
    numbers = function_numbers(types, targets) | typedef_numbers(types, targets)
    maps, index_by_reference = _maps(lib, compiled.module, _MAPS.findall(text))
    index_by_reference |= {NUMBERS[s.name]: len(maps) + at for at, s in enumerate(SPECS)}
    shared = _instructions(lib, compiled.module, _SHARED_FUNCTION)
    programs = []
    for kind, hook in hooks:
        code = _instructions(lib, compiled.module, f"{kind}__{hook}")
        code, shared_at = link_shared(code, shared)
        point = points[kind, hook]
        number = next((numbers[name] for name in point.functions if name in numbers), 0)
        if not number and hook in LATER_HOOKS:
            continue
        code = replace_map_references(code, index_by_reference)
        programs.append(ProgramSpec(point.kind, point.hook, number, code, shared_at))
    return ProgramObject(maps + SPECS, tuple(programs))


def _maps(
    lib: Any, module: Any, declared: Sequence[str]
) -> tuple[tuple[MapSpec, ...], dict[int, int]]:
    """The maps, and their indices by what refers to them in instructions.

    bcc compiles with a number below zero for each map, in the order of their declaration from -1
    on. It makes the maps in the order of these numbers and writes the descriptors into the
    functions that it knows; the functions called by them keep the numbers.

    :param declared: names in the order of their declaration
    :raises CompileError: if bcc did not make them in this order
    """
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
    index_by_descriptor = {lib.bpf_table_fd_id(module, index): index for index in range(count)}
    made = [specs[index_by_descriptor[each]].name for each in sorted(index_by_descriptor)]
    if made != list(reversed(declared)):
        raise CompileError(f"this bcc makes maps in an unknown order: {', '.join(made)}")
    index_by_name = {spec.name: index for index, spec in enumerate(specs)}
    numbers = {-1 - number: index_by_name[name] for number, name in enumerate(declared)}
    return specs, index_by_descriptor | numbers


def _instructions(lib: Any, module: Any, name: str) -> bytes:
    """The code of a program, with the function that it calls.

    bcc knows the program's first function only. The one that it calls stands in the same section
    (``bpf/headwater/hook.h``), so behind it in memory, and the call says where.
    """
    size = lib.bpf_function_size(module, name.encode())
    if not size:
        raise CompileError(f"bcc made no program {name} of the text")
    start = lib.bpf_function_start(module, name.encode())
    return whole_program(ctypes.string_at(start, size), lambda at: ctypes.string_at(start + at, 8))


def main() -> int:
    """Compile as the arguments say; exit status 0, or 1 with the reason on stderr."""
    btf, release, mode, output = sys.argv[1:5]
    try:
        content = compile_programs(Path(btf), release, CaptureMode(mode)).encode()
    except (BtfFormatError, BtfUnavailableError, CompileError) as error:
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
