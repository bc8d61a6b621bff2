# SPDX-License-Identifier: Apache-2.0
"""Tests of the command line that need neither a capturing kernel nor a server."""
