# SPDX-License-Identifier: Apache-2.0
"""Tenants and auditors of a cluster, made so in NATS.

Why: `headwater_operator.cluster` knows what tenants want and `headwater_operator.accounts` how a
server is told; this is the loop between the two. It keeps what has to outlive it, keys and what is
owed to NATS, in Secrets, so it needs neither a disk nor a finalizer.
"""
