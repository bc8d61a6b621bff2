# SPDX-License-Identifier: Apache-2.0
"""What the chart installs works together: NATS, operator, roles, certificates, the agents' token.

As far as it can without a kubelet: what Helm has put into the cluster is read from it again, the
programs are started as it says, and only addresses and paths are those of this machine.
"""

import base64
import contextlib
import json
import secrets
import socket
import ssl
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nkeys
import pytest
from headwater_cli.embedded_nats.embedded import find_server
from headwater_operator.accounts.handover import Handover

from tests.cluster.control_plane import Api, ControlPlane, wait_until
from tests.cluster.helm import CHART, CONFIGURATION, RELEASE, Helm
from tests.cluster.objects import create_node
from tests.cluster.operator_process import SYSTEM, TENANTS, OperatorProcess
from tests.cluster.servers import Server, free_ports

SCRIPT = CHART / "files" / "verify.py"
SMALL = {
    "nats.bundled.storage.maxFileStore": "256Mi",
    "operator.platformStream.bytes": "16Mi",
    "nats.checkIntervalSeconds": "1",
}


@dataclass(frozen=True)
class Installed:
    """What runs."""

    control_plane: ControlPlane
    operator: OperatorProcess
    directory: Path
    nats_port: int
    exchange_port: int

    @property
    def nats_authority(self) -> Path:
        return self.directory / "tls" / "ca.crt"

    @property
    def exchange_authority(self) -> Path:
        return self.directory / "operator-tls" / "ca.crt"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installed]:
    directory = tmp_path_factory.mktemp("installed")
    handover = Handover.create(directory / "keys")
    configuration = directory / "nats-operator.conf"
    configuration.write_text(handover.server_configuration("/data/accounts"))
    with contextlib.ExitStack() as stack:
        control_plane = stack.enter_context(ControlPlane(controllers=()))
        api = control_plane.api
        api.create("/api/v1/namespaces", {"metadata": {"name": SYSTEM}})
        api.create(f"/api/v1/namespaces/{SYSTEM}/secrets", handover.secret(SYSTEM))
        helm = Helm(directory / "helm", SYSTEM, control_plane.kubectl_environment())
        values = ",".join(f"{name}={value}" for name, value in SMALL.items())
        given = ("--set-file", f"{CONFIGURATION}={configuration}", "--set", values)
        said = helm.run("install", RELEASE, CHART, *given)
        assert "STILL TO DO" not in said
        nats_port, page_port, exchange_port = free_ports(3)

        # The files that kubelet would mount.
        mount_secret(api, "headwater-operator-tls", directory / "operator-tls")
        places = {"0.0.0.0:4222": nats_port, "127.0.0.1:8222": page_port}
        start_nats(stack, api, directory, "headwater-nats-0", places)
        wait_until(lambda: listens(nats_port), what="NATS listens")

        path = f"/apis/apps/v1/namespaces/{SYSTEM}/deployments/headwater-operator"
        [container] = api.get(path)["spec"]["template"]["spec"]["containers"]
        moved = [
            one.replace("/etc/headwater/tls", str(directory / "operator-tls")).replace(
                "/etc/headwater/nats-authority", str(directory / "tls")
            )
            for one in container["args"]
        ]
        here = [
            *("--listen", "127.0.0.1:0", "--log-format", "text"),
            *("--nats", f"tls://127.0.0.1:{nats_port}"),
            *("--exchange-listen", f"127.0.0.1:{exchange_port}"),
        ]
        operator = OperatorProcess(control_plane, directory / "operator.log", [*moved, *here])
        stack.callback(operator.kill)
        operator.start()
        operator.wait_ready()
        yield Installed(control_plane, operator, directory, nats_port, exchange_port)


def mount_secret(api: Api, name: str, directory: Path) -> None:
    """What kubelet would mount."""
    directory.mkdir()
    for file, content in api.get(f"/api/v1/namespaces/{SYSTEM}/secrets/{name}")["data"].items():
        (directory / file).write_bytes(base64.b64decode(content))


