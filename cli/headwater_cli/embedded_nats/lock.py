# SPDX-License-Identifier: Apache-2.0
"""One program at a time on a state directory.

Why: two servers on one store destroy it. The lock is held by the open file, which the server
inherits: it ends with the last of the two processes, however they end, and a stale lock cannot be.
Called by `EmbeddedNats` (to hold) and `NatsAccess` (to ask). Promise: G3.
"""

import fcntl
import os
import time
from pathlib import Path

from headwater_cli.errors import Failure, unwritable

LOCK_NAME = "lock"
_DYING_S = 3.0
"""How long to wait for a server whose parent was killed a moment ago."""


class StateLock:
    """The held lock of a state directory."""

    def __init__(self, state: Path) -> None:
        """Take the lock.

        Args:
            state: the directory, already made.

        Raises:
            Failure: another program holds it; the message names its process id.
        """
        self._state = state
        path = state / LOCK_NAME
        try:
            self.descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise unwritable(path, error) from error
        try:
            self._acquire()
            os.ftruncate(self.descriptor, 0)
            os.pwrite(self.descriptor, f"{os.getpid()}\n".encode(), 0)
        except BaseException:
            os.close(self.descriptor)
            raise

    def _acquire(self) -> None:
        until = time.monotonic() + _DYING_S
        while True:
            try:
                fcntl.flock(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if _is_running(self.holder()) or time.monotonic() > until:
                    raise Failure(
                        f"{self._state}: process {self.holder()} already works on this state",
                        'use that one (for instance "headwater run"), stop it first, '
                        "or choose another directory with --state",
                    ) from None
                time.sleep(0.05)
            else:
                return

    def holder(self) -> int:
        """Return the process id in the lock file, 0 if there is none."""
        text = os.pread(self.descriptor, 32, 0).strip()
        return int(text) if text.isdigit() else 0

    def release(self) -> None:
        """Give it up."""
        os.close(self.descriptor)


def is_held(state: Path) -> bool:
    """Whether some process works on `state` now."""
    try:
        descriptor = os.open(state / LOCK_NAME, os.O_RDONLY | os.O_NOFOLLOW)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _is_running(pid: int) -> bool:
    if pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
