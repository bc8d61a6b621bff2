# SPDX-License-Identifier: Apache-2.0
"""Operator and agent understand what the chart starts them with, and find it mounted."""

from pathlib import Path

import pytest
from headwater_agent.cluster import options as agent_options
from headwater_operator.cluster.main import lease_namespace, listen_address
from headwater_operator.cluster.main import parser as operator_parser
from headwater_operator.provisioning.options import exchange_settings, nats_settings

from tests.cluster.helm import (
    CONFIGURATION,
    SYSTEM,
    VALUES,
    Helm,
    Object,
    arguments,
    find,
    without_cluster,
)


@pytest.fixture(scope="module")
def helm(tmp_path_factory: pytest.TempPathFactory) -> Helm:
    return without_cluster(tmp_path_factory.mktemp("helm"))


def container(objects: list[Object], kind: str, name: str) -> Object:
    [found] = find(objects, kind, name)["spec"]["template"]["spec"]["containers"]
    assert isinstance(found, dict)
    return found


@pytest.mark.parametrize("values", VALUES, ids=[one.stem for one in VALUES])
def test_programs_understand_their_arguments(helm: Helm, handover: Path, values: Path) -> None:
    objects = helm.objects(*arguments(values, handover))
    operator = container(objects, "Deployment", "headwater-operator")
    given = operator_parser().parse_args(operator["args"])
    assert listen_address(given.listen)[1] == 8080
    for name in ("nats_ca", "exchange_certificate", "exchange_key"):
        if getattr(given, name) is not None:  # what the mounts have is another test's question
            setattr(given, name, Path("/dev/null"))
    nats = nats_settings(given, lease_namespace(SYSTEM))
    exchange = exchange_settings(given, lease_namespace(SYSTEM))
    assert nats is not None and exchange is not None
    assert all(server.startswith("tls://") for server in nats.servers)
    assert exchange.account == f"system:serviceaccount:{SYSTEM}:headwater-agent"
    agent = container(objects, "DaemonSet", "headwater-agent")
    chosen = agent_options.parse(agent["args"], {"NODE_NAME": "node-a"})
    assert chosen.nats_servers == nats.servers
    mounted = {one["mountPath"] for one in agent["volumeMounts"]}
    for path in (chosen.state, chosen.cgroup_root, chosen.machine_id_file, chosen.tenant_keys):
        assert str(path) in mounted
    assert chosen.runtime_state is None or str(chosen.runtime_state) in mounted


def test_token_of_the_agent_is_for_the_operator(helm: Helm, handover: Path) -> None:
    plain = helm.objects("--set-file", f"{CONFIGURATION}={handover}")
    operator = container(plain, "Deployment", "headwater-operator")
    pod = find(plain, "DaemonSet", "headwater-agent")["spec"]["template"]["spec"]
    [token] = [
        source["serviceAccountToken"]
        for volume in pod["volumes"]
        for source in volume.get("projected", {}).get("sources", ())
    ]
    assert f"--exchange-audience={token['audience']}" in operator["args"]
