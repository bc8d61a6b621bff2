# SPDX-License-Identifier: Apache-2.0
"""docs/reliability.md names tests that are there, and every test that was written for it."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "reliability.md"
NAMED = re.findall(r"\[`(test_\w+)`\]\(\.\./([\w/.]+)\)", PAGE.read_text())


def test_every_test_that_it_names_is_there() -> None:
    assert len(NAMED) > 20
    for name, path in NAMED:
        assert re.search(rf"^(async )?def {name}\(", (ROOT / path).read_text(), re.MULTILINE), name


def test_every_fault_that_was_tried_is_on_it() -> None:
    path = "tests/integration/test_reliability.py"
    written = re.findall(r"^async def (test_\w+)\(", (ROOT / path).read_text(), re.MULTILINE)
    assert set(written) == {name for name, of in NAMED if of == path}


def test_every_row_says_what_is_lost_and_which_test_shows_it() -> None:
    rows = [line for line in PAGE.read_text().splitlines() if re.match(r"\| [^-f]", line)]
    assert len(rows) > 20
    for row in rows:
        cells = [cell.strip() for cell in row.strip("|").split("|")]
        assert len(cells) == 4 and all(cells), row
        assert "`test_" in cells[3] or cells[3].startswith("none: "), row
