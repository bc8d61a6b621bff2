# SPDX-License-Identifier: Apache-2.0
"""Policies: loading, validation, compilation."""
