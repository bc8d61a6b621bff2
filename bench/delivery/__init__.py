# SPDX-License-Identifier: Apache-2.0
"""What one agent delivers for one tenant and for many: speed, latency, memory."""
