# SPDX-License-Identifier: Apache-2.0
"""The child process that compiles and attaches: ``python -m headwater_agent.attach FD``.

It is the only place that imports bcc, and with it LLVM, so the agent never carries that memory.
It reads one request (JSON) from the given socket, answers with one message that holds the
descriptors of all maps and links (SCM_RIGHTS) and ends; the programs live on with the agent's
descriptors. Every hook is attached on its own: one that a kernel does not have costs its
relations only and is reported, never the whole set.

Started by :mod:`headwater_agent.load`.
"""

import contextlib
import ctypes
import json
import os
import re
import socket
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from headwater_agent.btf_headers import BtfUnavailableError, write_header_tree
from headwater_agent.program_text import read_program_text, vocabulary_constants

MESSAGE_BYTES_MAX: Final = 1 << 16

MAPS: Final = (
    "events",
    "counters",
    "scope",
    "scope_buckets",
    "active_config",
    "configs",
)
"""The maps that the agent reads or writes; the others are the programs' own."""

_HOOKS: Final = re.compile(
    r"^(LSM_PROBE|KFUNC_PROBE|RAW_TRACEPOINT_PROBE)\((\w+)", re.MULTILINE
)
_PREFIXES: Final = {
    "LSM_PROBE": "lsm",
    "KFUNC_PROBE": "kfunc",
    "RAW_TRACEPOINT_PROBE": "raw_tracepoint",
}


@dataclass(slots=True)
class Attached:
    """What came of an attempt: descriptors by name, and causes of what failed."""

    maps: dict[str, int] = field(default_factory=dict)
    links: dict[str, int] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    error: str | None = None


def attach(ring_pages: int, constants: dict[str, int]) -> Attached:
    """Compile the program set and attach every hook of it.

    :param ring_pages: size of the ring buffer in pages of 4 KiB, a power of two
    :param constants: further ``-D`` constants
    """
    attached = Attached()
    with tempfile.TemporaryDirectory(prefix="headwater-headers-") as directory:
        try:
            tree = write_header_tree(Path(directory))
        except BtfUnavailableError as error:
            attached.error = str(error)
            return attached
        os.environ.update(tree.environment())
        text = read_program_text()
        flags = ["-w", f"-DHW_RING_PAGES={ring_pages}"]
        flags += [f"-D{name}={value}" for name, value in (vocabulary_constants() | constants).items()]
        _compile(attached, text, flags)
    return attached


def _compile(attached: Attached, text: str, flags: list[str]) -> None:
    from bcc import BPF, lib

    class ProgramSet(BPF):  # type: ignore[misc]
        """bcc attaches everything or raises; here each hook is attempted on its own."""

        def _trace_autoload(self) -> None:
            return

    try:
        programs = ProgramSet(text=text, cflags=flags)
    except Exception as error:  # bcc raises bare Exception; clang's messages are on stderr
        attached.error = f"the program set does not compile: {error}"
        return
    for macro, hook in _HOOKS.findall(text):
        kind = _PREFIXES[macro]
        name = f"{kind}:{hook}"
        try:
            function = programs.load_func(
                f"{kind}__{hook}".encode(),
                {"lsm": BPF.LSM, "kfunc": BPF.TRACING, "raw_tracepoint": BPF.RAW_TRACEPOINT}[kind],
            )
            link = _attach_function(lib, kind, hook, function.fd)
        except Exception as error:  # bcc raises bare Exception
            attached.failures[name] = str(error)
            continue
        if link < 0:
            attached.failures[name] = os.strerror(ctypes.get_errno())
        else:
            attached.links[name] = link
    attached.maps.update({name: programs[name].map_fd for name in MAPS if name != "events"})
    attached.maps["events"] = lib.bpf_table_fd(programs.module, b"events")


def _attach_function(lib: Any, kind: str, hook: str, program: int) -> int:
    if kind == "lsm":
        return int(lib.bpf_attach_lsm(program))
    if kind == "kfunc":
        return int(lib.bpf_attach_kfunc(program))
    return int(lib.bpf_attach_raw_tracepoint(program, hook.encode()))


def main() -> int:
    """Answer the one request on the socket whose descriptor is the first argument."""
    with socket.socket(fileno=int(sys.argv[1])) as channel:
        request = json.loads(channel.recv(MESSAGE_BYTES_MAX))
        attached = attach(request["ring_pages"], request["constants"])
        descriptors = [*attached.maps.values(), *attached.links.values()]
        answer = {
            "maps": list(attached.maps),
            "links": list(attached.links),
            "failures": attached.failures,
            "error": attached.error,
        }
        with contextlib.suppress(BrokenPipeError):  # the agent has gone: so do the programs
            socket.send_fds(channel, [json.dumps(answer).encode()], descriptors)
        sys.stdout.flush()
        # bcc's exit handlers would tear down what was just handed over.
        os._exit(0)


if __name__ == "__main__":
    main()
