# SPDX-License-Identifier: Apache-2.0
"""Policies from files: read whole, checked whole, replaced only by a set without errors.

Why: a half-saved file must not stop or change a running capture. Called by the verbs `trace` (one
file) and `serve` (a directory, looked at twice a second: that needs no library, survives editors
that rename, and works on every file system). Promise: G6, the last good set stays in force.
"""

import os
from collections.abc import Mapping
from pathlib import Path

from headwater_prov.policy import PolicyErrors, PolicySet, load_directory

from headwater_cli.errors import Failure

Signature = Mapping[str, tuple[int, int, int]]


def load_policies(directory: Path) -> PolicySet:
    """Return the checked set in `directory`.

    Raises:
        Failure: it cannot be read, or something in it is wrong; every problem has its own line.
    """
    try:
        return load_directory(directory)
    except PolicyErrors as errors:
        raise describe(errors) from errors
    except OSError as error:
        raise Failure(
            f"--policies: cannot read {error.filename or directory}: {error.strerror}",
            "name a directory of .yaml files with ProvenanceTenant and ProvenancePolicy in it",
        ) from error


def describe(errors: PolicyErrors) -> Failure:
    """Word the problems of a policy set for a terminal."""
    lines = [str(problem) for problem in errors.problems]
    count = "a problem" if len(lines) == 1 else f"{len(lines)} problems"
    return Failure(
        f"the policies have {count}:\n" + "\n".join(f"  {line}" for line in lines),
        "each line says what to write instead",
    )


class WatchedPolicies:
    """A directory of policies, and the last good set that was in it."""

    def __init__(self, directory: Path) -> None:
        """Load the first set.

        Raises:
            Failure: it has errors; there is no last good set to fall back to yet.
        """
        self._directory = directory
        self._seen = self._signature()
        self.current = load_policies(directory)

    def reload_if_changed(self) -> bool:
        """Load again when a file changed; tell whether `current` is new.

        Raises:
            Failure: the new state of the directory is wrong; raised once per change, and `current`
                stays as it was.
        """
        signature = self._signature()
        if signature == self._seen:
            return False
        self._seen = signature
        self.current = load_policies(self._directory)
        return True

    def _signature(self) -> Signature:
        found: dict[str, tuple[int, int, int]] = {}
        try:
            entries = list(os.scandir(self._directory))
        except OSError:  # gone for the moment, or for good: loading says so
            return found
        for entry in entries:
            if not entry.name.endswith((".yaml", ".yml")):
                continue
            try:
                details = entry.stat()
            except FileNotFoundError:  # a broken link, or removed since
                continue
            found[entry.name] = (details.st_mtime_ns, details.st_size, details.st_ino)
        return found
