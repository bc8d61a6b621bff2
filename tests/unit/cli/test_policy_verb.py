# SPDX-License-Identifier: Apache-2.0
"""`headwater policy` as a person and a script meet it: lines, streams, statuses."""

from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from headwater_cli.main import headwater

ROOT = Path(__file__).parents[3]
CORPUS = ROOT / "tests" / "unit" / "policy"
CONFIGURATION = ROOT / "examples" / "camflow.ini"


def invoke(*words: object) -> Result:
    arguments = ["policy", *map(str, words)]
    return CliRunner().invoke(headwater, arguments, prog_name="headwater")


def test_good_files_are_0_and_silent_on_standard_output() -> None:
    result = invoke(
        "check", ROOT / "examples" / "policies", CORPUS / "valid" / "auditor_smallest.yaml"
    )
    assert result.exit_code == 0
    assert result.stdout == ""
    assert "nothing is wrong" in result.stderr


def test_every_problem_is_a_line_and_1(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_bytes((CORPUS / "invalid" / "track_beside_all.yaml").read_bytes())
    (tmp_path / "b.yml").write_bytes((CORPUS / "invalid" / "node_set_is_no_hash.yaml").read_bytes())
    result = invoke("check", tmp_path)
    assert result.exit_code == 1
    first, second = result.stdout.splitlines()
    assert first.startswith(f"{tmp_path}/a.yaml:8:10: spec.track: is given")
    assert second.startswith(f'{tmp_path}/b.yml:6:16: spec.policySets[0]: "shop" is not a SHA-256')
    assert result.stderr == "headwater: 2 problems in 2 documents in 2 files\n"


@pytest.mark.parametrize("file", sorted(CORPUS.glob("valid/*.yaml")), ids=lambda file: file.stem)
def test_kinds_of_a_cluster_are_judged_too(file: Path) -> None:
    assert invoke("check", file).exit_code == 0


def test_file_named_twice_is_judged_once() -> None:
    file = CORPUS / "valid" / "tenant.yaml"
    assert "1 document in 1 file:" in invoke("check", file, file).stderr


def test_problems_between_files_are_found(tmp_path: Path) -> None:
    content = (CORPUS / "valid" / "cluster_policy_everywhere.yaml").read_bytes()
    for name in ("a.yaml", "b.yaml"):
        (tmp_path / name).write_bytes(content)
    result = invoke("check", tmp_path / "b.yaml", tmp_path / "a.yaml")
    assert result.exit_code == 1
    assert "ClusterProvenancePolicy all is already written at" in result.stdout


def test_missing_file_is_a_problem(tmp_path: Path) -> None:
    result = invoke("check", tmp_path / "none.yaml")
    assert result.exit_code == 1
    assert "none.yaml: cannot be read: No such file or directory; correct the path" in result.stdout


def test_no_file_is_2() -> None:
    assert invoke("check").exit_code == 2


def test_import_writes_what_check_accepts(tmp_path: Path) -> None:
    result = invoke("import", "--name", "as-before", "--namespace", "shop", CONFIGURATION)
    assert result.exit_code == 0
    policy = tmp_path / "policy.yaml"
    policy.write_text(result.stdout)
    assert "relations: [sh_read, sh_write]" in result.stdout
    assert invoke("check", policy).exit_code == 0
    assert [line.partition(": ")[2].partition(":")[0] for line in result.stderr.splitlines()] == [
        "[provenance] machine_id=0",
        "[file] opaque=/usr/bin/bash",
        "[ipv4-egress] record=10.0.0.0/8",
    ]
    assert result.stderr.startswith(f"{CONFIGURATION}:4:1: ")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"kind: ProvenancePolicy\n", ":1: "),
        (b"[provenance]\nenabled\n", ":2: "),
        (b"[general]\nformat=w3c\n", "name CamFlow's, camflow.ini"),
        (b"\xff\xfe[\x00", "save it as UTF-8"),
        (b"x" * (1024**2 + 1), "is larger than"),
    ],
)
def test_other_file_is_125_and_writes_nothing(content: bytes, message: str, tmp_path: Path) -> None:
    file = tmp_path / "camflow.ini"
    file.write_bytes(content)
    result = invoke("import", file)
    assert result.exit_code == 125
    assert message in result.stderr
    assert result.stdout == ""


def test_missing_configuration_is_125_with_a_remedy(tmp_path: Path) -> None:
    result = invoke("import", tmp_path / "camflow.ini")
    assert result.exit_code == 125
    assert "No such file" in result.stderr
    assert "remedy:" in result.stderr


@pytest.mark.parametrize("option", ["--name", "--namespace"])
def test_name_that_no_policy_can_have_is_2(option: str) -> None:
    assert invoke("import", option, "As_Before", CONFIGURATION).exit_code == 2
