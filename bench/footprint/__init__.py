# SPDX-License-Identifier: Apache-2.0
"""What an agent takes of its node: memory and CPU, idle and at 50,000 records a second."""
