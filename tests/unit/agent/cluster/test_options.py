# SPDX-License-Identifier: Apache-2.0
"""Options from flags and variables, and the page that lists them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from headwater_agent.cluster.configuration import FailureReason
from headwater_agent.cluster.options import ClusterOptions, parse
from headwater_agent.cluster.status import ConditionType

PAGE = Path(__file__).parents[4] / "docs" / "operations" / "agent.md"

LEAST = {
    "NODE_NAME": "n",
    "HEADWATER_NATS": "tls://a, tls://b",
    "HEADWATER_NATS_CREDENTIALS": "/c",
    "HEADWATER_TENANT_KEYS": "/k",
}


def test_variables_are_enough_and_flags_win() -> None:
    options = parse([], LEAST)
    assert options == ClusterOptions(
        "n", ("tls://a", "tls://b"), Path("/c"), Path("/k"), Path("/var/lib/headwater")
    )
    assert parse(["--state", "/s", "--kubeconfig", "/f"], LEAST | {"HEADWATER_STATE": "/t"}) == (
        ClusterOptions(
            "n",
            ("tls://a", "tls://b"),
            Path("/c"),
            Path("/k"),
            Path("/s"),
            kubeconfig=Path("/f"),
        )
    )


def test_page_lists_every_option_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parse(["--help"], {})
    assert ended.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    said = {
        (name, variable, default.strip("; "))
        for name, variable, default in re.findall(
            r"(--[a-z-]+) [A-Z]+ [^\[]*\[([A-Z_]+)(;[^\]]*)?\]", text
        )
    }
    rows = re.findall(
        r"^\| `(--[a-z-]+)` \| `([A-Z_]+)` \| (?:`([^`]*)`)? *\|", PAGE.read_text(), re.MULTILINE
    )
    assert said == set(rows)
    assert len(said) == 24


def test_page_explains_every_reason_and_condition() -> None:
    page = PAGE.read_text()
    for word in (*FailureReason, *ConditionType):
        assert f"`{word}`" in page


@pytest.mark.parametrize("text", ["1.5", "-1", "many", ""])
def test_bound_that_is_no_number_is_refused_by_name(
    text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        parse([f"--quarantine-seconds={text}"], LEAST)
    assert ended.value.code == 2
    assert "--quarantine-seconds" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"HEADWATER_NATS": "nats://nats.example"}, "--nats: nats://nats.example goes over"),
        ({"HEADWATER_OPERATOR": "http://operator"}, "--operator or --nats-credentials"),
        (
            {"HEADWATER_OPERATOR": "http://operator", "HEADWATER_NATS_CREDENTIALS": ""},
            "--operator: http://operator goes over",
        ),
        ({"HEADWATER_NATS_CREDENTIALS": ""}, "--operator or --nats-credentials"),
    ],
)
def test_tokens_and_records_do_not_travel_in_the_clear(
    changes: dict[str, str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        parse([], LEAST | changes)
    assert words in capsys.readouterr().err


def test_operator_is_enough_without_credentials() -> None:
    environment = {**LEAST, "HEADWATER_OPERATOR": "https://operator:8443"}
    del environment["HEADWATER_NATS_CREDENTIALS"]
    options = parse([], environment)
    assert options.nats_credentials is None
    assert str(options.operator_token) == "/var/run/secrets/headwater/token"


@pytest.mark.parametrize("text", ["0", "65535", "16777217", "2147483648"])
def test_a_ring_that_no_kernel_makes_is_refused_by_name(
    text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        parse([f"--ring-bytes={text}"], LEAST)
    assert ended.value.code == 2
    assert "--ring-bytes" in capsys.readouterr().err


def test_the_ring_is_as_large_as_is_asked() -> None:
    assert parse([], LEAST).ring_bytes == 16 << 20
    assert parse(["--ring-bytes=65536"], LEAST).ring_bytes == 65536


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--spool-bytes=1000"], "--spool-bytes: 1000 is not from 1048576 to"),
        (["--spool-total-bytes=1048576"], "--spool-bytes: 268435456 is not from 1048576 to"),
        (["--spool-seconds=x"], "--spool-seconds: x is no whole number"),
        (["--spool-policy=drop-all"], "drop-all is not drop-oldest or drop-newest"),
    ],
)
def test_a_spool_that_cannot_be_is_refused_by_name(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        parse(arguments, LEAST)
    assert ended.value.code == 2
    assert words in capsys.readouterr().err


def test_the_spool_is_as_it_was_asked_for() -> None:
    spool = parse(["--spool-seconds=60", "--spool-policy=drop-newest"], LEAST).spool
    assert (spool.max_age_s, spool.when_full) == (60.0, "drop-newest")
