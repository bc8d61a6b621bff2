# SPDX-License-Identifier: Apache-2.0
"""Linux audit with rules that ask for what a policy asks for: the peer that every node has.

Why auditd runs: without a reader the kernel prints its records to the console, which costs more.
Called by :mod:`bench.workload_cost.guest`.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_FILES = (
    "open,openat,openat2,creat,truncate,ftruncate,rename,renameat,renameat2,link,linkat,unlink,"
    "unlinkat,symlink,symlinkat,mkdir,mkdirat,rmdir,chmod,fchmod,fchmodat,chown,fchown,fchownat,"
    "execve,execveat,clone,clone3,fork,vfork,exit_group,connect,accept,accept4,bind,listen,socket,"
    "socketpair,pipe,pipe2,mmap"
)
_FLOWS = "read,write,pread,pwrite,readv,writev,sendto,recvfrom,sendmsg,recvmsg,sendfile"
RULES = {"audit: files": _FILES, "audit: flows": f"{_FILES},{_FLOWS}"}
"""System calls by column: what says which files a program touched; and what moves content too."""
BACKLOG = 65536
_CONFIGURATION = """\
log_file = {log}
log_format = RAW
flush = NONE
max_log_file = 4000
max_log_file_action = IGNORE
space_left = 2
admin_space_left = 1
space_left_action = IGNORE
admin_space_left_action = IGNORE
disk_full_action = IGNORE
disk_error_action = IGNORE
local_events = yes
"""


def _control(*words: str) -> str:
    done = subprocess.run(["/usr/sbin/auditctl", *words], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"auditctl {' '.join(words)}: {done.stderr or done.stdout}")
    return done.stdout


def status(name: str) -> int:
    """One figure of the kernel's own (`lost`, `backlog`)."""
    for line in _control("-s").splitlines():
        key, _, value = line.partition(" ")
        if key == name:
            return int(value.split()[0])
    raise RuntimeError(f"auditctl -s does not say {name}")


@contextmanager
def daemon(directory: Path) -> Iterator[Path]:
    """Run auditd until the block ends; yields its log."""
    directory.mkdir(mode=0o700)
    log = directory / "audit.log"
    (directory / "auditd.conf").write_text(_CONFIGURATION.format(log=log))
    (directory / "auditd.conf").chmod(0o640)
    with (directory / "output").open("wb") as output:
        process = subprocess.Popen(
            ["/usr/sbin/auditd", "-n", "-s", "enable", "-c", str(directory)],
            stdout=output,
            stderr=output,
        )
        try:
            until_s = time.monotonic() + 60
            while not log.exists():
                if process.poll() is not None or time.monotonic() > until_s:
                    raise RuntimeError((directory / "output").read_text())
                time.sleep(0.1)
            _control("-b", str(BACKLOG))
            # Records that find no room are lost and counted; a program that waits would be free.
            _control("--backlog_wait_time", "0")
            yield log
        finally:
            _control("-D")
            _control("-e", "0")
            process.terminate()
            process.wait(60)


def put_rules(column: str, user: int) -> None:
    """Put a column's rules in force, for one login user: audit knows no cgroups."""
    _control("-D")
    _control(
        "-a", "always,exit", "-F", "arch=b64", "-F", f"auid={user}", "-S", RULES[column]
    )  # fmt: skip


def events(log: Path) -> int:
    """How many system calls the log has, once all have come."""
    until_s = time.monotonic() + 120
    while status("backlog") and time.monotonic() < until_s:
        time.sleep(0.1)
    time.sleep(1.0)
    with log.open("rb") as lines:
        return sum(line.startswith(b"type=SYSCALL") for line in lines)
