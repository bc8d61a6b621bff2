# SPDX-License-Identifier: Apache-2.0
"""Whether a tenant's stream is what its nodes signed: `StreamVerifier` in, `Report` out (G7).

Pure: the messages may come from a server, an export or a test. What each finding means and what no
verification can find is in `docs/threat-model.md`.
"""

from headwater_auditor.verification.findings import (
    ChainEnd,
    ChainReport,
    DeclaredGap,
    Finding,
    FindingKind,
    PositionRange,
    Report,
    Verdict,
)
from headwater_auditor.verification.judgement import Scope
from headwater_auditor.verification.memory import (
    Memory,
    MemoryFileError,
    RememberedChain,
    read_memory,
    render_memory,
)
from headwater_auditor.verification.verifier import StreamVerifier

__all__ = [
    "ChainEnd",
    "ChainReport",
    "DeclaredGap",
    "Finding",
    "FindingKind",
    "Memory",
    "MemoryFileError",
    "PositionRange",
    "RememberedChain",
    "Report",
    "Scope",
    "StreamVerifier",
    "Verdict",
    "read_memory",
    "render_memory",
]
