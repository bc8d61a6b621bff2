# SPDX-License-Identifier: Apache-2.0
"""The example auditor in Node.js, as setup/node_auditor.py made it runnable. Called by its test."""

import hashlib
import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headwater_agent.program_cache import cache_directory

EXAMPLE = Path(__file__).resolve().parents[3] / "examples" / "auditors" / "nodejs"


@dataclass(frozen=True)
class Audited:
    """What the auditor said."""

    status: int
    said: dict[str, Any]
    stderr: str


def prepare(directory: Path) -> Path:
    """Put the auditor and its packages together in a directory; returns Node.js."""
    names = ("package.json", "package-lock.json")
    content = b"".join((EXAMPLE / name).read_bytes() for name in names)
    made = cache_directory() / "nodejs-auditor" / hashlib.sha256(content).hexdigest()[:16]
    assert (made / "node").is_file(), f"{made} is not there: run make setup-test"
    shutil.copy2(EXAMPLE / "auditor.mjs", directory)
    shutil.copy2(EXAMPLE / "package.json", directory)
    (directory / "node_modules").symlink_to(made / "node_modules")
    return Path((made / "node").read_text().strip())


def audit(node: Path, directory: Path, *words: str) -> Audited:
    """Run it over what is stored."""
    done = subprocess.run(
        [str(node), "auditor.mjs", "--once", *words],
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=50,
    )
    said = json.loads(done.stdout) if done.stdout else {}
    return Audited(done.returncode, said, done.stderr)
