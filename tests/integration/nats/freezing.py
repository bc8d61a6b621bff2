# SPDX-License-Identifier: Apache-2.0
"""Stop a server in its tracks: connections stay open, answers do not come."""

import os
import signal
import time
from pathlib import Path


def freeze(pid: int) -> None:
    """SIGSTOP, and wait until it has reached every thread: one of them may be answering just now.

    Raises:
        TimeoutError: a thread still runs after five seconds.
    """
    os.kill(pid, signal.SIGSTOP)
    deadline = time.monotonic() + 5
    while not all(_state(task) == "T" for task in Path(f"/proc/{pid}/task").iterdir()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"process {pid} does not stop")
        time.sleep(0.001)


def thaw(pid: int) -> None:
    """Let it go on."""
    os.kill(pid, signal.SIGCONT)


def _state(task: Path) -> str:
    return (task / "stat").read_text().rpartition(")")[2].split()[0]
