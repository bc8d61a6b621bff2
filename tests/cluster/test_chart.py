# SPDX-License-Identifier: Apache-2.0
"""The chart renders what it says, refuses what is wrong, and agrees with the programs it starts."""

import base64
import json
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from headwater_cli.embedded_nats.embedded import find_server
from headwater_operator.accounts.handover import Handover

from tests.cluster.control_plane import ROOT
from tests.cluster.helm import (
    CHART,
    CONFIGURATION,
    SYSTEM,
    VALUES,
    Helm,
    HelmError,
    Object,
    arguments,
    find,
    kinds,
    parse,
    templates,
    without_cluster,
)


@pytest.fixture(scope="module")
def helm(tmp_path_factory: pytest.TempPathFactory) -> Helm:
    return without_cluster(tmp_path_factory.mktemp("helm"))


@pytest.fixture(scope="module")
def plain(helm: Helm, handover: Path) -> list[Object]:
    """What a platform team gets that sets nothing but what it has to."""
    return helm.objects("--set-file", f"{CONFIGURATION}={handover}")


def test_there_are_enough_sets_of_values() -> None:
    assert len(VALUES) >= 12


@pytest.mark.parametrize("values", VALUES, ids=[one.stem for one in VALUES])
def test_lint_finds_nothing(helm: Helm, handover: Path, values: Path) -> None:
    said = helm.run("lint", "--strict", CHART, *arguments(values, handover))
    assert "0 chart(s) failed" in said and "WARNING" not in said and "ERROR" not in said


@pytest.mark.parametrize("values", VALUES, ids=[one.stem for one in VALUES])
def test_no_secret_is_in_a_config_map(helm: Helm, handover: Path, values: Path) -> None:
    """No key, no seed, no password; tokens of NATS are signed claims that everybody may see."""
    for one in helm.objects(*arguments(values, handover)):
        if one["kind"] == "ConfigMap":
            text = json.dumps(one)
            assert "PRIVATE KEY" not in text
            assert re.search(r"\bS[OAUN][A-Z2-7]{56}\b", text) is None
            assert re.search(r"password|secret_key", text, re.IGNORECASE) is None


@pytest.mark.parametrize("values", VALUES, ids=[one.stem for one in VALUES])
def test_two_renders_differ_in_certificates_only(helm: Helm, handover: Path, values: Path) -> None:
    first, second = (helm.objects(*arguments(values, handover)) for _ in range(2))
    for one in (*first, *second):
        if one["kind"] == "Secret" and one["type"] == "kubernetes.io/tls":
            one["data"] = {}
            one["metadata"]["annotations"].pop("headwater.dev/renew-after")
    assert first == second


REFUSED = {
    "nothing given": ([], r"nats\.bundled\.operatorConfiguration: is empty; .*headwater nats init"),
    "unknown": (["--set", "operater.replicas=2"], r"operater"),
    "unknown below": (["--set", "agent.privileged=true"], r"(?s)'?/agent'?.*privileged"),
    "wrong kind": (["--set", "operator.replicas=many"], r"/operator/replicas.*got string"),
    "two servers": (["--set", "nats.bundled.replicas=2"], r"/nats/bundled/replicas"),
    "a tag in it": (["--set", "agent.image.repository=a/b:c"], r"/agent/image/repository"),
    "digest": (["--set", "agent.image.digest=sha256:abc"], r"/agent/image/digest"),
    "clear": (
        ["--set", "nats.source=existing", "--set", "nats.existing.urls={nats://n:4222}"],
        r"/nats/existing/urls/0",
    ),
    "no address": (["--set", "nats.source=existing"], r"nats\.existing\.urls: is empty"),
    "no issuer": (
        ["--set", "certificates.source=cert-manager"],
        r"certificates\.issuer\.name: is empty",
    ),
    "no certificate": (
        ["--set", "certificates.source=existing"],
        r"certificates\.secrets\.\w+: name the Secret",
    ),
    "both": (
        ["--set", "nats.bundled.existingConfigMap.name=a"],
        r"existingConfigMap\.name: write one of them",
    ),
    "too much": (["--set", "agent.extraCapabilities={SYS_ADMIN}"], r"/agent/extraCapabilities/0"),
    "not a path": (["--set", "agent.stateDirectory=../x"], r"/agent/stateDirectory"),
    "a surge": (
        ["--set", "agent.updateStrategy.rollingUpdate.maxSurge=1"],
        r"(?s)/agent/updateStrategy.*maxSurge",
    ),
    "not a size": (["--set", "nats.bundled.storage.size=20GB"], r"/nats/bundled/storage/size"),
}


