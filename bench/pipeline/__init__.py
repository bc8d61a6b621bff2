# SPDX-License-Identifier: Apache-2.0
"""From the ring's bytes to acked batches: how fast, how large, and where the time goes."""
