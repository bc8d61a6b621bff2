# SPDX-License-Identifier: Apache-2.0
"""What consumes one tenant's stream and answers questions about it."""
