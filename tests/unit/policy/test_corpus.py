# SPDX-License-Identifier: Apache-2.0
"""Every document of the corpus gets its verdict; an invalid one exactly the messages beside it."""

from pathlib import Path

import pytest
from headwater_prov.policy import check_files
from headwater_prov.policy.schema import resource_kinds

HERE = Path(__file__).parent
VALID = sorted((HERE / "valid").glob("*.yaml"))
INVALID = sorted((HERE / "invalid").glob("*.yaml"))


def messages_of(file: Path) -> list[str]:
    """The problems of a file as `line:column: field: message`."""
    prefix = str(file)
    lines = [str(problem) for problem in check_files([file]).problems]
    assert all(line.startswith(f"{prefix}:") for line in lines)
    return [line.removeprefix(f"{prefix}:").lstrip().replace(prefix, file.name) for line in lines]


def test_corpus_is_large_enough() -> None:
    assert len(VALID) >= 40
    assert len(INVALID) >= 80
    for kind in resource_kinds():
        said = f"kind: {kind}\n".encode()
        assert any(said in file.read_bytes() for file in VALID), kind
        assert any(said in file.read_bytes() for file in INVALID), kind


@pytest.mark.parametrize("file", VALID, ids=lambda file: file.stem)
def test_valid_document_is_accepted(file: Path) -> None:
    checked = check_files([file])
    assert checked.problems == ()
    assert checked.documents


@pytest.mark.parametrize("file", INVALID, ids=lambda file: file.stem)
def test_invalid_document_is_refused_with_place_field_and_remedy(file: Path) -> None:
    messages = messages_of(file)
    assert messages
    assert messages == file.with_suffix(".txt").read_text("utf-8").splitlines()


@pytest.mark.parametrize("file", INVALID, ids=lambda file: file.stem)
def test_message_says_what_to_do_in_one_short_printable_line(file: Path) -> None:
    for message in messages_of(file):
        assert ";" in message or "did you mean" in message
        assert message.isprintable()
        assert len(message) < 400


def test_corpus_is_kept_byte_by_byte() -> None:
    """Line ends and byte order marks are what some documents are about (.gitattributes)."""
    assert b"\r\n" in (HERE / "valid" / "windows_line_ends.yaml").read_bytes()
    assert (HERE / "valid" / "byte_order_mark.yaml").read_bytes().startswith(b"\xef\xbb\xbf")
