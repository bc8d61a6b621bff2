# SPDX-License-Identifier: Apache-2.0
"""What capture costs whole programs, counted in instructions, and what Linux audit costs them."""
