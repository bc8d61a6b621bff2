# SPDX-License-Identifier: Apache-2.0
"""The definitions as an API server takes them, and as kubectl explains them."""

from typing import Any

import pytest
import yaml

from tests.cluster.conftest import CRDS
from tests.cluster.control_plane import Api, ControlPlane, wait_until

DEFINITIONS: list[dict[str, Any]] = [
    yaml.safe_load(file.read_text("utf-8")) for file in sorted(CRDS.glob("*.yaml"))
]
NAMES = [definition["metadata"]["name"] for definition in DEFINITIONS]


def explained(control_plane: ControlPlane, path: str) -> str:
    """What kubectl says of a field; the server publishes it a moment after it serves the kind."""
    said = ""

    def is_known() -> bool:
        nonlocal said
        said = control_plane.kubectl("explain", path)
        return "<empty>" not in said

    wait_until(is_known, what=f"{path} is explained", interval_s=0.5)
    return said


def test_kubectl_applies_the_directory(definitions: str) -> None:
    assert sorted(definitions.splitlines()) == [
        f"customresourcedefinition.apiextensions.k8s.io/{name} created" for name in sorted(NAMES)
    ]


@pytest.mark.parametrize("name", NAMES)
def test_definition_is_established_and_structural(api: Api, definitions: str, name: str) -> None:
    path = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{name}"
    conditions = {
        condition["type"]: condition for condition in api.get(path)["status"]["conditions"]
    }
    assert conditions["Established"]["status"] == "True"
    assert conditions["NamesAccepted"]["status"] == "True"
    assert "NonStructuralSchema" not in conditions, conditions["NonStructuralSchema"]["message"]
    # What it says of a field it does not know would be dropped, not refused.
    assert conditions.keys() <= {"Established", "NamesAccepted"}


@pytest.mark.parametrize("definition", DEFINITIONS, ids=NAMES)
def test_kind_is_found_by_its_short_names_and_category(
    control_plane: ControlPlane, definitions: str, definition: dict[str, Any]
) -> None:
    names = definition["spec"]["names"]
    for short in names["shortNames"]:
        control_plane.kubectl("get", "--all-namespaces", short)  # fails for a kind not known
    served = control_plane.kubectl("api-resources", "--categories=headwater", "--output=name")
    assert definition["metadata"]["name"] in served.splitlines()


@pytest.mark.parametrize("definition", DEFINITIONS, ids=NAMES)
def test_kubectl_explains_every_kind(
    control_plane: ControlPlane, definitions: str, definition: dict[str, Any]
) -> None:
    (version,) = definition["spec"]["versions"]
    wanted = version["schema"]["openAPIV3Schema"]["description"]
    said = explained(control_plane, definition["spec"]["names"]["singular"])
    assert " ".join(wanted.split()) in " ".join(said.split())


def test_kubectl_explains_a_field(control_plane: ControlPlane, definitions: str) -> None:
    said = " ".join(explained(control_plane, "provenancepolicy.spec.podSelector").split())
    assert "The pods of the policy's namespace that are captured, by their labels." in said
    assert "matchExpressions <[]Object>" in said
