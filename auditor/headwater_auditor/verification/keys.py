# SPDX-License-Identifier: Apache-2.0
"""Whose key is whose, by the statements that the checkpoints of a stream bring along.

Called by `verifier.StreamVerifier` and `judgement`. Promise: G7.
"""

from collections.abc import Collection

from headwater_prov.statement import NodeStatement, StatementError, read_statement

from headwater_auditor.verification.chain import ChainVerifier


class Keys:
    """Whose key is whose, by the statements of the operators that are believed.

    Args:
        chains: with the statements that their checkpoints brought.
        operators: to believe.
    """

    def __init__(self, chains: Collection[ChainVerifier], operators: Collection[str]) -> None:
        self._stated: dict[tuple[str, bytes], str] = {}
        self.strangers: dict[tuple[str, bytes], str] = {}
        """Statements by operators that are not believed."""

        read: dict[str, NodeStatement | None] = {}
        for chain in chains:
            for text in chain.statements:
                if text not in read:
                    read[text] = _read(text)
                statement = read[text]
                if statement is None:
                    continue
                is_trusted = statement.issuer in operators
                table = self._stated if is_trusted else self.strangers
                table[statement.node, statement.key] = statement.issuer

    def operator_of(self, chain: ChainVerifier) -> str:
        """Return who states the chain's key to be its node's; empty: nobody that is believed."""
        return self._stated.get((chain.name.node, chain.name.key), "")

    def stranger_of(self, chain: ChainVerifier) -> str:
        """Return who else states it."""
        return self.strangers.get((chain.name.node, chain.name.key), "")


def _read(text: str) -> NodeStatement | None:
    try:
        return read_statement(text)
    except StatementError:
        return None
