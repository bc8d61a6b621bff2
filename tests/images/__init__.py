# SPDX-License-Identifier: Apache-2.0
"""The container images as `make images` builds them: what is in them, and that it starts.

Why a directory of its own: building takes minutes and root, so these are `make test-images`.
"""
