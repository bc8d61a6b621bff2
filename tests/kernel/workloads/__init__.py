# SPDX-License-Identifier: Apache-2.0
"""Real programs at work, each in the way that is hard on a capture.

Why programs of their own: what is captured is a process, not a test. Each works in the directory
where it is started, checks its own result, and ends with status 0 only if that is right.
"""
