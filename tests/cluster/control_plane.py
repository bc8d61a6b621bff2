# SPDX-License-Identifier: Apache-2.0
"""A real control plane on loopback: etcd, kube-apiserver, kube-controller-manager.

Why: what an API server does with our definitions, rules and roles is tested on the API server. It
has no scheduler and no kubelet: nodes and pods are objects that a test makes (`objects`). It starts
in some seconds, is deaf to the world outside 127.0.0.1, and ends with the process that started it.
Programs come from setup/control_plane.py. Called by the fixtures of conftest.py, by `python -m
tests.cluster`, and by benchmarks.
"""

import base64
import contextlib
import json
import os
import re
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any, Self

from headwater_agent.program_cache import cache_directory

from tests.cluster.api import Api, ApiError
from tests.cluster.certificates import Authority
from tests.cluster.servers import ROOT, Server, claim_state, free_ports, wait_until, wipe

CONTROLLERS = (
    "clusterrole-aggregation-controller",
    "garbage-collector-controller",
    "namespace-controller",
    "root-ca-certificate-publisher-controller",
    "serviceaccount-controller",
)
"""Those that act on what a test makes. The ones for nodes and pods would undo it: no kubelet. The
garbage collector looks for new kinds every half a minute, and knows nothing of them before."""

_PORT_TRIES = 3
_READY_TIMEOUT_S = 45.0
_KUBECTL_TIMEOUT_S = 30.0
_QUOTED_CHARACTERS = 2000


class ControlPlaneError(Exception):
    """The control plane cannot run; says why, and what to do."""


class KubectlError(Exception):
    """kubectl ended with a failure; the text is what it said."""


def programs() -> Path:
    """The directory of the programs that setup/control_plane.py built.

    Raises:
        ControlPlaneError: they are not there.
    """
    text = (ROOT / "setup" / "control_plane" / "go.mod").read_text("utf-8")
    version = re.search(r"^\s*k8s\.io/kubernetes (v\S+)", text, re.MULTILINE)
    assert version is not None
    directory = cache_directory() / "kubernetes" / version[1] / "bin"
    if not (directory / "kube-apiserver").is_file():
        raise ControlPlaneError(f"{directory} has no kube-apiserver; run make setup-test")
    return directory


