# SPDX-License-Identifier: Apache-2.0
"""The page's figures are those that were measured and those that the chart asks for."""

import re
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs" / "operations" / "sizing.md").read_text("utf-8")
MEASURED = (ROOT / "docs" / "performance.md").read_text("utf-8")
VALUES: Any = yaml.safe_load((ROOT / "charts" / "headwater" / "values.yaml").read_text("utf-8"))


def test_streams_follow_from_bytes_for_each_record() -> None:
    stored = re.search(r"^\| stored in the stream \|.*\| ([\d.]+) B \|$", MEASURED, re.MULTILINE)
    assert stored
    size = float(stored[1])
    assert f"takes **{size:.0f} bytes**" in PAGE
    rows = re.findall(r"^\| ([\d,]+) \|(.*)\|(.*)\|(.*)\|$", PAGE, re.MULTILINE)
    assert len(rows) == 4
    for rate, *cells in rows:
        day = int(rate.replace(",", "")) * 86_400 * size
        for cell, bytes_ in zip(cells, (day, 7 * day, 10.5 * day), strict=True):
            number, unit = cell.split()
            shown = float(number) * {"MB": 1e6, "GB": 1e9}[unit]
            assert abs(shown - bytes_) < 0.02 * bytes_, (rate, cell)


def test_agents_and_operator_were_measured() -> None:
    idle = re.search(
        r"^\| idle \| 0 \| ([\d.]+) \|.*\| ([\d.]+) % of a core", MEASURED, re.MULTILINE
    )
    busy = re.search(
        r"^\| busy \| [\d,]+ \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) %", MEASURED, re.MULTILINE
    )
    assert idle and busy
    assert f"| memory, idle | {float(idle[1]):.0f} MB |" in PAGE
    assert f"| CPU, idle | {idle[2]} % of a core |" in PAGE
    assert f"| {float(busy[1]):.0f} MB, peak {float(busy[2]):.0f} MB |" in PAGE
    assert f"| {float(busy[3]):.0f} % of a core |" in PAGE
    for name in ("operator's memory, peak", "operator's CPU for an edit"):
        row = re.search(rf"^\| {name} \| (.*) \|$", MEASURED, re.MULTILINE)
        assert row and f"| {row[1]} |" in PAGE, name


def test_what_the_chart_asks_for() -> None:
    def mebibytes(text: str) -> str:
        return text.replace("Gi", " GiB").replace("Mi", " MiB")

    agent, operator = VALUES["agent"]["resources"], VALUES["operator"]["resources"]
    asked, most = mebibytes(agent["requests"]["memory"]), mebibytes(agent["limits"]["memory"])
    assert f"| {asked}, at most {most} |" in PAGE
    assert f"| {agent['requests']['cpu']}, no limit |" in PAGE
    assert "cpu" not in agent["limits"]
    asked, most = mebibytes(operator["requests"]["memory"]), mebibytes(operator["limits"]["memory"])
    assert f"asks for {asked} and allows {most}" in PAGE
