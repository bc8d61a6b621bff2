# SPDX-License-Identifier: Apache-2.0
"""Policies become per-node configuration, on a Kubernetes API.

The data's way: `watches` (kopf's) and `listing` fill `observed`; `tenancy`, `judging` and `sets`
compute from it what should be, `reports` and `statuses` what should be said; `reconciler` brings
the API there through `writing`. Everything between `observed` and `reconciler` is pure.
"""
