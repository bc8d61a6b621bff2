# SPDX-License-Identifier: Apache-2.0
"""`headwater verify` at the terminal: statuses, words, files that are none."""

import json
import time
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from headwater_auditor import StoredMessage
from headwater_auditor.export import ExportHeader, ExportWriter
from headwater_cli.main import headwater

from tests.unit.auditor.simulated import OPERATOR, TENANT, Node, Stream

KEY = ("--operator-key", OPERATOR.public)


def invoke(*words: str) -> Result:
    return CliRunner().invoke(headwater, ["verify", *words], prog_name="headwater")


def export(
    path: Path, messages: list[StoredMessage], *, begin: bool = True, end: bool = True
) -> str:
    with open(path, "wb") as stream:
        writer = ExportWriter(stream, ExportHeader(TENANT, time.time_ns(), begin, end))
        for message in messages:
            writer.add(message)
        writer.finish()
    return str(path)


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Stream:
    stream, node = Stream(), Node(tmp_path_factory.mktemp("node"))
    node.run(stream, 11)
    node.run(stream, 11)
    return stream


def test_statuses_are_what_the_page_says(honest: Stream, tmp_path: Path) -> None:
    good = export(tmp_path / "good", honest.messages)
    assert invoke(*KEY, good).exit_code == 0
    assert invoke(good).exit_code == 3
    bad = export(tmp_path / "bad", honest.messages[:5] + honest.messages[6:])
    result = invoke(*KEY, bad)
    assert result.exit_code == 1
    assert "tenant shop: NOT INTACT" in result.stdout
    assert "1 messages are missing at position 6" in result.stdout
    assert "1-5, 7-13" in result.stdout


def test_json_says_the_same(honest: Stream, tmp_path: Path) -> None:
    bad = export(tmp_path / "bad", honest.messages[:5] + honest.messages[6:])
    result = invoke(*KEY, "--output", "json", bad)
    report = json.loads(result.stdout)
    assert result.exit_code == 1 and report["verdict"] == "tampered"
    [finding] = report["findings"]
    assert finding["kind"] == "dropped" and finding["positions"] == [6, 6]
    assert finding["messages"] == 1 and finding["node"] and finding["load"]
    assert report["chains"][0]["intact"] == [[1, 5], [7, 13]]
    assert report["delivered"] == 210


def test_parts_in_any_order_and_overlapping_are_one(honest: Stream, tmp_path: Path) -> None:
    later = export(tmp_path / "later", honest.messages[9:], begin=False)
    earlier = export(tmp_path / "earlier", honest.messages[:17], end=False)
    assert invoke(*KEY, later, earlier).exit_code == 0
    assert invoke(*KEY, earlier).exit_code == 0
    far = export(tmp_path / "far", honest.messages[18:], begin=False)
    assert invoke(*KEY, earlier, far).exit_code == 1


def test_a_checkpoint_is_kept_and_compared(honest: Stream, tmp_path: Path) -> None:
    memory = tmp_path / "memory"
    words = ("--save-checkpoint", str(memory), "--since-checkpoint", str(memory), *KEY)
    good = export(tmp_path / "good", honest.messages)
    assert invoke(*words, good).exit_code == 0
    kept = memory.read_bytes()
    cut = invoke(*words, export(tmp_path / "cut", honest.messages[:-4]))
    assert cut.exit_code == 1 and "truncated" in cut.stdout
    assert memory.read_bytes() == kept, "what was found bad must not be the measure of the next"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "not a line of an export"),
        (b"junk\n", ":1: not a line of an export"),
        (b"[]\n", "not a JSON object"),
        (b"{}\n", "format: missing"),
        (b'{"format": "headwater-export", "version": 2}\n', "version 1"),
    ],
)
def test_what_is_no_export_is_4(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "file").write_bytes(content)
    result = invoke(str(tmp_path / "file"))
    assert result.exit_code == 4
    assert words in result.output and "headwater verify --export FILE" in result.output


def test_an_export_that_was_cut_is_4(honest: Stream, tmp_path: Path) -> None:
    good = Path(export(tmp_path / "good", honest.messages))
    lines = good.read_bytes().splitlines(keepends=True)
    for damaged, words in (
        (lines[:-1], "the file ends before the export does"),
        (lines[:4] + lines[5:], "25 messages came before it"),
        ([*lines[:4], lines[4][:-40], *lines[5:]], ":5: not a line"),
        ([*lines, b"{}\n"], "messages came before it"),
        ([*lines[:2], lines[2].replace(b'"sequence":', b'"number":'), *lines[3:]], "sequence"),
    ):
        good.write_bytes(b"".join(damaged))
        result = invoke(*KEY, str(good))
        assert result.exit_code == 4 and words in result.output, (words, result.output)


def test_files_of_another_tenant_and_absent_ones_are_4(honest: Stream, tmp_path: Path) -> None:
    good = export(tmp_path / "good", honest.messages)
    other = invoke("--tenant", "zeta", good)
    assert other.exit_code == 4 and "of shop, not of tenant zeta" in other.output
    absent = invoke(str(tmp_path / "absent"))
    assert absent.exit_code == 4 and "cannot be read" in absent.output
    (tmp_path / "memory").write_text("{}")
    since = invoke("--since-checkpoint", str(tmp_path / "memory"), good)
    assert since.exit_code == 4 and "--save-checkpoint wrote" in since.output
    nothing = invoke("--since-checkpoint", str(tmp_path / "absent"), good)
    assert nothing.exit_code == 4


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], "give --tenant"),
        (["--tenant", "shop", "--from", "yesterday"], "--from"),
        (["--tenant", "shop", "--operator-key", "OABC"], "--operator-key"),
        (["--tenant", "shop", "--server", "nats://x"], "go together"),
        (["--export", "x", "file"], "not for FILES"),
        (["--tenant", "s", "--save-checkpoint", "x", "--to", "2026-01-01T00:00:00Z"], "no --to"),
    ],
)
def test_wrong_words_are_2(words: list[str], expected: str) -> None:
    result = invoke(*words)
    assert result.exit_code == 2 and expected in result.output


def test_no_server_says_how_to_start_one(tmp_path: Path) -> None:
    result = invoke("--tenant", "t", "--state", str(tmp_path))
    assert result.exit_code == 125 and "headwater serve --policies DIR" in result.output
