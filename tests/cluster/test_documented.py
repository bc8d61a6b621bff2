# SPDX-License-Identifier: Apache-2.0
"""Every example in docs/ and examples/ can be applied to a real API server as it stands."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from headwater_prov.policy.schema import API_VERSION

from tests.cluster.api import Api
from tests.cluster.control_plane import ROOT

pytestmark = pytest.mark.usefixtures("definitions")

PLURALS = {
    "ClusterProvenancePolicy": "clusterprovenancepolicies",
    "ProvenanceAuditor": "provenanceauditors",
    "ProvenancePolicy": "provenancepolicies",
    "ProvenanceTenant": "provenancetenants",
}
_BLOCK = re.compile(r"^```yaml\n(.*?)^```", re.MULTILINE | re.DOTALL)
NAMESPACED = {"ProvenanceAuditor", "ProvenancePolicy"}


def written() -> Iterator[tuple[str, dict[str, Any]]]:
    """Every document of our kinds that a reader may copy, and where it stands."""
    for page in sorted((ROOT / "docs").rglob("*.md")):
        text = page.read_text("utf-8")
        for number, block in enumerate(_BLOCK.findall(text)):
            yield from documents(f"{page.stem}-{number}", block)
    for file in sorted((ROOT / "examples").rglob("*.yaml")):
        yield from documents(file.stem, file.read_text("utf-8"))


def documents(where: str, text: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for number, document in enumerate(yaml.safe_load_all(text)):
        if isinstance(document, dict) and document.get("apiVersion") == API_VERSION:
            yield f"{where}-{number}", document


EXAMPLES = dict(written())


def test_there_are_examples_of_every_kind_that_people_write() -> None:
    assert {document["kind"] for document in EXAMPLES.values()} == PLURALS.keys()
    assert len(EXAMPLES) > 15


@pytest.mark.parametrize("document", EXAMPLES.values(), ids=EXAMPLES.keys())
def test_example_is_accepted(api: Api, document: dict[str, Any]) -> None:
    kind = document["kind"]
    where = f"/apis/{API_VERSION}"
    if kind in NAMESPACED:
        where += "/namespaces/default"
        document = {**document, "metadata": {**document["metadata"], "namespace": "default"}}
    api.create(f"{where}/{PLURALS[kind]}", document, dryRun="All", fieldValidation="Strict")