class ControlPlane:
    """A control plane that runs until `stop`, or until this process ends in whatever way.

    Use it as a context manager, or call `start` and `stop`.
    """

    def __init__(
        self,
        *,
        controllers: Sequence[str] = CONTROLLERS,
        apiserver_options: Sequence[str] = (),
    ) -> None:
        """Describe it; nothing is touched yet.

        Args:
            controllers: what the controller manager runs; empty for none, which starts faster, but
                namespaces then never go and have no service account.
            apiserver_options: further options of the API server.
        """
        self._controllers = tuple(controllers)
        self._apiserver_options = tuple(apiserver_options)
        self._programs = Path()
        self._state = Path()
        self._lock: IO[bytes] | None = None
        self._spawner: ThreadPoolExecutor | None = None
        self._authority: Authority | None = None
        self._etcd_ports = (0, 0)
        self._apis: list[Api] = []
        self.port = 0
        """Of the API server, on 127.0.0.1; the same after `restart_apiserver`."""

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    # -- life ------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start everything and wait until it answers.

        Raises:
            ControlPlaneError: it does not come up; with the ends of the logs. Nothing is left.
        """
        self._programs = programs()
        self._state, self._lock = claim_state()
        try:
            self._spawner = ThreadPoolExecutor(1, "control-plane")
            self._etcd = Server("etcd", self._state, self._spawner)
            self._apiserver = Server("kube-apiserver", self._state, self._spawner)
            self._manager = Server("kube-controller-manager", self._state, self._spawner)
            self._issue_credentials()
            for attempt in range(1, _PORT_TRIES + 1):
                self.port, *rest = free_ports(3)
                self._etcd_ports = (rest[0], rest[1])
                try:
                    self._start_etcd()
                    self.start_apiserver()
                    break
                except ControlPlaneError:
                    # Between our look and the server's, somebody else may have taken a port.
                    taken = "address already in use"
                    is_taken = self._etcd.says(taken) or self._apiserver.says(taken)
                    if not is_taken or attempt == _PORT_TRIES:
                        raise
                    self._apiserver.stop()
                    self._etcd.stop()
            self.admin_kubeconfig = self._kubeconfig("admin", _certificate("admin"))
            self.api = self._new_api(certificate=self._certificate_files("admin"))
            if self._controllers:
                self._start_manager()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End everything, the API server before etcd: without it, it would linger on its port."""
        for api in self._apis:
            api.close()
        self._apis.clear()
        if self._spawner is not None:
            for server in (self._manager, self._apiserver, self._etcd):
                server.stop()
            self._spawner.shutdown()
            self._spawner = None
        if self._lock is not None:
            wipe(self._state, but=".log")
            self._lock.close()
            self._lock = None

    def restart_apiserver(self) -> None:
        """End the API server and start it again on its port: watches end, its caches are empty."""
        self.stop_apiserver()
        self.start_apiserver()

    def stop_apiserver(self) -> None:
        """End the API server as a power cut does; etcd stays, and what was written with it."""
        for api in self._apis:
            api.close()
        self._apiserver.stop()

    @contextlib.contextmanager
    def apiserver_away(self) -> Iterator[None]:
        """No API server inside; the next test has one again, whatever happens."""
        self.stop_apiserver()
        try:
            yield
        finally:
            self.start_apiserver()

    def start_apiserver(self) -> None:
        """Start the API server and wait until it is ready.

        Raises:
            ControlPlaneError: it does not become ready.
        """
        state = self._state
        self._apiserver.start(
            self._programs / "kube-apiserver",
            f"--etcd-servers=http://127.0.0.1:{self._etcd_ports[0]}",
            "--bind-address=127.0.0.1",
            f"--secure-port={self.port}",
            # Nobody reaches it by the `kubernetes` Service: there is no network for pods.
            "--advertise-address=127.0.0.1",
            "--endpoint-reconciler-type=none",
            "--service-cluster-ip-range=10.96.0.0/16",
            f"--client-ca-file={state / 'ca.crt'}",
            f"--tls-cert-file={state / 'apiserver.crt'}",
            f"--tls-private-key-file={state / 'apiserver.key'}",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={state / 'service-accounts.pub'}",
            f"--service-account-signing-key-file={state / 'service-accounts.key'}",
            "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction,ValidatingAdmissionPolicy",
            "--allow-privileged=true",
            "--shutdown-delay-duration=0s",
            *self._apiserver_options,
            append=True,
        )
        probe = Api(
            self.port,
            state / "ca.crt",
            certificate=self._certificate_files("admin"),
            timeout_s=2.0,
        )
        with contextlib.closing(probe):
            self._await(lambda: _is_ready(probe), self._etcd, self._apiserver)

    def _start_etcd(self) -> None:
        client, peer = (f"http://127.0.0.1:{port}" for port in self._etcd_ports)
        shutil.rmtree(self._state / "etcd", ignore_errors=True)
        self._etcd.start(
            self._programs / "etcd",
            f"--data-dir={self._state / 'etcd'}",
            "--unsafe-no-fsync",
            "--log-level=warn",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=default={peer}",
        )

    def _start_manager(self) -> None:
        self._manager.start(
            self._programs / "kube-controller-manager",
            f"--kubeconfig={self._kubeconfig('controller-manager', _certificate('manager'))}",
            f"--controllers={','.join(self._controllers)}",
            "--secure-port=0",
            "--leader-elect=false",
            "--use-service-account-credentials",
            f"--service-account-private-key-file={self._state / 'service-accounts.key'}",
            f"--root-ca-file={self._state / 'ca.crt'}",
        )
        if "serviceaccount-controller" in self._controllers:
            account = "/api/v1/namespaces/default/serviceaccounts/default"
            self._await(
                lambda: self.api.exchange("GET", account).status == 200,
                self._etcd,
                self._apiserver,
                self._manager,
            )

    def _await(self, condition: Callable[[], bool], *servers: Server) -> None:
        """Wait for `condition`; a server that ends meanwhile, or takes too long, is quoted."""
        began_s = time.monotonic()
        while True:
            dead = [server for server in servers if not server.is_running]
            if not dead and condition():
                return
            if dead or time.monotonic() - began_s > _READY_TIMEOUT_S:
                wrong = dead or servers
                what = "ended" if dead else f"not ready after {_READY_TIMEOUT_S:.0f} s"
                names = ", ".join(server.name for server in wrong)
                words = "\n".join(server.last_words() for server in wrong)
                raise ControlPlaneError(f"{names}: {what}; logs in {self._state}\n{words}")
            time.sleep(0.05)

    # -- identities ------------------------------------------------------------------------------

    def _issue_credentials(self) -> None:
        self._authority = authority = Authority(self._state)
        served = ("127.0.0.1", "10.96.0.1", "localhost", "kubernetes.default.svc")
        authority.issue("apiserver", "kube-apiserver", addresses=served)
        authority.issue("admin", "admin", "system:masters")
        authority.issue("manager", "system:kube-controller-manager")
        authority.key_pair("service-accounts")

    def token(
        self,
        namespace: str,
        service_account: str,
        *,
        node: str | None = None,
        pod: str | None = None,
        audience: str | None = None,
    ) -> str:
        """A service account's token, as the kubelet gets it for a pod.

        Args:
            namespace: the service account's.
            service_account: its name.
            node: bind the token to this node, whose name it then carries.
            pod: bind it to this pod, whose name and node's name it then carries.
            audience: who is to accept it; the API server unless given.

        Raises:
            ApiError: the service account, node or pod is not there.
        """
        spec: dict[str, Any] = {"expirationSeconds": 3600}
        if audience is not None:
            spec["audiences"] = [audience]
        if node is not None or pod is not None:
            assert node is None or pod is None, "a token is bound to one object"
            kind = "Node" if node is not None else "Pod"
            place = f"nodes/{node}" if node is not None else f"namespaces/{namespace}/pods/{pod}"
            uid = self.api.get(f"/api/v1/{place}")["metadata"]["uid"]
            bound = {"apiVersion": "v1", "kind": kind, "name": node or pod, "uid": uid}
            spec["boundObjectRef"] = bound
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{service_account}/token"
        answer = self.api.create(path, {"spec": spec})
        return str(answer["status"]["token"])

    def api_for_token(self, token: str) -> Api:
        """The API as the bearer of a token sees it; closed with the control plane."""
        return self._new_api(token=token)

    def api_for_user(self, user: str, *groups: str) -> Api:
        """The API as the holder of a client certificate sees it, for instance a kubelet's."""
        return self._new_api(certificate=self._certificate_files(self._issue(user, *groups)))

    def kubeconfig_for_token(self, token: str) -> Path:
        """A kubeconfig with a token; gone with the control plane."""
        name = f"token-{len(list(self._state.glob('token-*.kubeconfig')))}"
        return self._kubeconfig(name, f"token: {json.dumps(token)}")

    def kubeconfig_for_user(self, user: str, *groups: str) -> Path:
        """A kubeconfig with a client certificate; gone with the control plane."""
        name = self._issue(user, *groups)
        return self._kubeconfig(name, _certificate(name))

    def _issue(self, user: str, *groups: str) -> str:
        assert self._authority is not None
        name = f"user-{len(list(self._state.glob('user-*.crt')))}"
        self._authority.issue(name, user, *groups)
        return name

    def _certificate_files(self, name: str) -> tuple[Path, Path]:
        return self._state / f"{name}.crt", self._state / f"{name}.key"

    def _new_api(self, *, certificate: tuple[Path, Path] | None = None, token: str = "") -> Api:
        api = Api(self.port, self._state / "ca.crt", certificate=certificate, token=token)
        self._apis.append(api)
        return api

    def _kubeconfig(self, name: str, user: str) -> Path:
        # Paths in a kubeconfig are resolved against its own directory.
        path = self._state / f"{name}.kubeconfig"
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with open(descriptor, "w", encoding="utf-8") as stream:
            stream.write(
                "apiVersion: v1\nkind: Config\nclusters:\n"
                f'- {{name: tests, cluster: {{server: "https://127.0.0.1:{self.port}", '
                "certificate-authority: ca.crt}}\n"
                f"users:\n- {{name: me, user: {{{user}}}}}\n"
                "contexts:\n- {name: tests, context: {cluster: tests, user: me}}\n"
                "current-context: tests\n"
            )
        return path

    # -- what a test does to it ------------------------------------------------------------------

    @property
    def pids(self) -> dict[str, int]:
        """Process ids of what runs, by name: what it takes is read from /proc."""
        servers = (self._etcd, self._apiserver, self._manager)
        return {server.name: server.pid for server in servers if server.is_running}

    def stored(self, prefix: str) -> int:
        """Bytes that etcd has of the objects whose keys begin so, without the keys."""
        start = prefix.encode()
        end = start[:-1] + bytes([start[-1] + 1])
        asked = {"key": _base64(start), "range_end": _base64(end)}
        found = self._ask_etcd("kv/range", asked).get("kvs", ())
        return sum(len(base64.b64decode(one["value"])) for one in found)

    def kubectl(
        self,
        *arguments: str | Path,
        stdin: str | None = None,
        kubeconfig: Path | None = None,
        timeout_s: float = _KUBECTL_TIMEOUT_S,
    ) -> str:
        """Run kubectl and return what it printed.

        Args:
            arguments: of kubectl.
            stdin: what it reads, for instance with `-f -`.
            kubeconfig: whose identity it has; the administrator's unless given.
            timeout_s: how long it may take.

        Raises:
            KubectlError: it failed; with what it said.
            subprocess.TimeoutExpired: it did not end.
        """
        command = [self._programs / "kubectl", *arguments]
        done = subprocess.run(
            [str(word) for word in command],
            input=stdin,
            capture_output=True,
            text=True,
            cwd=ROOT,
            env=self.kubectl_environment(kubeconfig),
            timeout=timeout_s,
            check=False,
        )
        if done.returncode != 0:
            said = done.stderr.strip()[-_QUOTED_CHARACTERS:]
            raise KubectlError(f"kubectl {' '.join(map(str, arguments))}: {said}")
        return done.stdout

    def kubectl_environment(self, kubeconfig: Path | None = None) -> dict[str, str]:
        """The environment in which kubectl, and any other client, finds this control plane."""
        return {
            **os.environ,
            "KUBECONFIG": str(kubeconfig or self.admin_kubeconfig),
            "KUBECACHEDIR": str(self._state / "kubectl"),
            "NO_PROXY": "127.0.0.1",
            "no_proxy": "127.0.0.1",
            "PATH": f"{self._programs}:{os.environ.get('PATH', '')}",
        }

    def compact_etcd(self) -> int:
        """Forget all but the latest version of every object; returns the revision it is at.

        What the API server has in memory it still serves: lists and watches from before answer 410
        only when it has been restarted since their time.
        """
        header = self._ask_etcd("kv/range", {"key": "AA=="})["header"]
        revision = int(header["revision"])
        self._ask_etcd("kv/compaction", {"revision": str(revision), "physical": True})
        return revision

    def _ask_etcd(self, what: str, body: dict[str, Any]) -> dict[str, Any]:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self._etcd_ports[0]}/v3/{what}", json.dumps(body).encode()
        )
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=10) as response:
            answer: dict[str, Any] = json.load(response)
        return answer


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _certificate(name: str) -> str:
    return f"client-certificate: {name}.crt, client-key: {name}.key"


def _is_ready(api: Api) -> bool:
    try:
        return not api.exchange("GET", "/readyz").is_refusal
    except OSError:
        return False


__all__ = [
    "ROOT",
    "Api",
    "ApiError",
    "ControlPlane",
    "ControlPlaneError",
    "KubectlError",
    "programs",
    "wait_until",
]
