# SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
"""The kernel programs' C sources, shipped as package data for the agent's loader."""
