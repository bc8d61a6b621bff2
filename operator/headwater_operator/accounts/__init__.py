# SPDX-License-Identifier: Apache-2.0
"""Tenants' NATS accounts: keys, JWTs and streams."""
