# SPDX-License-Identifier: Apache-2.0
"""What a cluster of a thousand tenants costs the operator, on a real API server."""
