# SPDX-License-Identifier: Apache-2.0
"""The way of a record on a node, from the ring buffer to the tenant's stream."""
