# SPDX-License-Identifier: Apache-2.0
"""What a person meets at the terminal: help, wrong words, broken input, documented statuses."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from headwater_cli.main import VERBS, headwater

GOOD = """{
 "prefix": {"hw": "https://headwater.dev/ns#", "cf": "http://www.camflow.org/ns#"},
 "activity": {"hw:taskAAAAAAAAAAAAAAAAAA.0":
   {"prov:type": {"$": "cf:task", "type": "xsd:QName"}, "cf:version": 0}},
 "entity": {"hw:fileAAAAAAAAAAAAAAAAAA.0":
   {"prov:type": {"$": "cf:file", "type": "xsd:QName"}, "cf:version": 0}}
}"""


def invoke(*words: str) -> Result:
    return CliRunner().invoke(headwater, list(words), prog_name="headwater")


def test_every_verb_is_listed_and_its_help_ends_in_examples() -> None:
    overview = invoke("--help").output
    for verb, summary in VERBS.items():
        assert f"{verb} " in overview
        assert summary in overview
        lines = invoke(verb, "--help").output.rstrip().splitlines()
        assert "Examples:" in lines
        examples = lines[lines.index("Examples:") + 1 :]
        assert examples
        assert all(
            (line.startswith("  ") and "headwater" in line) or "kill" in line for line in examples
        )


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["trcae", "--", "true"], "No such command"),
        (["trace"], "Missing argument"),
        (["trace", "--lable", "a=b", "--", "true"], "No such option"),
        (["trace", "--vm", "perhaps", "--", "true"], "perhaps"),
        (["serve"], "--policies"),
        (["run", "--", "true"], "--namespace"),
        (["run", "--namespace", "a", "--label", "nonsense", "--", "true"], "app=web"),
        (["run", "--namespace", "Not A Name", "--", "true"], "a-z, 0-9"),
        (["lineage", "report.csv"], "either --tenant or --input"),
        (["lineage", "--tenant", "t", "--input", "f", "report.csv"], "either --tenant or --input"),
    ],
)
def test_wrong_words_are_2_and_name_what_to_write(words: list[str], expected: str) -> None:
    result = invoke(*words)
    assert result.exit_code == 2
    assert expected in result.output


def test_trace_finds_out_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    missing = invoke("trace", "--", "no-such-command-here")
    assert missing.exit_code == 127
    assert "not found in PATH" in missing.output
    nowhere = invoke("trace", "--output", "no/such/dir/out.json", "--", "true")
    assert nowhere.exit_code == 125
    assert "mkdir -p" in nowhere.output
    assert list(tmp_path.iterdir()) == []


def test_trace_with_a_bad_policy_names_file_line_and_field(tmp_path: Path) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text(
        "apiVersion: headwater.dev/v1alpha1\nkind: ProvenancePolicy\n"
        "metadata: {name: p, namespace: n}\nspec:\n  podSelector: {}\n  argumnts: true\n"
    )
    result = invoke("trace", "--policy", str(policy), "--", "true")
    assert result.exit_code == 125
    assert f"{policy}:6" in result.output
    assert "argumnts" in result.output
    assert "arguments" in result.output


def test_trace_without_root_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    result = invoke("trace", "--", "true")
    assert result.exit_code == 125
    assert "needs root" in result.output
    assert "sudo" in result.output
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[1, 2]",
        '{"entity": {"x": 1}}',
        '{"used": {"hw:a.1.1": {}}}',
        "\x00\x01",
        GOOD[:-9],
    ],
)
def test_broken_prov_is_125_with_its_place(tmp_path: Path, content: str) -> None:
    broken = tmp_path / "broken.json"
    broken.write_text(content)
    result = invoke("lineage", "--input", str(broken), "report.csv")
    if content == "":
        assert result.exit_code in (1, 125)
        return
    assert result.exit_code == 125, result.output
    assert str(broken) in result.output


def test_lineage_of_an_unknown_path_is_1(tmp_path: Path) -> None:
    good = tmp_path / "good.json"
    good.write_text(GOOD)
    result = invoke("lineage", "--input", str(good), "report.csv")
    assert result.exit_code == 1
    assert "report.csv" in result.output
    absent = invoke("lineage", "--input", str(tmp_path / "none.json"), "report.csv")
    assert absent.exit_code == 125
    assert "cannot read" in absent.output


@pytest.mark.parametrize("verb", ["tail", "lineage"])
def test_no_server_says_how_to_start_one(tmp_path: Path, verb: str) -> None:
    words = [verb, "--tenant", "t", "--state", str(tmp_path)]
    result = invoke(*words, *(["x"] if verb == "lineage" else []))
    assert result.exit_code == 125
    assert "headwater serve --policies DIR" in result.output


def test_run_without_serve_does_not_run_the_command(tmp_path: Path) -> None:
    made = tmp_path / "made"
    result = subprocess.run(
        [
            *(sys.executable, "-m", "headwater_cli.main", "run", "--namespace", "n"),
            *("--state", str(tmp_path / "state"), "--", "touch", str(made)),
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 125
    assert "remedy" in result.stderr
    assert not made.exists()


def test_serve_refuses_bad_policies_and_a_state_open_to_others(tmp_path: Path) -> None:
    policies, state = tmp_path / "policies", tmp_path / "state"
    absent = invoke("serve", "--policies", str(policies), "--state", str(state))
    assert absent.exit_code == 125
    policies.mkdir()
    (policies / "bad.yaml").write_text("kind: Something\n")
    bad = invoke("serve", "--policies", str(policies), "--state", str(state))
    assert bad.exit_code == 125
    assert "bad.yaml:1" in bad.output
    (policies / "bad.yaml").unlink()
    state.mkdir(mode=0o755)
    state.chmod(0o755)
    opened = invoke("serve", "--policies", str(policies), "--state", str(state))
    assert opened.exit_code == 125
    assert "chmod 700" in opened.output


def test_doctor_says_the_same_in_words_and_in_json() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "headwater_cli.main", "doctor", "-o", "json"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    report = json.loads(result.stdout)
    possible = report["mode"] != "unsupported" and bool(report["cgroup2"])
    assert result.returncode == (0 if possible else 1)
    if not possible:
        assert report["findings"] or report["problem"]
        assert all(finding["remedy"] for finding in report["findings"])
