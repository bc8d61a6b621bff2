# SPDX-License-Identifier: Apache-2.0
"""`python -m tests.cluster up`: a control plane to look at, until Ctrl-C.

Why: what a test does can be done by hand on the same thing. With Headwater's definitions unless
`--empty`.
"""

import argparse
import signal
import sys
import threading

from tests.cluster.control_plane import ROOT, ControlPlane, ControlPlaneError


def main() -> int:
    """Run a control plane until a signal comes; 1 when it does not come up."""
    parser = argparse.ArgumentParser(prog="python -m tests.cluster", description=__doc__)
    parser.add_argument("verb", choices=["up"])
    parser.add_argument("--empty", action="store_true", help="without Headwater's definitions")
    chosen = parser.parse_args()
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    try:
        with ControlPlane() as control_plane:
            if not chosen.empty:
                control_plane.kubectl("apply", "-f", ROOT / "crds")
            found = control_plane.kubectl_environment()
            print(f"A control plane runs on 127.0.0.1:{control_plane.port} until Ctrl-C. For it:\n")
            for name in ("KUBECONFIG", "NO_PROXY"):
                print(f"  export {name}={found[name]}")
            print(f"  export PATH={found['PATH'].partition(':')[0]}:$PATH\n", flush=True)
            ended.wait()
    except ControlPlaneError as error:
        print(f"tests.cluster: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