@pytest.mark.parametrize(("given", "said"), REFUSED.values(), ids=REFUSED.keys())
def test_wrong_value_is_refused_with_its_place(
    helm: Helm, handover: Path, given: list[str], said: str
) -> None:
    rest = ["--set-file", f"{CONFIGURATION}={handover}"] if given else []
    with pytest.raises(HelmError, match=said):
        helm.text(*given, *rest)


def test_seed_is_not_taken_for_a_configuration(helm: Helm, tmp_path: Path) -> None:
    """Somebody takes the wrong file of the directory: its content would be in a ConfigMap."""
    wrong = tmp_path / "operator.json"
    keys = Handover.create(tmp_path / "keys")
    seed = base64.b64decode(keys.secret(SYSTEM)["data"]["operator-signing.seed"]).decode()
    wrong.write_text(f"operator: x\nresolver: y\n# {seed}\n")
    with pytest.raises(HelmError, match="holds a seed") as refused:
        helm.text("--set-file", f"{CONFIGURATION}={wrong}")
    assert seed not in str(refused.value)
    with pytest.raises(HelmError, match=r"take the file nats-operator\.conf"):
        helm.text("--set", f"{CONFIGURATION}=something")


def test_every_value_is_in_the_schema_and_every_property_has_a_default() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    values = yaml.safe_load((CHART / "values.yaml").read_text())

    def compare(node: Any, value: Any, path: str) -> None:
        if "$ref" in node:
            node = schema["$defs"][node["$ref"].rpartition("/")[2]]
        if "properties" not in node or value == {}:  # a node may be anything of Kubernetes' own
            return
        assert node["additionalProperties"] is False, path
        names = node["properties"].keys() - ({"global"} if path == "values" else set())
        assert names == value.keys(), path
        for name in names:
            compare(node["properties"][name], value[name], f"{path}.{name}")

    compare(schema, values, "values")


def test_every_group_of_values_is_in_the_documents() -> None:
    page = (ROOT / "docs" / "operations" / "install.md").read_text()
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    for group, content in values.items():
        assert f"`{group}" in page, group
        if isinstance(content, dict):
            for name in content:
                assert f"`{group}.{name}" in page, f"{group}.{name}"


def test_definitions_are_those_of_crds(plain: list[Object]) -> None:
    rendered = {one["metadata"]["name"]: one for one in plain if "Definition" in one["kind"]}
    files = sorted((ROOT / "crds").glob("*.yaml"))
    assert len(files) == len(rendered) == 6
    for file in files:
        wanted = yaml.safe_load(file.read_text())
        found = rendered[wanted["metadata"]["name"]]
        assert found["metadata"].pop("annotations") == {"helm.sh/resource-policy": "keep"}
        assert found["metadata"].pop("labels")["app.kubernetes.io/managed-by"] == "Helm"
        assert found == wanted


def test_access_is_that_of_its_files_in_another_namespace(tmp_path: Path, handover: Path) -> None:
    helm = without_cluster(tmp_path, "provenance")
    found = helm.objects("--set-file", f"{CONFIGURATION}={handover}")
    for file in sorted((CHART / "access").glob("*.yaml")):
        for wanted in parse(file.read_text().replace(SYSTEM, "provenance")):
            one = find(found, wanted["kind"], wanted["metadata"]["name"])
            labels = one["metadata"].pop("labels")
            assert labels.items() >= wanted["metadata"].pop("labels", {}).items()
            assert one == wanted
    assert SYSTEM not in json.dumps(found)


def test_what_others_install_is_left_to_them(helm: Helm, handover: Path) -> None:
    """Then the chart is of one namespace, and an owner of that may install it."""
    values = ROOT / "tests/cluster/chart_values/others_install_the_rest.yaml"
    for one in helm.objects(*arguments(values, handover)):
        assert one["metadata"]["namespace"] == SYSTEM
        assert one["kind"] not in ("Role", "RoleBinding", "ServiceAccount")


