# SPDX-License-Identifier: Apache-2.0
"""What pages tell a reader to type: verbs, options, values, files and targets are there."""

import itertools
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from headwater_cli.main import headwater

ROOT = Path(__file__).resolve().parents[3]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```sh\n(.*?)^```", re.MULTILINE | re.DOTALL)


def commands() -> Iterator[tuple[str, list[str]]]:
    """Every command of a shell block, as its page and its words."""
    for page in PAGES:
        for block in BLOCK.findall(page.read_text("utf-8")):
            for line in block.replace("\\\n", " ").splitlines():
                words = shlex.split(line, comments=True)
                for each in split(words, {"&&", "|", ";"}):
                    if ">" in each:
                        each = each[: each.index(">")]
                    if each:
                        yield page.name, each


def split(words: list[str], separators: set[str]) -> Iterator[list[str]]:
    part: list[str] = []
    for word in words:
        if word in separators:
            yield part
            part = []
        else:
            part.append(word)
    yield part


def own(words: list[str]) -> list[str] | None:
    """The words after our program's name, None if it is another program."""
    if words[0].endswith("headwater") and "=" not in words[0]:
        return words[1:]
    return words[2:] if words[:2] == ["kubectl", "headwater"] else None


COMMANDS = list(commands())
OURS = [(page, rest) for page, words in COMMANDS if (rest := own(words)) is not None]
HELM = [(page, words) for page, words in COMMANDS if words[0] == "helm"]


def test_there_are_many() -> None:
    assert len(OURS) > 25
    assert len(HELM) > 4
    assert {"getting-started.md", "tenant-guide.md", "troubleshooting.md"} <= {
        page for page, _ in OURS
    }


@pytest.mark.parametrize(("page", "words"), OURS, ids=lambda one: " ".join(one)[:60])
def test_our_program_takes_it(page: str, words: list[str]) -> None:
    """Parsed as the program would, but for whether files are there; nothing is run."""
    context: click.Context | None = click.Context(headwater, info_name="headwater")
    command: click.Command = headwater
    while isinstance(command, click.Group):
        assert words, f"{page}: a verb is missing"
        found = command.get_command(context, words[0])  # type: ignore[arg-type]
        assert found is not None, f'{page}: there is no verb "{words[0]}"'
        command, words = found, words[1:]
    parser = command.make_parser(click.Context(command, info_name=command.name))
    _, rest, _ = parser.parse_args(list(words))
    assert not [word for word in rest if word.startswith("--")] or "--" in words


@pytest.mark.parametrize(("page", "words"), HELM, ids=lambda one: " ".join(one)[:60])
def test_values_of_helm_are_there(page: str, words: list[str]) -> None:
    values: Any = yaml.safe_load((ROOT / "charts" / "headwater" / "values.yaml").read_text("utf-8"))
    for option, value in itertools.pairwise(words):
        if option in ("--set", "--set-file"):
            place = values
            for name in value.partition("=")[0].split("."):
                assert name in place, f"{page}: no value {value.partition('=')[0]}"
                place = place[name]
    for word in words:
        if word.startswith("charts/"):
            assert (ROOT / word).is_dir()


def test_targets_and_modules_are_there() -> None:
    targets = set(
        re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    )
    for page, words in COMMANDS:
        if words[0] == "make":
            named = {word for word in words[1:] if "=" not in word}
            assert named <= targets, f"{page}: {' '.join(words)}"


def test_kinds_that_kubectl_is_asked_for() -> None:
    """A misspelt kind of ours in a command is found by its page."""
    plurals = {path.stem for path in (ROOT / "crds").glob("*.yaml")}
    known = plurals | {name.removesuffix("s").removesuffix("ie") for name in plurals}
    known |= {"provenancepolicy", "clusterprovenancepolicy"}
    found = set()
    for page, words in COMMANDS:
        for word in words[1:] if words[0] == "kubectl" else []:
            for name in re.findall(r"^[a-z,]*provenance[a-z,]*", word):
                for kind in name.split(","):
                    found.add(kind)
                    assert kind in known, f"{page}: {kind}"
    assert len(found) > 4
