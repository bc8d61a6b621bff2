# SPDX-License-Identifier: Apache-2.0
"""The node's key: kept, owner-only, and refused rather than replaced."""

import json
import os
from pathlib import Path

import pytest
from headwater_agent.node_key import FILE_NAME, NodeKey, NodeKeyError
from headwater_prov.signing import is_signature


def test_it_is_made_once_and_owner_only(tmp_path: Path) -> None:
    first, second = NodeKey.load_or_create(tmp_path), NodeKey.load_or_create(tmp_path)
    assert first.public == second.public != NodeKey.generate().public
    assert is_signature(first.public, second.sign(b"text"), b"text")
    assert (tmp_path / FILE_NAME).stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == [FILE_NAME]


def test_its_secret_is_not_shown(tmp_path: Path) -> None:
    key = NodeKey.load_or_create(tmp_path)
    seed = json.loads((tmp_path / FILE_NAME).read_text())["seed"]
    assert seed not in repr(key) and seed not in str(key.__slots__)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o666])
def test_open_to_others_is_refused(tmp_path: Path, mode: int) -> None:
    NodeKey.load_or_create(tmp_path)
    (tmp_path / FILE_NAME).chmod(mode)
    with pytest.raises(NodeKeyError, match=f"others may read.*{mode:o}.*chmod 600"):
        NodeKey.load_or_create(tmp_path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "not JSON"),
        ("[]", "not a JSON object"),
        ("{}", "version"),
        ('{"version": 1}', "seed or public"),
        ('{"version": 1, "seed": "AAAA", "public": "AAAA"}', "32 bytes"),
        ('{"version": 1, "seed": 7, "public": "AAAA"}', "seed or public"),
    ],
)
def test_damaged_is_refused_and_left_alone(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / FILE_NAME
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(NodeKeyError, match=f"damaged.*{words}.*restore it from a copy"):
        NodeKey.load_or_create(tmp_path)
    assert path.read_text() == text


def test_a_flipped_letter_is_not_another_key(tmp_path: Path) -> None:
    NodeKey.load_or_create(tmp_path)
    path = tmp_path / FILE_NAME
    content = json.loads(path.read_text())
    seed = content["seed"]
    content["seed"] = ("A" if seed[0] != "A" else "B") + seed[1:]
    path.write_text(json.dumps(content))
    with pytest.raises(NodeKeyError, match="public: is not the seed's") as caught:
        NodeKey.load_or_create(tmp_path)
    assert seed[1:] not in str(caught.value)


def test_a_link_and_a_directory_are_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text("{}")
    (tmp_path / FILE_NAME).symlink_to("elsewhere")
    with pytest.raises(NodeKeyError, match="cannot be read"):
        NodeKey.load_or_create(tmp_path)
    (tmp_path / FILE_NAME).unlink()
    (tmp_path / FILE_NAME).mkdir()
    with pytest.raises(NodeKeyError, match=r"not a regular file|cannot be read"):
        NodeKey.load_or_create(tmp_path)


def test_a_directory_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(NodeKeyError, match=r"cannot be written.*choose another state directory"):
        NodeKey.load_or_create(tmp_path / "absent")
    assert not os.listdir(tmp_path)
