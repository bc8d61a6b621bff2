# SPDX-License-Identifier: Apache-2.0
"""What the set-up scripts share: where the cache is, and how a failure is said.

Why: they run before anything is installed, with the system's Python, so they can import only each
other and the standard library.
"""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def fail(message: str, remedy: str) -> SystemExit:
    """Return the exit that says what is wrong and what to do."""
    return SystemExit(f"setup: {message}\n  remedy: {remedy}")


def cache_directory() -> Path:
    """Return where downloads are kept (as headwater_agent.program_cache does)."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("HEADWATER_CACHE") or Path(base) / "headwater")
