# SPDX-License-Identifier: Apache-2.0
"""Server processes of a control plane: where they are, on which ports, and how they end.

Why: whatever becomes of a test session, nothing of it may run on, and two sessions in one checkout
may not meet. Called by `control_plane`.
"""

import contextlib
import fcntl
import os
import random
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO

from headwater_cli.embedded_nats import tethered

ROOT = Path(__file__).resolve().parents[2]
STATES = ROOT / "build" / "cluster"
"""One directory for each control plane that runs at a time; the logs stay in it afterwards."""

_PORTS = range(20000, 32000)
"""Below those of outgoing connections (net.ipv4.ip_local_port_range)."""

QUOTED_LINES = 15


def wait_until(
    condition: Callable[[], object], *, what: str, timeout_s: float = 15.0, interval_s: float = 0.05
) -> None:
    """Wait until `condition()` is true.

    Raises:
        TimeoutError: it did not become true in time.
    """
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline_s:
            raise TimeoutError(f"not after {timeout_s:.0f} s: {what}")
        time.sleep(interval_s)


class Server:
    """One server process, with its log; it cannot outlive the thread of `spawner`."""

    def __init__(self, name: str, state: Path, spawner: ThreadPoolExecutor) -> None:
        self.name = name
        self.log = state / f"{name}.log"
        self._state = state
        self._spawner = spawner
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """Process id, 0 when it does not run."""
        return self._process.pid if self._process is not None and self.is_running else 0

    def start(self, *command: str | Path, append: bool = False) -> None:
        # The kernel ties a child to the thread that forked it, so all are forked by one that stays.
        self._process = self._spawner.submit(self._spawn, command, append).result()

    def _spawn(self, command: Sequence[str | Path], append: bool) -> subprocess.Popen[bytes]:
        tether = [sys.executable, tethered.__file__, str(os.getpid())]
        with self.log.open("ab" if append else "wb") as log:
            return subprocess.Popen(
                [*tether, *(str(word) for word in command)],
                cwd=self._state,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def stop(self) -> None:
        """End it at once and wait for its end: asked politely, it would wait for its watchers."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()

    def last_words(self) -> str:
        """The end of its log."""
        try:
            lines = self.log.read_text("utf-8", "replace").splitlines()
        except OSError:
            return ""
        return "\n".join(f"  {self.name}: {line[:400]}" for line in lines[-QUOTED_LINES:])

    def says(self, text: str) -> bool:
        with contextlib.suppress(OSError):
            return text in self.log.read_text("utf-8", "replace")
        return False


def free_ports(count: int) -> list[int]:
    """Ports that nobody has, and that the kernel gives to no client while a server is restarted."""
    with contextlib.ExitStack() as held:
        found: list[int] = []
        while len(found) < count:
            each = held.enter_context(socket.socket())
            with contextlib.suppress(OSError):
                each.bind(("127.0.0.1", random.choice(_PORTS)))
                found.append(each.getsockname()[1])
        return found


def claim_state() -> tuple[Path, IO[bytes]]:
    """The first directory that no running control plane has; emptied, and locked."""
    STATES.mkdir(parents=True, exist_ok=True)
    for directory in _numbered(STATES):
        directory.mkdir(mode=0o700, exist_ok=True)
        lock = (directory / "lock").open("wb")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            continue
        wipe(directory)
        return directory, lock
    raise AssertionError("numbers do not end")


def _numbered(directory: Path) -> Iterator[Path]:
    number = 0
    while True:
        yield directory / str(number)
        number += 1


def wipe(directory: Path, but: str = "") -> None:
    for path in directory.iterdir():
        if path.name == "lock" or (but and path.name.endswith(but)):
            continue
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
