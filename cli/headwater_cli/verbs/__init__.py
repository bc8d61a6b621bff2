# SPDX-License-Identifier: Apache-2.0
"""One module per verb of the program; each holds a click command called `command`."""