def start_nats(
    stack: contextlib.ExitStack, api: Api, directory: Path, pod: str, places: Mapping[str, int]
) -> None:
    """Start a server as its pod would: with what Helm has put into the cluster.

    Args:
        stack: ends it.
        api: where the configuration and the certificate are.
        directory: in the place of the pod's root directory.
        pod: name of the pod.
        places: ports on loopback in the place of the addresses that the chart writes.
    """
    directory.mkdir(exist_ok=True)
    mount_secret(api, "headwater-nats-tls", directory / "tls")
    data = api.get(f"/api/v1/namespaces/{SYSTEM}/configmaps/headwater-nats")["data"]
    text = data["nats.conf"].replace("$POD_NAME", pod).replace("/etc/nats/", f"{directory}/")
    text = text.replace("/data/", f"{directory}/data/").replace("/var/run/nats", str(directory))
    for address, port in places.items():
        assert address in text
        text = text.replace(address, f"127.0.0.1:{port}")
    (directory / "nats.conf").write_text(text)
    (directory / "operator").mkdir()
    accounts = data["nats-operator.conf"].replace("/data/", f"{directory}/data/")
    (directory / "operator" / "nats-operator.conf").write_text(accounts)
    server = Server(pod, directory, stack.enter_context(ThreadPoolExecutor(1, pod)))
    stack.callback(server.stop)
    server.start(find_server(), "--config", directory / "nats.conf")


def listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1.0):
        return True
    return False


def reason(installed: Installed, tenant: str) -> str:
    """Of the tenant's condition AccountReady."""
    body = installed.control_plane.api.get(f"{TENANTS}/{tenant}")
    found = body.get("status", {}).get("conditions", ())
    return "".join(one["reason"] for one in found if one["type"] == "AccountReady")


def test_tenant_gets_its_account(installed: Installed) -> None:
    """With the roles and admission policies that Helm has installed, over TLS."""
    installed.control_plane.api.create(
        TENANTS,
        {
            "apiVersion": "headwater.dev/v1alpha1",
            "kind": "ProvenanceTenant",
            "metadata": {"name": "acme"},
            "spec": {"namespaces": ["shop"], "quotas": {"streamBytes": "16Mi"}},
        },
    )
    try:
        wait_until(lambda: reason(installed, "acme") == "Ready", what="Ready", timeout_s=30.0)
    except TimeoutError as error:
        raise AssertionError(f"{error}\n{installed.operator.said()[-3000:]}") from None
    keys = installed.control_plane.api.get(
        f"/api/v1/namespaces/{SYSTEM}/secrets/headwater-tenant-keys"
    )
    assert len(base64.b64decode(keys["data"]["acme"])) == 32


def test_agent_exchanges_its_token(installed: Installed) -> None:
    """As from a pod on a node: by the account and the audience that the chart gives it."""
    api = installed.control_plane.api
    pod = api.get(f"/apis/apps/v1/namespaces/{SYSTEM}/daemonsets/headwater-agent")["spec"][
        "template"
    ]
    [audience] = [
        source["serviceAccountToken"]["audience"]
        for volume in pod["spec"]["volumes"]
        for source in volume.get("projected", {}).get("sources", ())
    ]
    node = f"node-{secrets.token_hex(4)}"
    create_node(api, node)
    account = pod["spec"]["serviceAccountName"]
    token = installed.control_plane.token(SYSTEM, account, node=node, audience=audience)
    pair = nkeys.from_seed(nkeys.encode_seed(secrets.token_bytes(32), nkeys.PREFIX_BYTE_USER))
    asked = urllib.request.Request(
        f"https://127.0.0.1:{installed.exchange_port}/v1/agent-token",
        json.dumps({"publicKey": bytes(pair.public_key).decode()}).encode(),
        {"Authorization": f"Bearer {token}"},
    )
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}),
        urllib.request.HTTPSHandler(context=strict(installed.exchange_authority)),
    )
    answers: list[bytes] = []

    def is_answered() -> bool:
        with contextlib.suppress(OSError), opener.open(asked, timeout=5) as answer:
            answers.append(answer.read())
        return bool(answers)

    wait_until(is_answered, what="the operator knows the node and gives its agent a token")
    assert json.loads(answers[0])["token"].count(".") == 2


def strict(authority: Path) -> ssl.SSLContext:
    """What Python asks of certificates from 3.13 on, and Go of all."""
    context = ssl.create_default_context(cafile=str(authority))
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    return context


