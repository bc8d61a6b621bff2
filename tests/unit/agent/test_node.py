# SPDX-License-Identifier: Apache-2.0
"""Who the node is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from headwater_agent.batch import machine_attributes
from headwater_agent.node import NodeIdentity, NodeIdentityError


def identity(machine_id: Path, boot_id: Path) -> NodeIdentity:
    return NodeIdentity.of_host(
        b"8 bytes!", "lsm", machine_id_path=machine_id, boot_id_path=boot_id
    )


def test_ids_are_read_in_both_spellings(tmp_path: Path) -> None:
    (tmp_path / "machine").write_text("000102030405060708090a0b0c0d0e0f\n")
    (tmp_path / "boot").write_text("00010203-0405-0607-0809-0a0b0c0d0e0f\n")
    node = identity(tmp_path / "machine", tmp_path / "boot")
    assert node.machine_id == node.boot_id == bytes(range(16))
    assert node.origin == f"{node.token}-{b'8 bytes!'.hex()}"


@pytest.mark.parametrize("text", ["", "uninitialized\n", "00"])
def test_malformed_machine_id_is_refused_with_a_remedy(tmp_path: Path, text: str) -> None:
    (tmp_path / "machine").write_text(text)
    with pytest.raises(NodeIdentityError, match=r"machine: not an id .*systemd-machine-id-setup"):
        identity(tmp_path / "machine", tmp_path / "boot")


def test_missing_machine_id_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NodeIdentityError, match="No such file"):
        identity(tmp_path / "machine", tmp_path / "boot")


def test_the_machine_says_what_its_mode_never_sees() -> None:
    node = NodeIdentity(bytes(16), bytes(16), bytes(8), mode="tracepoint")
    said = machine_attributes(node, 1, "0" * 64)
    assert "rename" in str(said["hw:unseen"]).split()
    assert "exec" in str(said["hw:imprecise"]).split()
    whole = machine_attributes(replace(node, mode="fentry"), 1, "0" * 64)
    assert not {"hw:unseen", "hw:imprecise"} & whole.keys()
