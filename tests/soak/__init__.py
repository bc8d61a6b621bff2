# SPDX-License-Identifier: Apache-2.0
"""An agent under load for as long as one likes, while everything around it fails at random."""
