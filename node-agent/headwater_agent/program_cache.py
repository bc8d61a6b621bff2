# SPDX-License-Identifier: Apache-2.0
"""Compiled program sets, kept by what they were compiled from.

Compiling takes seconds and most of a hundred megabytes (a minute on an emulated CPU); what comes
out depends on the C text, the vocabulary, the kernel's types and the compiler only. So it is done
once, in a child process, and kept in a file that only its owner can write.

Called by :mod:`headwater_agent.load`; next: :mod:`headwater_agent.bpf_load`.
"""

import contextlib
import fcntl
import hashlib
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from headwater_agent.attach_points import PROGRAM_TEXTS, CaptureMode
from headwater_agent.btf_headers import BTF
from headwater_agent.program_object import ProgramObject, ProgramObjectError
from headwater_agent.program_text import read_program_text, vocabulary_constants

COMPILE_TIMEOUT_S: Final = 600.0
"""An emulated CPU needs a tenth of it."""

_BCC: Final = Path("/usr/lib/python3/dist-packages/bcc/version.py")

_COMPILING_MODULES: Final = (
    "attach_points.py",
    "btf.py",
    "btf_headers.py",
    "compile.py",
    "direct_maps.py",
    "program_object.py",
)


class ProgramCacheError(Exception):
    """No program set can be had; the message says why and what to do."""


def cache_directory() -> Path:
    """Where downloads and compiled programs are kept: ``HEADWATER_CACHE`` or the user's cache."""
    configured = os.environ.get("HEADWATER_CACHE")
    if configured:
        return Path(configured)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "headwater"


def program_key(btf: Path, release: str, mode: CaptureMode = CaptureMode.LSM) -> str:
    """Name of the program set for a kernel and a mode.

    :raises ProgramCacheError: if the kernel has no BTF
    """
    digest = hashlib.sha256()
    try:
        types = btf.read_bytes()
    except OSError as error:
        raise ProgramCacheError(
            f"{btf}: {error.strerror}; the kernel needs CONFIG_DEBUG_INFO_BTF "
            "(every stock Debian kernel from 6.1 on has it)"
        ) from error
    compiler = _BCC.read_bytes() if _BCC.exists() else b""
    constants = repr(sorted(vocabulary_constants().items())).encode()
    own = [Path(__file__).with_name(name).read_bytes() for name in _COMPILING_MODULES]
    text = read_program_text(PROGRAM_TEXTS[mode]).encode()
    for part in (text, mode.encode(), constants, types, release.encode(), compiler, *own):
        digest.update(hashlib.sha256(part).digest())
    return digest.hexdigest()[:32]


def compiled_programs(
    btf: Path = BTF, release: str | None = None, mode: CaptureMode = CaptureMode.LSM
) -> ProgramObject:
    """The program set for a kernel, compiled now if it is not there.

    :param btf: the kernel's BTF
    :param release: its ``uname -r``, the running kernel's when None
    :param mode: how it will be attached
    :raises ProgramCacheError: it does not compile, or the directory is not safe to load from
    """
    release = release or os.uname().release
    directory = cache_directory() / "programs"
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    _require_private(directory)
    file = directory / f"{program_key(btf, release, mode)}.json"
    with _locked(directory):
        stored = _read(file)
        if stored is not None:
            return stored
        _compile(btf, release, mode, file)
        stored = _read(file)
    if stored is None:
        raise ProgramCacheError(f"{file} vanished or was changed while it was written")
    return stored


def _read(file: Path) -> ProgramObject | None:
    try:
        return ProgramObject.decode(file.read_bytes())
    except FileNotFoundError:
        return None
    except ProgramObjectError:
        file.unlink()
        return None


def _require_private(directory: Path) -> None:
    """What lies here is loaded into the kernel: nobody else may be able to write it."""
    status = directory.stat()
    if status.st_uid != os.geteuid() or stat.S_IMODE(status.st_mode) & 0o022:
        raise ProgramCacheError(
            f"{directory} can be written by others; run: chown {os.geteuid()} {directory} && "
            f"chmod 700 {directory}"
        )


@contextlib.contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """One compiler at a time: the second finds what the first made."""
    descriptor = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _compile(btf: Path, release: str, mode: CaptureMode, file: Path) -> None:
    command = [sys.executable, "-m", "headwater_agent.compile", str(btf), release, mode, str(file)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=COMPILE_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        raise ProgramCacheError(
            f"compiling took longer than {COMPILE_TIMEOUT_S:.0f} s and was given up"
        ) from None
    if done.returncode != 0:
        reason = done.stderr.strip() or f"exit status {done.returncode}"
        if "No module named 'bcc'" in reason:
            reason = (
                "bcc is missing: install python3-bpfcc, and run in a virtual environment made by "
                "/usr/bin/python3 -m venv --system-site-packages"
            )
        raise ProgramCacheError(f"the capture programs cannot be compiled: {reason}")
