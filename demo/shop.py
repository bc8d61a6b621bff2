# SPDX-License-Identifier: Apache-2.0
"""The demo job's HTTP server: Python's own, on a free port of the loopback.

usage: shop.py DIRECTORY PORT_FILE
"""

import functools
import http.server
import pathlib
import sys


def main() -> None:
    """Serve a directory and write the port that was free."""
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=sys.argv[1])
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        port_file = pathlib.Path(sys.argv[2])
        temporary = port_file.with_suffix(".new")
        temporary.write_text(str(server.server_port))
        temporary.rename(port_file)
        server.serve_forever()


if __name__ == "__main__":
    main()
