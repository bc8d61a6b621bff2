# SPDX-License-Identifier: Apache-2.0
"""The record model of Headwater: words, ids, documents, writers, lineage and validation.

Everything imports this package and it imports none of the others, so whoever writes an auditor
needs nothing else. It is pure: no server, no kernel, no clock of its own.
"""
