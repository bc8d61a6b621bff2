# SPDX-License-Identifier: Apache-2.0
"""Become a program that cannot outlive its parent. Run as a script, in the forked child.

Usage: tethered.py PARENT_PID PROGRAM ARGUMENT...

Why: after SIGKILL of `headwater` nothing of ours can clean up, so the kernel must: it sends SIGKILL
when the thread that forked us ends, a setting that survives the exec. It is a script of its own
because code between fork and exec of a threaded process may not allocate; this one is exec'ed
itself and then execs the server under the same process id. Called by `process`; imports nothing
outside the standard library, so it starts in a few hundredths of a second. Promise: G8.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1
_LOST_PARENT = 70  # EX_SOFTWARE: nobody is left to read it


def main() -> None:
    """Tie this process to its parent and exec the program named on the command line."""
    parent, program, arguments = int(sys.argv[1]), sys.argv[2], sys.argv[2:]
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != parent:  # it died before the line above took effect
        os._exit(_LOST_PARENT)
    # The parent may block signals for a relay of its own; the server must hear SIGTERM.
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    os.execv(program, arguments)


if __name__ == "__main__":
    main()
