# SPDX-License-Identifier: Apache-2.0
"""The operator's page names every reason, metric and option, and none that is not there."""

from __future__ import annotations

import re
from pathlib import Path

import headwater_operator.cluster
from headwater_operator.cluster.listing import Listing
from headwater_operator.cluster.main import parser
from headwater_operator.cluster.metrics import make_registry
from headwater_operator.cluster.reconciler import Reconciler
from headwater_operator.cluster.settings import OperatorSettings
from prometheus_client import generate_latest

from tests.unit.operator.played_api import PlayedApi

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs" / "operations" / "operator.md").read_text("utf-8")
TEXT = "\n".join(
    path.read_text("utf-8")
    for path in sorted(Path(headwater_operator.cluster.__path__[0]).glob("*.py"))
)


def test_reasons() -> None:
    """Every CamelCase word in quotes in these modules is a reason or the name of a kind."""
    said = set(re.findall(r'"([A-Z][a-z]+(?:[A-Z][a-z]+)*)"', TEXT))
    kinds = set(re.findall(r'Kind\(.*?"([A-Z]\w+)"', TEXT, re.DOTALL)) | {"Accept"}
    types = {"Event", "Warning", "Normal", "Reconcile", "Bearer", "True", "False", "Unknown"}
    types |= {"BearerToken", "Observed", "AccountReady"}
    reasons = {word for word in said if not word.startswith("Provenance")} - kinds - types
    reasons -= {"Namespace", "Node", "Lease", "Background"}
    documented = set(re.findall(r"`([A-Z][a-z]+(?:[A-Z][a-z]+)*)`", PAGE))
    assert reasons - documented == set()
    assert {one for one in documented if one not in reasons} == set()


async def test_metrics() -> None:
    api = PlayedApi()
    settings = OperatorSettings()
    reconciler = Reconciler(api, settings)
    registry = make_registry(reconciler, Listing(api, reconciler.cluster, settings))
    shown = generate_latest(registry).decode()
    names = set(re.findall(r"^# TYPE (headwater_\w+)", shown, re.MULTILINE))
    assert names == set(re.findall(r"`(headwater_operator_\w+)`", PAGE))


def test_options_and_numbers() -> None:
    options = set(re.findall(r"(--[a-z-]+)", parser().format_help())) - {"--help"}
    assert options == set(re.findall(r"^\| `(--[a-z-]+)`", PAGE, re.MULTILINE))
    settings = OperatorSettings()
    assert f"Nodes are written at {settings.node_writes_per_s:.0f} a second" in PAGE
    assert f"by {settings.workers} requests at once" in PAGE
    assert f"changes {settings.set_changes_at_once} times at once" in PAGE
    assert f"then every {1 / settings.set_changes_per_s:.0f} seconds" in PAGE
    assert f"written at {settings.count_writes_per_s:.0f} a second" in PAGE
