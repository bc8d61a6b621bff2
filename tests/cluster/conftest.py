# SPDX-License-Identifier: Apache-2.0
"""One control plane for the whole session; a namespace, and nodes, for each test."""

import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from headwater_cli.embedded_nats import EmbeddedNats
from headwater_operator.accounts.handover import Handover

from tests.cluster.control_plane import ROOT, Api, ControlPlane, wait_until
from tests.cluster.objects import create_node

CRDS = ROOT / "crds"


@pytest.fixture(scope="session")
def control_plane() -> Iterator[ControlPlane]:
    """etcd, API server and controller manager; without Headwater's definitions."""
    with ControlPlane() as control_plane:
        yield control_plane


@pytest.fixture(scope="session")
def api(control_plane: ControlPlane) -> Api:
    """The API as the administrator sees it."""
    return control_plane.api


@pytest.fixture(scope="session")
def definitions(control_plane: ControlPlane) -> str:
    """Headwater's kinds are served; returns what kubectl said when they were applied."""
    said = control_plane.kubectl("apply", "--warnings-as-errors", "-f", CRDS)
    control_plane.kubectl(
        "wait", "--for=condition=Established", "--timeout=20s", "--recursive=false", "-f", CRDS
    )
    return said


@pytest.fixture(scope="session")
def handover(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """nats-operator.conf as `headwater nats init` writes it."""
    directory = tmp_path_factory.mktemp("handover")
    path = directory / "nats-operator.conf"
    path.write_text(Handover.create(directory / "keys").server_configuration("/data/accounts"))
    return path


@pytest.fixture(scope="module")
def nats(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedNats]:
    """A real nats-server in JWT mode, without tenants yet."""
    with EmbeddedNats(tmp_path_factory.mktemp("nats") / "state") as nats:
        yield nats


@pytest.fixture
def namespace(api: Api) -> Iterator[str]:
    """A new namespace with its service account; it goes after the test, nobody waits for it."""
    name = f"test-{secrets.token_hex(4)}"
    api.create("/api/v1/namespaces", {"metadata": {"name": name}})
    account = f"/api/v1/namespaces/{name}/serviceaccounts/default"
    wait_until(
        lambda: api.exchange("GET", account).status == 200,
        what=f"namespace {name} has a service account",
    )
    yield name
    api.delete(f"/api/v1/namespaces/{name}")


@pytest.fixture
def new_node(api: Api) -> Iterator[Callable[..., dict[str, Any]]]:
    """Makes a node with a name of its own, as `objects.create_node`; it goes after the test."""
    made: list[str] = []

    def make(**options: Any) -> dict[str, Any]:
        made.append(options.pop("name", f"node-{secrets.token_hex(4)}"))
        return create_node(api, made[-1], **options)

    yield make
    for name in made:
        api.delete(f"/api/v1/nodes/{name}")
