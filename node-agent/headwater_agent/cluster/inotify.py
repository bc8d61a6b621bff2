# SPDX-License-Identifier: Apache-2.0
"""The kernel's word when a directory appears or goes, by inotify(7).

Why: the standard library has no inotify, and the four calls that are needed fit on a page. A cgroup
hierarchy reports what anybody makes in it, whichever mount it was made through.
Called by :mod:`.cgroup_watch` only.
"""

import ctypes
import errno
import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Final

IN_CREATE: Final = 0x100
IN_DELETE: Final = 0x200
IN_Q_OVERFLOW: Final = 0x4000
IN_IGNORED: Final = 0x8000
_IN_ONLYDIR: Final = 0x01000000
_IN_ISDIR: Final = 0x40000000

_HEADER: Final = struct.Struct("iIII")
_READ_BYTES: Final = 64 * 1024

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class DirectoryEvent:
    """Something happened in a watched directory."""

    watch: int
    """Number of the watch; -1 when events were lost."""

    mask: int
    name: str
    """Of the directory that it happened to; empty for the watched one itself."""


class Inotify:
    """One queue of events about directories in watched directories."""

    def __init__(self) -> None:
        """Raises: OSError: the user has no more queues."""
        self._descriptor = _libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self._descriptor < 0:
            raise _last_error("inotify")

    def fileno(self) -> int:
        """Readable when there are events."""
        return int(self._descriptor)

    def watch(self, directory: Path) -> int:
        """Begin to watch; return the watch's number.

        Raises:
            OSError: it is gone (ENOENT), or no more watches are to be had (ENOSPC).
        """
        mask = IN_CREATE | IN_DELETE | _IN_ONLYDIR
        number = _libc.inotify_add_watch(self._descriptor, os.fsencode(directory), mask)
        if number < 0:
            raise _last_error(str(directory))
        return int(number)

    def unwatch(self, number: int) -> None:
        """End a watch; one that ended with its directory already is no error."""
        _libc.inotify_rm_watch(self._descriptor, number)

    def read(self) -> list[DirectoryEvent]:
        """Return what happened to directories since the last call."""
        try:
            content = os.read(self._descriptor, _READ_BYTES)
        except BlockingIOError:
            return []
        found, at = [], 0
        while at < len(content):
            watch, mask, _, length = _HEADER.unpack_from(content, at)
            at += _HEADER.size
            name = os.fsdecode(content[at : at + length].rstrip(b"\0"))
            at += length
            if mask & (_IN_ISDIR | IN_Q_OVERFLOW | IN_IGNORED):
                found.append(DirectoryEvent(watch, mask, name))
        return found

    def close(self) -> None:
        """Give the queue back."""
        os.close(self._descriptor)


def _last_error(what: str) -> OSError:
    number = ctypes.get_errno() or errno.EIO
    return OSError(number, os.strerror(number), what)