def test_operator_may_read_the_secret_that_it_is_told_of(helm: Helm, handover: Path) -> None:
    objects = helm.objects(
        "--set-file", f"{CONFIGURATION}={handover}", "--set", "nats.existingSecret=other"
    )
    rules = find(objects, "Role", "headwater-operator")["rules"]
    assert any("other" in rule.get("resourceNames", ()) for rule in rules)
    assert not any("headwater-nats" in rule.get("resourceNames", ()) for rule in rules)


def test_agent_has_two_capabilities_and_writes_to_one_directory(plain: list[Object]) -> None:
    pod = find(plain, "DaemonSet", "headwater-agent")["spec"]["template"]["spec"]
    [agent] = pod["containers"]
    security = agent["securityContext"]
    assert security["capabilities"] == {"drop": ["ALL"], "add": ["BPF", "PERFMON"]}
    assert security["privileged"] is security["allowPrivilegeEscalation"] is False
    assert security["readOnlyRootFilesystem"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not {"hostPID", "hostNetwork", "hostIPC"} & pod.keys()
    on_node = {one["name"] for one in pod["volumes"] if "hostPath" in one}
    writable = {one["name"] for one in agent["volumeMounts"] if not one.get("readOnly")}
    assert writable & on_node == {"state"}
    assert pod["terminationGracePeriodSeconds"] == 60
    assert pod["priorityClassName"] == "system-node-critical"


def test_private_keys_are_mounted_where_they_are_served_only(plain: list[Object]) -> None:
    def keys(pod: Object) -> set[str]:
        return {
            one["secret"]["secretName"]
            for one in pod["spec"]["volumes"]
            if "secret" in one
            and one["secret"]["secretName"].endswith("-tls")
            and any(
                item["key"] == "tls.key"
                for item in one["secret"].get("items", [{"key": "tls.key"}])
            )
        }

    found = {kind: keys(pod) for kind, pod in templates(plain)}
    assert found == {
        "Deployment": {"headwater-operator-tls"},
        "StatefulSet": {"headwater-nats-tls"},
        "DaemonSet": set(),
        "Pod": set(),
    }


def test_images_are_as_given(helm: Helm, handover: Path) -> None:
    values = ROOT / "tests/cluster/chart_values/mirrored_images.yaml"
    objects = helm.objects(*arguments(values, handover))
    found = {kind: pod["spec"]["containers"][0]["image"] for kind, pod in templates(objects)}
    mirror = "registry.example.com:5000/mirror"
    digest = "0123456789abcdef" * 4
    assert found["Deployment"] == found["Pod"] == f"{mirror}/provenance/operator@sha256:{digest}"
    assert found["DaemonSet"] == f"{mirror}/provenance/agent:v1.2.3"
    assert found["StatefulSet"] == f"{mirror}/nats@sha256:{'fedcba9876543210' * 4}"
    for _, pod in templates(objects):
        assert pod["spec"]["imagePullSecrets"] == [{"name": "mirror"}]


def test_image_that_names_its_host_is_left_alone(helm: Helm, handover: Path) -> None:
    values = ROOT / "tests/cluster/chart_values/extras.yaml"
    found = {
        kind: pod["spec"]["containers"][0]["image"]
        for kind, pod in templates(helm.objects(*arguments(values, handover)))
    }
    assert found["StatefulSet"] == "images.example.com:5000/nats:2.15.1-alpine"
    assert found["DaemonSet"].startswith("registry.example.com/headwater-agent:")


def test_images_that_only_the_node_itself_has_are_left_alone(helm: Helm, handover: Path) -> None:
    """localhost is a host, as every runtime reads references, though it has no dot and no port."""
    given = ["--set-file", f"{CONFIGURATION}={handover}"]
    given += ["--set", "images.registry=registry.example.com"]
    given += ["--set", "nats.bundled.image.repository=localhost/headwater-nats"]
    found = {
        kind: pod["spec"]["containers"][0]["image"] for kind, pod in templates(helm.objects(*given))
    }
    assert found["StatefulSet"].startswith("localhost/headwater-nats:")
    assert found["DaemonSet"].startswith("registry.example.com/headwater-agent:")


def test_no_start_is_given_up_on_a_slow_node(helm: Helm, handover: Path) -> None:
    """Short of processor, the operator took more than the minute it was given, again and again."""
    objects = helm.objects("--set-file", f"{CONFIGURATION}={handover}")
    for kind, pod in templates(objects):
        for container in pod["spec"]["containers"] if kind != "Pod" else ():
            probe = container["startupProbe"]
            assert probe["periodSeconds"] * probe["failureThreshold"] >= 300, container["name"]


def test_nats_restarts_when_its_configuration_changes_and_not_otherwise(
    helm: Helm, handover: Path
) -> None:
    def template(*more: str) -> Object:
        objects = helm.objects("--set-file", f"{CONFIGURATION}={handover}", *more)
        found = find(objects, "StatefulSet", "headwater-nats")["spec"]["template"]
        assert isinstance(found, dict)
        return found

    before = template()
    assert template("--set", "operator.replicas=3") == before
    assert template("--set", "nats.bundled.maxPayload=8Mi") != before
    changed = handover.with_name("changed.conf")
    changed.write_text(handover.read_text() + "# a new key\n")
    assert template("--set-file", f"{CONFIGURATION}={changed}") != before


@pytest.mark.parametrize("replicas", [1, 3])
def test_nats_server_takes_its_configuration(
    helm: Helm, handover: Path, tmp_path: Path, replicas: int
) -> None:
    objects = helm.objects(
        "--set-file", f"{CONFIGURATION}={handover}", "--set", f"nats.bundled.replicas={replicas}"
    )
    (tmp_path / "operator").mkdir()
    (tmp_path / "tls").mkdir()
    data = find(objects, "ConfigMap", "headwater-nats")["data"]
    text = data["nats.conf"].replace("/etc/nats/", f"{tmp_path}/").replace("/data/", f"{tmp_path}/")
    (tmp_path / "nats.conf").write_text(text)
    accounts = data["nats-operator.conf"].replace("/data/", f"{tmp_path}/")
    (tmp_path / "operator" / "nats-operator.conf").write_text(accounts)
    for name, content in find(objects, "Secret", "headwater-nats-tls")["data"].items():
        (tmp_path / "tls" / name).write_bytes(base64.b64decode(content))
    done = subprocess.run(
        [str(find_server()), "-t", "--config", str(tmp_path / "nats.conf")],
        env={"POD_NAME": "headwater-nats-0"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert ("routes" in text) is (replicas == 3)


def test_metrics_that_are_alerted_on_and_shown_are_there() -> None:
    """A name that nobody exports would alert never, or always."""
    sources = [
        ROOT / "operator/headwater_operator/cluster/metrics.py",
        *sorted((ROOT / "node-agent/headwater_agent/cluster").glob("metrics.py")),
    ]
    exported = set(re.findall(r'"(headwater_\w+)"', "".join(one.read_text() for one in sources)))
    used: set[str] = set()
    for file in (CHART / "files" / "alerts.yaml", CHART / "files" / "dashboard.json"):
        used |= set(re.findall(r"\bheadwater_(?:agent|operator)_\w+", file.read_text()))
    assert len(used) > 15
    for name in used:
        assert {name, re.sub(r"_(total|bucket|info)$", "", name)} & exported, name


def test_alerts_say_what_to_do() -> None:
    groups = yaml.safe_load((CHART / "files" / "alerts.yaml").read_text())["groups"]
    alerts = [rule for group in groups for rule in group["rules"]]
    assert len({rule["alert"] for rule in alerts}) == len(alerts) >= 10
    for rule in alerts:
        assert rule["annotations"].keys() == {"summary", "description"}
        assert rule["labels"]["severity"] in ("critical", "warning")


def test_chart_is_of_the_version_of_the_programs() -> None:
    with (ROOT / "pyproject.toml").open("rb") as file:
        version = tomllib.load(file)["project"]["version"]
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["version"] == chart["appVersion"] == version


def test_package_is_the_chart(helm: Helm, handover: Path, tmp_path: Path) -> None:
    """What is sent around has the definitions in it, and no Python."""
    helm.run("package", CHART, "--destination", tmp_path)
    [package] = tmp_path.glob("headwater-*.tgz")
    rest = ("--set-file", f"{CONFIGURATION}={handover}")
    assert kinds(helm.objects(*rest, chart=package)) == kinds(helm.objects(*rest))
    names = subprocess.run(
        ["tar", "tzf", str(package)], capture_output=True, text=True, check=True
    ).stdout
    assert "headwater/definitions/provenancetenants.yaml" in names
    assert ".py\n" not in names.replace("files/verify.py\n", "")
