# SPDX-License-Identifier: Apache-2.0
"""A web server with a thread for each of its clients, which are processes: `served` is fetched."""

import http.client
import http.server
import multiprocessing
import threading
from pathlib import Path

CLIENTS = 4
REQUESTS = 8
CONTENT = b"content of a page\n" * 400


class Handler(http.server.SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 (its name)
        with Path("access.log").open("a") as log:
            log.write(format % arguments + "\n")


def fetch(number: int, port: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    for request in range(REQUESTS):
        connection.request("GET", "/served")
        body = connection.getresponse().read()
        assert body == CONTENT
        Path(f"fetched-{number}-{request}").write_bytes(body)
    connection.close()


def main() -> None:
    # Who asks where an answer came from has put it there: what the parent wrote, all clients have.
    if not Path("served").exists():
        Path("served").write_bytes(CONTENT)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    clients = [
        multiprocessing.Process(target=fetch, args=(each, server.server_port))
        for each in range(CLIENTS)
    ]
    for client in clients:
        client.start()
    serving = threading.Thread(target=server.serve_forever)
    serving.start()
    for client in clients:
        client.join()
    server.shutdown()
    serving.join()
    server.server_close()
    assert [client.exitcode for client in clients] == [0] * CLIENTS
    assert len(Path("access.log").read_text().splitlines()) == CLIENTS * REQUESTS


if __name__ == "__main__":
    multiprocessing.set_start_method("fork")
    main()
