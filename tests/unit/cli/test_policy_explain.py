# SPDX-License-Identifier: Apache-2.0
"""`headwater policy explain`: what policies mean, in the words a reviewer reads."""

from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from headwater_cli.main import headwater

SET = """\
apiVersion: headwater.dev/v1alpha1
kind: ProvenanceTenant
metadata: {name: acme}
spec: {namespaces: [shop]}
---
apiVersion: headwater.dev/v1alpha1
kind: ProvenancePolicy
metadata: {name: all, namespace: shop}
spec:
  podSelector: {}
  filters: {nodes: [], relations: [read, perm_check]}
---
apiVersion: headwater.dev/v1alpha1
kind: ProvenancePolicy
metadata: {name: web, namespace: shop}
spec:
  podSelector:
    matchLabels: {app: web}
    matchExpressions:
      - {key: stage, operator: In, values: [canary, production]}
      - {key: region, operator: NotIn, values: [lab]}
      - {key: owner, operator: Exists}
      - {key: debug, operator: DoesNotExist}
  filters: {nodes: [], relations: [perm_check, write]}
  arguments: false
  rateLimit: {recordsPerSecond: 5000}
  capture: selective
  track: [{executable: /usr/sbin/nginx}, {executable: /opt/**}]
  opaque: [{executable: /bin/true}]
---
apiVersion: headwater.dev/v1alpha1
kind: ProvenancePolicy
metadata: {name: resting, namespace: elsewhere}
spec: {podSelector: {}, suspend: true}
"""


def explain(*words: object) -> Result:
    arguments = ["policy", "explain", *map(str, words)]
    return CliRunner().invoke(headwater, arguments, prog_name="headwater")


@pytest.fixture
def policies(tmp_path: Path) -> Path:
    path = tmp_path / "policies.yaml"
    path.write_text(SET)
    return path


def section(output: str, head: str) -> list[str]:
    """The lines under a policy's own."""
    lines = output.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith(head))
    end = next(
        (i for i in range(start + 1, len(lines)) if not lines[i].startswith(" ")), len(lines)
    )
    return lines[start:end]


def test_each_policy_says_whose_pods_and_what_it_leaves_out(policies: Path) -> None:
    result = explain(policies)
    assert result.exit_code == 0, result.output
    everything = section(result.stdout, "shop/all: pods of namespace shop, all of them")
    assert "  leaves out  relations: env, read, perm_check" in everything
    assert "  arguments   recorded" in everything
    assert "  environment not recorded" in everything
    assert "              of either up to 4096 bytes of a program" in everything
    assert any(
        line.startswith("  takes out   values of names like *TOKEN*,") for line in everything
    )
    assert any(line.endswith("(builtin-url)") for line in everything)
    web = section(result.stdout, "shop/web")
    assert web[0].endswith(
        "with app = web and stage in (canary, production) and region not in (lab)"
        " and a label owner and no label debug"
    )
    assert "  arguments   not recorded" in web
    assert not any("takes out" in line for line in web)
    assert "  at most     5000 records a second on each node" in web
    tracked = "only what executes /opt/**, /usr/sbin/nginx, and its children"
    assert f"  processes   {tracked}; not what executes /bin/true" in web
    assert "nothing: suspended" in section(result.stdout, "elsewhere/resting")[1]


def test_hash_is_what_nodes_are_told(policies: Path) -> None:
    """Two policies that mean the same have one hash, another has another."""
    same = policies.with_name("same.yaml")
    same.write_text(SET.replace("[read, perm_check]", "[perm_check, read]"))
    other = policies.with_name("other.yaml")
    other.write_text(SET.replace("[read, perm_check]", "[perm_check]"))
    hashes = [section(explain(path).stdout, "shop/all")[-1] for path in (policies, same, other)]
    assert hashes[0].split() == hashes[1].split()
    assert hashes[0] != hashes[2]


def test_a_pod_has_what_all_its_policies_leave_out_in_common(policies: Path) -> None:
    labels = ["app=web", "stage=canary", "owner=x"]
    words = [word for label in labels for word in ("--label", label)]
    result = explain(policies, "--namespace", "shop", *words)
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("selected by all, web; goes to tenant acme\n")
    assert "  leaves out  relations: env, perm_check\n" in result.stdout
    assert "at most" not in result.stdout
    alone = explain(policies, "--namespace", "shop")
    assert alone.stdout.startswith("selected by all; goes to tenant acme\n")
    assert "relations: env, read, perm_check\n" in alone.stdout


def test_pod_that_no_policy_selects_is_1(policies: Path) -> None:
    result = explain(policies, "--namespace", "another")
    assert result.exit_code == 1
    assert "no policy selects such a pod" in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--label", "app=web"), "--label needs the pod's --namespace"),
        (("--namespace", "shop", "--label", "app"), '"app" is not KEY=VALUE'),
    ],
)
def test_wrong_words_are_2(policies: Path, words: tuple[str, ...], said: str) -> None:
    result = explain(policies, *words)
    assert result.exit_code == 2
    assert said in result.stderr


def test_what_cannot_be_read_is_125(tmp_path: Path) -> None:
    broken = tmp_path / "broken.yaml"
    broken.write_text(SET.replace("podSelector: {}", "podSelektor: {}", 1))
    result = explain(broken)
    assert result.exit_code == 125
    assert "podSelektor" in result.stderr
    absent = explain(tmp_path / "none.yaml")
    assert absent.exit_code == 125
    assert "No such file or directory" in absent.stderr


def test_directory_is_all_its_files(policies: Path) -> None:
    assert explain(policies.parent).stdout == explain(policies).stdout
