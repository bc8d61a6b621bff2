# SPDX-License-Identifier: Apache-2.0
"""The NATS that comes with Headwater: `EmbeddedNats` runs it, `NatsAccess` finds a running one."""

from headwater_cli.embedded_nats.access import NatsAccess
from headwater_cli.embedded_nats.embedded import EmbeddedNats

__all__ = ["EmbeddedNats", "NatsAccess"]
