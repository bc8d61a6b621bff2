# SPDX-License-Identifier: Apache-2.0
"""The agent stays small: LLVM, kopf and Kubernetes are never loaded into it."""

import subprocess
import sys

HEAVY = ("bcc", "kopf", "kubernetes", "prov", "pytest")


def test_a_session_loads_neither_bcc_nor_kopf() -> None:
    script = (
        "import sys, headwater_cli.session, headwater_agent.attached_kernel;"
        f"print(*(name for name in {HEAVY!r} if name in sys.modules))"
    )
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == ""
