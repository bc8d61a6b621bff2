# SPDX-License-Identifier: Apache-2.0
"""Every document of the corpus gets its verdict; an invalid one exactly the messages beside it."""

from pathlib import Path

import pytest
from headwater_prov.policy import PolicyErrors, load_file

HERE = Path(__file__).parent
VALID = sorted((HERE / "valid").glob("*.yaml"))
INVALID = sorted((HERE / "invalid").glob("*.yaml"))


def messages_of(file: Path) -> list[str]:
    """The problems of a file as `line:column: field: message`."""
    with pytest.raises(PolicyErrors) as caught:
        load_file(file)
    prefix = str(file)
    lines = str(caught.value).splitlines()
    assert all(line.startswith(f"{prefix}:") for line in lines)
    return [line.removeprefix(f"{prefix}:").lstrip().replace(prefix, file.name) for line in lines]


def test_corpus_is_large_enough() -> None:
    assert len(VALID) >= 25
    assert len(INVALID) >= 50


@pytest.mark.parametrize("file", VALID, ids=lambda file: file.stem)
def test_valid_document_is_accepted(file: Path) -> None:
    loaded = load_file(file)
    assert loaded.policies or loaded.tenants


@pytest.mark.parametrize("file", INVALID, ids=lambda file: file.stem)
def test_invalid_document_is_refused_with_place_field_and_remedy(file: Path) -> None:
    assert messages_of(file) == file.with_suffix(".txt").read_text("utf-8").splitlines()


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
