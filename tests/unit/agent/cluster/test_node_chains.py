# SPDX-License-Identifier: Apache-2.0
"""A node signs before the operator has stated its key, and keeps the statement over restarts."""

from pathlib import Path

import pytest
import zstandard
from headwater_agent.batch import Batch
from headwater_agent.cluster.node_chains import NodeChains, NodeStatementError
from headwater_agent.node import NodeIdentity
from headwater_agent.settings import ChainSettings
from headwater_operator.accounts import KeyPair, Role
from headwater_prov.checkpoint import parse_checkpoint
from headwater_prov.statement import sign_statement

OPERATOR = KeyPair.generate(Role.OPERATOR)
NODE = NodeIdentity(bytes(16), bytes(16), b"load-one")


def open_chains(state: Path) -> NodeChains:
    return NodeChains(state, NODE, ChainSettings())


def statement(chains: NodeChains, node: str = NODE.token, key: bytes | None = None) -> str:
    return sign_statement(
        node=node,
        key=key or chains.key.public,
        issuer=OPERATOR.public,
        issued_at=1,
        sign=OPERATOR.sign,
    )


def said(batch: Batch) -> str:
    return parse_checkpoint(zstandard.decompress(batch.payload)).statement


def test_it_is_said_from_when_it_comes_and_after_a_restart(tmp_path: Path) -> None:
    node = open_chains(tmp_path)
    assert said(node.chains.checkpoint("shop")) == ""
    text = statement(node)
    node.store_statement(text)
    assert node.chains.due_at("shop") == 0.0
    assert said(node.chains.checkpoint("shop")) == text
    again = open_chains(tmp_path)
    assert again.key.public == node.key.public
    assert said(again.chains.checkpoint("shop")) == text
    assert (tmp_path / "node-statement").stat().st_mode & 0o077 == 0


def test_one_about_somebody_else_is_refused(tmp_path: Path) -> None:
    node = open_chains(tmp_path)
    for text in (statement(node, node="another"), statement(node, key=bytes(32)), "junk"):
        with pytest.raises(NodeStatementError, match="the operator's answer"):
            node.store_statement(text)
    assert not (tmp_path / "node-statement").exists()


@pytest.mark.parametrize("content", [b"", b"\xff", b"junk.junk"])
def test_a_damaged_one_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "node-statement").write_bytes(content)
    with pytest.raises(NodeStatementError, match=r"node-statement: .*move it away"):
        open_chains(tmp_path)