def test_nats_shows_a_certificate_that_the_strict_take(installed: Installed) -> None:
    with socket.create_connection(("127.0.0.1", installed.nats_port), 5.0) as plain:
        assert plain.recv(65536).startswith(b"INFO ")
        context = strict(installed.nats_authority)
        # The way servers name each other, which a wildcard has to cover.
        name = f"headwater-nats-2.headwater-nats-headless.{SYSTEM}.svc"
        with context.wrap_socket(plain, server_hostname=name) as secured:
            shown: Any = secured.getpeercert()
    names = [value for _, value in shown["subjectAltName"]]
    assert f"headwater-nats.{SYSTEM}.svc" in names


def test_helm_test_finds_it_well_and_says_what_is_not(installed: Installed) -> None:
    """The script of `helm test`, which finds the same here as in its pod."""
    port = installed.operator.said().partition("on port ")[2].split()[0]

    def verify(pages_port: str, nats_ca: Path) -> subprocess.CompletedProcess[str]:
        where = [
            *(f"http://127.0.0.1:{pages_port}", f"127.0.0.1:{installed.exchange_port}"),
            *(str(installed.exchange_authority), f"127.0.0.1:{installed.nats_port}", str(nats_ca)),
        ]
        return subprocess.run(
            [sys.executable, "-I", str(SCRIPT), *where], capture_output=True, text=True, check=False
        )

    well = verify(port, installed.nats_authority)
    assert well.returncode == 0, well.stderr
    assert len(well.stdout.splitlines()) == 3
    # NATS' certificate is of another authority, and nobody answers for the operator.
    authority = installed.control_plane.admin_kubeconfig.parent / "ca.crt"
    ill = verify(str(free_ports(1)[0]), authority)
    assert ill.returncode == 1
    assert "certificate verify failed" in ill.stderr and "Connection refused" in ill.stderr
    assert len(ill.stdout.splitlines()) == 1


def test_three_servers_trust_each_other_and_nobody_else(
    installed: Installed, tmp_path: Path
) -> None:
    """Over routes that ask for certificates on both sides."""
    api = installed.control_plane.api
    helm = Helm(tmp_path / "helm", SYSTEM, installed.control_plane.kubectl_environment())
    helm.run("upgrade", RELEASE, CHART, "--reuse-values", "--set", "nats.bundled.replicas=3")
    names = [f"headwater-nats-{number}" for number in range(3)]
    routes = dict(zip(names, free_ports(3), strict=True))
    clients, pages = free_ports(3), free_ports(3)
    with contextlib.ExitStack() as stack:
        for name, client, page in zip(names, clients, pages, strict=True):
            places = {"0.0.0.0:4222": client, "127.0.0.1:8222": page, "0.0.0.0:6222": routes[name]}
            for other, port in routes.items():
                places[f"{other}.headwater-nats-headless.{SYSTEM}.svc:6222"] = port
            start_nats(stack, api, tmp_path / name, name, places)

        def others(page: int) -> set[str]:
            with contextlib.suppress(OSError):
                opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
                with opener.open(f"http://127.0.0.1:{page}/routez", timeout=5) as answer:
                    return {one["remote_name"] for one in json.load(answer).get("routes") or ()}
            return set()

        for name, page in zip(names, pages, strict=True):
            wait_until(
                lambda name=name, page=page: others(page) == set(names) - {name},  # type: ignore[misc]
                what=f"{name} has the other two",
            )

        def is_well(page: int) -> bool:
            """What the health command asks, and that there is a leader."""
            with contextlib.suppress(OSError):
                opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
                path = f"http://127.0.0.1:{page}/healthz"
                with opener.open(path, timeout=5) as answer:
                    return bool(json.load(answer)["status"] == "ok")
            return False

        for page in pages:
            wait_until(lambda page=page: is_well(page), what="JetStream has a leader")  # type: ignore[misc]
        # Who shows no certificate is no server. TLS 1.3 says so after the handshake.
        context = strict(installed.nats_authority)
        with (
            socket.create_connection(("127.0.0.1", routes[names[0]]), 5.0) as plain,
            pytest.raises((ssl.SSLError, ConnectionError)),
            context.wrap_socket(plain, server_hostname="127.0.0.1") as secured,
        ):
            secured.sendall(b"CONNECT {}\r\n")
            if not secured.recv(1):
                raise ConnectionError
