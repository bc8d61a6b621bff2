# SPDX-License-Identifier: Apache-2.0
"""Take away what Headwater never loads of the Kubernetes client: 60 MB of generated classes.

Why: the client has a class for every kind and call of the API, in two forms (with asyncio and
without), loaded on demand; the operator speaks to the API by the ApiClient alone
(headwater_operator.cluster.api). Run in the build by the environment that it trims: what is loaded
after the operator's own import stays. A class that somebody demands after all is an ImportError in
the first test that does.
"""

import importlib
import sys
from pathlib import Path


def main() -> None:
    """Remove them, then import anew in a process of its own to see that nothing else was."""
    importlib.import_module("headwater_operator.cluster.main")
    loaded = {getattr(module, "__file__", None) for module in list(sys.modules.values())}
    package = Path(str(importlib.import_module("kubernetes").__file__)).parent
    for client in (package / "client", package / "aio" / "client"):
        for kind in ("api", "models"):
            for path in (client / kind).glob("*.py"):
                if str(path) not in loaded and path.name != "__init__.py":
                    path.unlink()


if __name__ == "__main__":
    main()
