# SPDX-License-Identifier: Apache-2.0
"""Gap records for what an earlier agent on this node had numbered and nobody will deliver.

Why: the numbers are counted within the earlier load, so the gap has to speak as that load; and its
message id must be one that the earlier agent cannot have used. Called by
`delivery.DeliveryQueue` through `service.Agent`. Promise: G2.
"""

import time
from dataclasses import replace

import zstandard
from headwater_prov.stream import Header

from headwater_agent.batch import ZSTD_LEVEL, Batch, BatchMaker
from headwater_agent.node import NodeIdentity
from headwater_agent.owed import GivenUp

_BATCHED_NS = 2_000_000_000
"""A record is at most this much older than the file that its batch is written to."""


def declare_earlier(node: NodeIdentity, tenant: str, given_up: GivenUp) -> Batch:
    """Make the gap batch for records of an earlier load.

    Args:
        node: this node, on this load.
        tenant: whose records.
        given_up: which, and of which load.
    """
    identity = replace(node, load_id=bytes.fromhex(given_up.load))
    maker = BatchMaker(tenant, identity, "", zstandard.ZstdCompressor(level=ZSTD_LEVEL))
    now_ns = time.time_ns()
    since_ns = max(given_up.since_ns - _BATCHED_NS, 0)
    first, last = given_up.first, given_up.last
    batch = maker.gap(first, last, given_up.reason, min(since_ns, now_ns), now_ns)
    name = f"{identity.origin}-gap-{first}-{last}"
    return replace(batch, headers={**batch.headers, Header.MESSAGE_ID.value: name})
