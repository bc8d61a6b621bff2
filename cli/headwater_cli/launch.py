# SPDX-License-Identifier: Apache-2.0
"""Start COMMAND so that its first exec is already captured, and pass on what happens to it.

Why: a scope that is set after the start misses the start. The process is forked early, before
threads and sockets exist, and held on a pipe; it enters its cgroup while held, and its very next
act after the release is the exec. Called by the verbs `trace` and `run`.
Promise: G1; and COMMAND's own terminal, descriptors, environment and status are left alone.
"""

import contextlib
import errno
import os
import shutil
import signal
import struct
import threading
from collections.abc import Sequence
from typing import Self

from headwater_cli.errors import SIGNAL_BASE, ExitStatus, Failure

FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
"""Signals that another process sends to us and means COMMAND with."""

_GO = b"g"
_ERRNO = struct.Struct("i")


def resolve(command: str) -> str:
    """Return the path of the executable that a shell would take for `command`.

    Raises:
        Failure: with status 127 when it is not found, 126 when it is not executable.
    """
    found = shutil.which(command)
    if found is not None:
        return found
    if os.sep in command and os.path.exists(command):
        kind = "is a directory" if os.path.isdir(command) else "is not executable"
        raise Failure(
            f"{command}: {kind}",
            f'make it executable with "chmod +x {command}", or name its interpreter',
            ExitStatus.NOT_EXECUTABLE,
        )
    where = "no such file" if os.sep in command else "not found in PATH"
    raise Failure(f"{command}: {where}", "check the name, or give its path", ExitStatus.NOT_FOUND)


class HeldCommand:
    """A forked process that waits for the word to become COMMAND.

    Use it as a context manager: leaving it before `release` ends the process unheard.
    """

    def __init__(self, arguments: Sequence[str]) -> None:
        """Fork.

        Args:
            arguments: COMMAND and its arguments; the first is looked up in PATH.

        Raises:
            Failure: COMMAND is not found (127) or not executable (126); nothing was forked.
        """
        self.arguments = list(arguments)
        self.executable = resolve(arguments[0])
        go_read, self._go = os.pipe()
        self._failure, failure_write = os.pipe()
        self._status: int | None = None
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self._go)
            os.close(self._failure)
            self._become_command(go_read, failure_write)
        os.close(go_read)
        os.close(failure_write)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.abandon()

    def _become_command(self, go: int, failure: int) -> None:
        """Child: wait, then exec. Never returns."""
        try:
            if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
                signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C while it is held ends it
            if os.read(go, 1) == _GO:
                for number in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores these two
                    signal.signal(number, signal.SIG_DFL)
                try:
                    os.execv(self.executable, self.arguments)
                except OSError as error:
                    if error.errno != errno.ENOEXEC:
                        raise
                    # A script without "#!": what execvp(3) and every shell do.
                    os.execv("/bin/sh", ["/bin/sh", self.executable, *self.arguments[1:]])
        except OSError as error:
            os.write(failure, _ERRNO.pack(error.errno or errno.EINVAL))
        finally:
            os._exit(int(ExitStatus.FAILED))

    def release(self) -> None:
        """Let it exec.

        Raises:
            Failure: the exec failed; status 126 or 127.
        """
        with contextlib.suppress(BrokenPipeError):  # a signal ended it already: `wait` says which
            os.write(self._go, _GO)
        os.close(self._go)
        self._go = -1
        word = os.read(self._failure, _ERRNO.size)  # closed by a successful exec
        if not word:
            return
        self.wait()
        number = _ERRNO.unpack(word)[0]
        missing = number == errno.ENOENT
        raise Failure(
            f"{self.executable}: {os.strerror(number)}",
            "check that its interpreter (the first line, or its dynamic loader) exists"
            if missing
            else "check the file's mode and format",
            ExitStatus.NOT_FOUND if missing else ExitStatus.NOT_EXECUTABLE,
        )

    def wait(self) -> int:
        """Wait for its end and return the exit status a shell would report."""
        if self._status is None:
            _, status = os.waitpid(self.pid, 0)
            code = os.waitstatus_to_exitcode(status)
            self._status = code if code >= 0 else SIGNAL_BASE - code
        return self._status

    def abandon(self) -> None:
        """Close the pipes; a process that was never released ends by itself."""
        if self._go >= 0:
            os.close(self._go)
            self._go = -1
            self.wait()
        if self._failure >= 0:
            os.close(self._failure)
            self._failure = -1


class SignalRelay:
    """Pass signals that somebody sends to us on to COMMAND.

    What the terminal sends (Ctrl-C) reaches COMMAND anyway, being in the same process group: to
    pass it on would deliver it twice. Block the signals first (`block`), before any thread starts.
    """

    def __init__(self, pid: int) -> None:
        """Args: pid: the process that gets them."""
        self._pid = pid
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._relay, name="signals", daemon=True)

    @staticmethod
    def block() -> None:
        """Keep the signals for the relay, in this thread and those it will start."""
        signal.pthread_sigmask(signal.SIG_BLOCK, FORWARDED)

    @staticmethod
    def unblock() -> None:
        """Give the signals their usual effect back."""
        signal.pthread_sigmask(signal.SIG_UNBLOCK, FORWARDED)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        self._thread.join()

    def _relay(self) -> None:
        while not self._stop.is_set():
            information = signal.sigtimedwait(FORWARDED, 0.2)
            if information is None or information.si_code > 0:  # from the kernel: a terminal's
                continue
            try:
                os.kill(self._pid, information.si_signo)
            except ProcessLookupError:
                return
