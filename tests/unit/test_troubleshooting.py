# SPDX-License-Identifier: Apache-2.0
"""docs/troubleshooting.md has an entry for every reason that the code gives, and no other."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from headwater_agent.cluster.configuration import FailureReason
from headwater_operator.cluster.provisioned import AccountReason, AuditorReason
from headwater_prov.vocabulary import GapReason

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "troubleshooting.md"
PLACES = {"refused": 0, "so": 1, "Condition": 2, "Failure": 1}
"""Which argument of a call is a reason."""


def constants(tree: ast.AST) -> Iterator[str]:
    """Reasons that are written where they are given."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            place = PLACES.get(node.func.id)
            if place is None or len(node.args) <= place:
                continue
            for part in ast.walk(node.args[place]):
                if isinstance(part, ast.Constant) and re.fullmatch("[A-Z]\\w+", str(part.value)):
                    yield str(part.value)


def reasons() -> set[str]:
    found = {
        reason.value
        for kind in (AccountReason, AuditorReason, FailureReason, GapReason)
        for reason in kind
    }
    for directory in ("operator/headwater_operator/cluster", "node-agent/headwater_agent/cluster"):
        for path in (ROOT / directory).glob("*.py"):
            found |= set(constants(ast.parse(path.read_text())))
    # `so` in statuses.py is given two that were chosen before.
    return found | {"Suspended", "NotAccepted"}


def documented() -> set[str]:
    rows = [line for line in PAGE.read_text().splitlines() if line.startswith("| `")]
    return {name for row in rows for name in re.findall(r"`([\w-]+)`", row.split("|")[1])}


def test_every_reason_has_an_entry() -> None:
    assert reasons() - documented() == set()


def test_every_entry_is_a_reason() -> None:
    assert documented() - reasons() == set()


def test_every_entry_that_is_not_in_order_has_a_remedy() -> None:
    in_order = {"Accepted", "Programmed", "Capturing", "Ready"}
    for line in PAGE.read_text().splitlines():
        if line.startswith("| `"):
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            assert all(cells) or in_order & set(re.findall(r"`([\w-]+)`", cells[0])), line
