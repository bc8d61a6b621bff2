# SPDX-License-Identifier: Apache-2.0
"""The agent in cluster mode."""
