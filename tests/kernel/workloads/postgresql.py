# SPDX-License-Identifier: Apache-2.0
"""PostgreSQL from its Debian package under its own load generator, on a Unix socket.

Usage: postgresql.py [prepare] [load]. The server refuses to be root; the package's own user runs
it, in the working directory.
"""

import os
import pwd
import subprocess
import sys
from pathlib import Path

CLIENTS = 4
TRANSACTIONS = 10


def main() -> None:
    programs = max(Path("/usr/lib/postgresql").glob("*/bin"))
    work = Path.cwd() / "postgresql"
    data, server = work / "data", ["--host", str(work)]
    identity = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]

    def run(program: str, *words: str) -> None:
        subprocess.run([*identity, str(programs / program), *words], check=True, cwd=work)

    def control(*words: str) -> None:
        run("pg_ctl", "-D", str(data), "-w", "-t", "300", *words)

    def start() -> None:
        options = f"-c listen_addresses='' -c unix_socket_directories={work} -c fsync=off"
        control("-l", str(work / "log"), "-o", options, "start")

    if "prepare" in sys.argv[1:]:
        make_room(work)
        run("initdb", "--no-sync", "--auth=trust", "--pgdata", str(data))
        start()
        run("pgbench", *server, "--initialize", "--quiet", "postgres")
        control("stop")
    if "load" in sys.argv[1:]:
        start()
        clients = ["--client", str(CLIENTS), "--jobs", "2", "--transactions", str(TRANSACTIONS)]
        run("pgbench", *server, *clients, "postgres")
        control("stop")


def make_room(work: Path) -> None:
    """Make the server's directory, and let its user reach it."""
    owner = pwd.getpwnam("postgres")
    work.mkdir()
    os.chown(work, owner.pw_uid, owner.pw_gid)
    # The tests' directories are root's alone.
    for directory in (work, *work.parents):
        if directory.stat().st_uid == 0:
            directory.chmod(directory.stat().st_mode | 0o011)


if __name__ == "__main__":
    main()
