# SPDX-License-Identifier: Apache-2.0
"""What can be expected to go wrong, each with a remedy and a documented exit status.

Why: a person at a terminal needs one line that says what to do; a script needs a number it can
rely on. Every verb raises a `Failure`; `main` prints it and exits. A traceback is a defect of ours.
The statuses are those of env(1), timeout(1) and docker(1), so that a wrapper around a command can
be told from the command: `docs/cli.md` lists them.
"""

from enum import IntEnum

import click


class ExitStatus(IntEnum):
    """What the program exits with when it is not COMMAND's own status."""

    OK = 0
    NO_ANSWER = 1  # the question was understood and the answer is no (lineage, doctor, verify)
    USAGE = 2  # the command line was wrong; click's own number
    NOT_PROVEN = 3  # verify found nothing wrong and could not confirm everything
    UNUSABLE = 4  # what verify was given is no stream, export or earlier verification
    FAILED = 125  # headwater itself failed; COMMAND was not run, or its provenance is not there
    NOT_EXECUTABLE = 126  # COMMAND was found but cannot be executed
    NOT_FOUND = 127  # COMMAND was not found


SIGNAL_BASE = 128
"""COMMAND ended by signal n makes the program exit with this plus n."""


class Failure(click.ClickException):
    """An expected failure: a message, what to do about it, and an exit status.

    Args:
        message: what is wrong, with the field, file or value it is about.
        remedy: what the reader can do; printed on a line of its own.
        status: the exit status of the program.
    """

    def __init__(
        self, message: str, remedy: str = "", status: ExitStatus = ExitStatus.FAILED
    ) -> None:
        super().__init__(message)
        self.remedy = remedy
        self.exit_code = int(status)  # type: ignore[misc]  # click reads the instance

    def show(self, file: object = None) -> None:
        """Print the message and the remedy on stderr."""
        click.echo(f"headwater: {self.message}", err=True)
        if self.remedy:
            click.echo(f"  remedy: {self.remedy}", err=True)


def not_root() -> Failure:
    """Capture needs privileges that the caller does not have."""
    return Failure(
        "capturing needs root (CAP_BPF, CAP_PERFMON and CAP_SYS_ADMIN)",
        'run it as root, for instance with "sudo"',
    )


def no_cgroup2() -> Failure:
    """There is no cgroup v2 hierarchy to make a scope in."""
    return Failure(
        "no cgroup v2 hierarchy is mounted, and a scope is a cgroup v2 directory",
        "mount -t cgroup2 none /sys/fs/cgroup/unified (or boot with the unified hierarchy)",
    )


def unwritable(path: object, error: OSError) -> Failure:
    """A file or directory cannot be written."""
    reason = error.strerror or str(error)
    return Failure(
        f"cannot write {path}: {reason}",
        "choose another place with --output or --state, or free space there",
    )
