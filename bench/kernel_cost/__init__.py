# SPDX-License-Identifier: Apache-2.0
"""What a hook costs the process that runs into it, counted in instructions."""
