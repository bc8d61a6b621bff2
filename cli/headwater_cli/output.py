# SPDX-License-Identifier: Apache-2.0
"""Write a result whole or not at all.

Why: a reader of the output file must never meet half a document, also when the disk is full or the
program is killed. Called by the verbs that take --output. Promise: nothing half-written.
"""

import os
import sys
import tempfile
from pathlib import Path

from headwater_cli.errors import Failure, unwritable

STANDARD_OUTPUT = "-"


def check_writable(target: str) -> None:
    """Find out before the work whether its result can be kept.

    Raises:
        Failure: the directory of `target` is missing or cannot be written.
    """
    if target == STANDARD_OUTPUT:
        return
    path = Path(target)
    if path.is_dir():
        raise Failure(f"--output: {target} is a directory", "name a file in it")
    parent = path.absolute().parent
    if not parent.is_dir():
        raise Failure(f"--output: there is no directory {parent}", f'make it: "mkdir -p {parent}"')
    try:
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=parent)
    except OSError as error:
        raise unwritable(target, error) from error
    os.close(descriptor)
    os.unlink(name)


def write_whole(target: str, content: bytes, *, mode: int = 0o666) -> None:
    """Put `content` at `target` by renaming a finished file over it; "-" is standard output.

    Args:
        target: path of the file.
        content: all of it.
        mode: of the file, less the umask; 0o600 for what only its owner may read.

    Raises:
        Failure: it cannot be written; an earlier file of that name is untouched.
    """
    if target == STANDARD_OUTPUT:
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()
        return
    path = Path(target)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        with open(temporary, "xb", opener=lambda name, flags: os.open(name, flags, mode)) as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise unwritable(target, error) from error
