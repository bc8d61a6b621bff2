# SPDX-License-Identifier: Apache-2.0
"""`python -m headwater_agent.cluster`: see :mod:`headwater_agent.cluster.main`."""

import sys

from headwater_agent.cluster.main import main

sys.exit(main())
