# SPDX-License-Identifier: Apache-2.0
"""The program `headwater` as a user starts it, for the tests that run in a capturing kernel."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headwater_cli.control import request
from headwater_cli.verbs.lineage import read_file
from headwater_prov.document import Document
from headwater_prov.validation import validate
from headwater_prov.vocabulary import Relation

HEADWATER = (sys.executable, "-m", "headwater_cli.main")
TIMEOUT_S = 400.0
"""An emulated guest on a busy machine takes its time."""


@dataclass(frozen=True)
class Traced:
    """What one `headwater trace` left."""

    status: int
    stderr: str
    summary: dict[str, Any]
    document: Document

    def count(self, relation: Relation) -> int:
        return sum(edge.relation is relation for edge in self.document.edges)

    def paths(self) -> set[str]:
        return {
            str(vertex.attributes["cf:pathname"])
            for vertex in self.document.vertices.values()
            if "cf:pathname" in vertex.attributes
        }


def headwater(
    *words: str, cwd: Path | None = None, check: bool = False
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*HEADWATER, *words],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=check,
    )


def trace(directory: Path, *command: str, options: Sequence[str] = ()) -> Traced:
    """Trace a command in `directory`; the document is checked and the books must balance."""
    output, summary = directory / "provenance.json", directory / "summary.json"
    words = ["trace", "--vm", "never", "--output", str(output), "--summary", str(summary)]
    result = headwater(*words, *options, "--", *command, cwd=directory)
    assert output.exists(), result.stderr
    figures = json.loads(summary.read_text())
    assert figures["captured"] == figures["delivered"] + figures["declared"]
    document = read_file(output)
    assert validate([document]) == []
    return Traced(result.returncode, result.stderr, figures, document)


@contextmanager
def serve(policies: Path, state: Path, *options: str) -> Iterator[subprocess.Popen[str]]:
    """Run `headwater serve` until the block ends, then stop it in peace."""
    log = state.parent / "serve.log"
    with log.open("w") as stream:
        process = subprocess.Popen(
            [*HEADWATER, "serve", "--policies", str(policies), "--state", str(state), *options],
            stderr=stream,
            text=True,
        )
        try:
            await_text(log, "serving in mode", process)
            yield process
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                process.wait(TIMEOUT_S)


def await_text(log: Path, text: str, process: subprocess.Popen[str]) -> None:
    until = time.monotonic() + TIMEOUT_S
    while text not in log.read_text():
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < until, log.read_text()
        time.sleep(0.1)


def run(state: Path, namespace: str, *command: str) -> subprocess.CompletedProcess[str]:
    return headwater("run", "--namespace", namespace, "--state", str(state), "--", *command)


def final_balances(state: Path) -> dict[str, dict[str, int]]:
    """Read what `serve` printed at its end."""
    found: dict[str, dict[str, int]] = {}
    for line in (state.parent / "serve.log").read_text().splitlines():
        if ": captured " not in line:
            continue
        _, tenant, figures = line.split(": ", 2)
        words = [part.rsplit(" ", 1) for part in figures.split(", ")]
        found[tenant] = {name: int(number) for name, number in words}
    return found


def statistics(state: Path) -> dict[str, Any]:
    return request(state, timeout_s=60.0, verb="statistics")


def policy(namespace: str, spec: str = "podSelector: {}") -> str:
    return (
        "apiVersion: headwater.dev/v1alpha1\nkind: ProvenancePolicy\n"
        f"metadata: {{name: all, namespace: {namespace}}}\nspec:\n  {spec}\n---\n"
    )


def tenant(name: str, stream_bytes: str) -> str:
    return (
        "apiVersion: headwater.dev/v1alpha1\nkind: ProvenanceTenant\n"
        f"metadata: {{name: {name}}}\nspec:\n  namespaces: [{name}]\n"
        f"  quotas: {{streamBytes: {stream_bytes}}}\n---\n"
    )


def server_pids() -> list[int]:
    """Process ids of nats-server."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                name = Path(f"/proc/{entry}/comm").read_text().strip()
            except OSError:
                continue
            if name == "nats-server":
                found.append(int(entry))
    return found
