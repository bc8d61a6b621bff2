# SPDX-License-Identifier: Apache-2.0
"""Which nodes' agents may publish, and what becomes of those whose node is gone.

Why: an agent's token is good for an hour, and a node may be taken away because it was broken into.
So a token that was given to a node that is not there any more is made void at once, and its live
connection is cut. Which tokens were given is known to the process that gave them (`exchange`);
those of other processes are found by their connections. Called by `provisioner`. Promise: G5.
"""

import dataclasses
from collections.abc import Iterable, Mapping

from headwater_prov.identifiers import node_token

from headwater_operator.accounts import Connection, connected_users
from headwater_operator.cluster.observed import Observed
from headwater_operator.provisioning.records import CaptureRecord, TimedKey


class IssuedAgents:
    """Public keys of agents that this process has given tokens to. Of the event loop's thread."""

    def __init__(self) -> None:
        self._keys: dict[str, tuple[str, int]] = {}

    def note(self, public_key: str, token: str, until: int) -> None:
        """Remember a token.

        Args:
            public_key: of the agent.
            token: the node token that it may publish as.
            until: its end, seconds since 1970.
        """
        self._keys[public_key] = (token, until)

    def of_others(self, present: Iterable[str], now: float) -> set[str]:
        """Keys whose tokens are good and whose node is not among those present.

        Args:
            present: node tokens.
            now: seconds since 1970.
        """
        self._keys = {key: one for key, one in self._keys.items() if one[1] > now}
        there = set(present)
        return {key for key, (token, _) in self._keys.items() if token not in there}


def node_tokens(nodes: Iterable[Observed]) -> dict[str, str]:
    """What subjects call each node, by its name; those that have not said who they are have none.

    Of two nodes with the same machine id, which is a cloned disk or a lie, the older one has it.
    """
    found: dict[str, str] = {}
    taken: set[str] = set()
    for node in sorted(nodes, key=lambda one: (one.created, one.uid)):
        token = token_of(node)
        if token and token not in taken:
            found[node.name] = token
            taken.add(token)
    return found


def token_of(node: Observed) -> str:
    """What subjects call a node; empty while its kubelet has not told its machine id."""
    text = str(node.status.get("machineID") or "").replace("-", "")
    try:
        return node_token(bytes.fromhex(text))
    except ValueError:
        return ""


async def without_gone_nodes(
    system: Connection,
    capture: CaptureRecord,
    issued: IssuedAgents,
    present: Mapping[str, str],
    *,
    token_life_s: float,
    now: int,
) -> CaptureRecord:
    """What is to be remembered of the capture account: the agents of gone nodes are void.

    Args:
        system: a connection of the system account.
        capture: what was remembered.
        issued: which tokens this process has given.
        present: node tokens of the nodes that are there, by name.
        token_life_s: how long a token is good for.
        now: seconds since 1970.

    Raises:
        ServerUnreachableError: the server does not tell who is connected.
    """
    tokens = set(present.values())
    void = issued.of_others(tokens, now)
    account = capture.capture_account.public
    void |= {
        user.public_key
        for user in await connected_users(system, account)
        if user.name not in tokens
    }
    known = {one.public for one in capture.revoked}
    # Tokens of the same key that are given later, to a node that came back, are good.
    new = [TimedKey(key, int(now + token_life_s), at=now) for key in sorted(void - known)]
    return dataclasses.replace(capture, revoked=(*capture.revoked, *new)) if new else capture
