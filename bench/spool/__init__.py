# SPDX-License-Identifier: Apache-2.0
"""What it costs the agent to have every message on disk before it is sent."""
