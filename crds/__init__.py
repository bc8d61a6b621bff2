# SPDX-License-Identifier: Apache-2.0
"""The custom resource definitions, shipped as package data: one schema for cluster and local mode."""
