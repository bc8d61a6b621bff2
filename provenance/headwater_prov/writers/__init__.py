# SPDX-License-Identifier: Apache-2.0
"""Documents written in the formats that people and programs ask for."""
