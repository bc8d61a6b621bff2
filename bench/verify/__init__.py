# SPDX-License-Identifier: Apache-2.0
"""What chaining and signing cost the agent, and how fast a stream is verified."""
