# SPDX-License-Identifier: Apache-2.0
"""Tests of the agent without a kernel or a server."""
