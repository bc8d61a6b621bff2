# SPDX-License-Identifier: Apache-2.0
"""How a document is to be shown, for the writers that have a choice.

Why: one signature for all writers lets a command offer every format without knowing any.

Who calls it: commands fill it in; :mod:`headwater_prov.writers` hands it on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from headwater_prov.answer import Answer


class WriterError(RuntimeError):
    """A format cannot be written here and now; the message says what to do about it."""


@dataclass(frozen=True, slots=True)
class Rendering:
    """What pictures and pages show. ``prov-json`` and ``prov-n`` always write everything."""

    title: str = "Provenance"
    versions: bool = False
    """One node for each version of an object instead of one for all of them."""
    everything: bool = False
    """Also relations and files of the system that are left out to keep pictures readable."""
    answer: Answer | None = None
    """The question that the document answers; a page shows its sentence and its table."""
    facts: Mapping[str, str] = field(default_factory=dict)
    """Further lines for a page, e.g. captured, delivered, declared lost."""
