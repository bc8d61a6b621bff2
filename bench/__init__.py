# SPDX-License-Identifier: Apache-2.0
"""Benchmarks: ratios in one run, printed as a table; none is a gate."""
