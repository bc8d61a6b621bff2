# SPDX-License-Identifier: Apache-2.0
"""A cluster node's signing: its key, what is remembered of its chains, the operator's statement.

Why: the key is made on the node and stays there; that it is the node's is the operator's to state,
when the agent proves who it is. The statement is kept beside the key, so a restart needs no
operator. Until there is one the agent signs all the same, and every chain has a checkpoint with it
as soon as `store_statement` was called. Called by :mod:`.main`. Promises: G7, G8.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from headwater_prov.statement import StatementError, read_statement

from headwater_agent.chain import Chains
from headwater_agent.chain_heads import ChainHeads
from headwater_agent.node import NodeIdentity
from headwater_agent.node_key import NodeKey, NodeKeyError
from headwater_agent.settings import ChainSettings

STATEMENT_NAME: Final = "node-statement"


class NodeStatementError(RuntimeError):
    """A statement cannot be read or kept, or is about another node or key."""


class NodeChains:
    """What a node signs with.

    Args:
        state: the agent's state directory.
        node: this node and load.
        settings: how often there is a checkpoint.

    Raises:
        NodeKeyError: the node's key cannot be used.
        NodeStatementError: the statement that was kept cannot be used.
    """

    def __init__(self, state: Path, node: NodeIdentity, settings: ChainSettings) -> None:
        self._path = state / STATEMENT_NAME
        self._node = node
        self.key: Final = NodeKey.load_or_create(state)
        self.chains: Final = Chains(
            node, self.key, settings=settings, heads=ChainHeads(state), statement=self._kept()
        )

    def store_statement(self, text: str) -> None:
        """Keep the operator's statement, and say it in every chain.

        Args:
            text: made by :func:`headwater_prov.statement.sign_statement` for `key.public` and this
                node's token.

        Raises:
            NodeStatementError: it is another's, or cannot be written.
        """
        self._check(text, "the operator's answer")
        temporary = self._path.with_suffix(".new")
        try:
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with open(descriptor, "w", encoding="ascii") as stream:
                stream.write(text)
                stream.flush()
                os.fsync(stream.fileno())
            temporary.replace(self._path)
        except OSError as error:
            raise NodeStatementError(
                f"{self._path}: cannot be written: {error.strerror or error}"
            ) from error
        self.chains.state(text)

    def _kept(self) -> str:
        try:
            text = self._path.read_text(encoding="ascii").strip()
        except FileNotFoundError:
            return ""
        except (OSError, UnicodeDecodeError) as error:
            raise NodeStatementError(
                f"{self._path}: cannot be read: {error}; move it away, the operator states the key "
                "anew"
            ) from error
        self._check(text, str(self._path))
        return text

    def _check(self, text: str, source: str) -> None:
        try:
            statement = read_statement(text)
        except StatementError as error:
            raise NodeStatementError(
                f"{source}: {error}; move it away, the operator states the key anew"
            ) from error
        if (statement.node, statement.key) != (self._node.token, self.key.public):
            raise NodeStatementError(
                f"{source}: is about another node or key (node {statement.node}); move it away, "
                "the operator states the key anew"
            )


__all__ = ["STATEMENT_NAME", "NodeChains", "NodeKeyError", "NodeStatementError"]
