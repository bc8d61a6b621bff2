# SPDX-License-Identifier: Apache-2.0
"""Tests; docs/development.md says how to run one."""
