# SPDX-License-Identifier: Apache-2.0
"""What is owed to tenants, on the node's disk: written before it is offered, gone once stored.

Why: an agent that is killed must neither lose what it had numbered nor guess what became of it. So
each batch is written down as it is made, and its place in the chain before it is sent
(docs/decisions/0017-the-spool.md). `blocks` is the format of a file, `mark` the little that is
written in place, `log` the batches of one tenant and load, `tenant` all loads of one tenant, and
`spools` all tenants with their bounds. `delivery.DeliveryQueue` uses it.
Promises: G2, G3, G8.
"""

from headwater_agent.spool.log import Place, SpoolLog
from headwater_agent.spool.recovery import RecoveredLog
from headwater_agent.spool.spools import SpoolError, Spools
from headwater_agent.spool.tenant import TenantSpool

__all__ = ["Place", "RecoveredLog", "SpoolError", "SpoolLog", "Spools", "TenantSpool"]
