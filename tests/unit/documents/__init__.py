# SPDX-License-Identifier: Apache-2.0
"""What pages say to type and to do, held against the programs."""
