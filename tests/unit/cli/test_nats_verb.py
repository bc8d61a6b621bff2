# SPDX-License-Identifier: Apache-2.0
"""`headwater nats`: keys stay, three texts leave, and no secret is where it should not be."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from headwater_cli.main import headwater
from headwater_operator.accounts import claims


def invoke(*words: object) -> Result:
    return CliRunner().invoke(headwater, ["nats", *map(str, words)], prog_name="headwater")


def handed_over(directory: Path) -> tuple[dict[str, str], dict[str, Any]]:
    """The Secret's data, and what the servers are told of the operator."""
    secret = json.loads((directory / "headwater-nats.secret.json").read_text())
    text = (directory / "nats-operator.conf").read_text()
    token = next(line.split()[1] for line in text.splitlines() if line.startswith("operator:"))
    found = claims.read(token)
    assert found is not None
    data = {key: base64.b64decode(value).decode() for key, value in secret["data"].items()}
    return data, dict(found.body)


def test_keys_are_made_once_and_only_their_owner_reads_them(tmp_path: Path) -> None:
    directory = tmp_path / "keys"
    result = invoke("init", directory, "--namespace", "hw", "--accounts", "/var/accounts")
    assert result.exit_code == 0, result.stderr
    assert result.stdout.splitlines() == [
        str(directory / "headwater-nats.secret.json"),
        str(directory / "nats-operator.conf"),
    ]
    assert {path.stat().st_mode & 0o777 for path in directory.iterdir()} == {0o600}
    kept = json.loads((directory / "operator.json").read_text())
    secret = (directory / "headwater-nats.secret.json").read_text()
    data, body = handed_over(directory)
    assert kept["identity"] not in (*data.values(), secret)
    configuration = (directory / "nats-operator.conf").read_text()
    for seed in (kept["identity"], kept["system_account"], *kept["signing"]):
        assert seed not in configuration
    assert 'dir: "/var/accounts"' in configuration and "allow_delete: true" in configuration
    assert json.loads(secret)["metadata"] == {"name": "headwater-nats", "namespace": "hw"}
    assert body["strict_signing_key_usage"] is True
    again = invoke("init", directory)
    assert again.exit_code == 125 and "has keys already" in again.stderr


@pytest.mark.parametrize("key", ["operator", "system"])
def test_key_is_replaced_in_two_steps(tmp_path: Path, key: str) -> None:
    directory = tmp_path / "keys"
    assert invoke("init", directory).exit_code == 0
    first, _ = handed_over(directory)
    field = "operator-signing.seed" if key == "operator" else "system-signing.seed"
    assert invoke("replace", directory, key).exit_code == 0
    second, between = handed_over(directory)
    assert first[field] != second[field]
    assert {name for name in first if first[name] != second[name]} == {field}
    assert len(between["signing_keys"]) == (2 if key == "operator" else 1)
    retired = invoke("retire", directory, key)
    assert retired.exit_code == 0 and "1 older keys are given up" in retired.stderr
    third, after = handed_over(directory)
    assert third == second and len(after["signing_keys"]) == 1


def test_directory_without_keys_is_said_with_the_remedy(tmp_path: Path) -> None:
    result = invoke("replace", tmp_path / "none", "operator")
    assert result.exit_code == 125
    assert "there are no keys" in result.stderr and "headwater nats init" in result.stderr
