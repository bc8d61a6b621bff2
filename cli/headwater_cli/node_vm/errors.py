# SPDX-License-Identifier: Apache-2.0
"""What can go wrong between the wish for a node VM and a command's exit status."""

from headwater_cli.errors import Failure


class NodeVmError(Failure):
    """The node VM could not be started, or ended before the command did."""
