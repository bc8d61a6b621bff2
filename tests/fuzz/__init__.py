# SPDX-License-Identifier: Apache-2.0
"""Damaged and hostile input for everything that decodes: a documented error, and nothing else."""
