# SPDX-License-Identifier: Apache-2.0
"""Print each file that the tenant's processes read or wrote, as it happens.

    python print_files.py nats://127.0.0.1:4222 acme.creds [--once]
    python print_files.py "$(cat servers)" auditor.creds \\
        --consumer "$(cat consumer)" --inbox-prefix "$(cat inbox-prefix)" \\
        --policies "$(cat policies 2>/dev/null)"

The second command is for a pod that has the Secret of a ProvenanceAuditor mounted, run where it is
mounted; SSL_CERT_FILE names its ca.crt. The server then remembers how far the program was.

An auditor is a loop over batches. Everything between the server and the loop (reconnecting, going
on where it stopped, decompressing, leaving out what came twice) is the stream's business; whether
anything is missing can be asked of it at any time.
"""

import argparse
import asyncio
from pathlib import Path

from headwater_auditor import TenantStream
from headwater_prov.document import Document
from headwater_prov.identifiers import parse_vertex_name
from headwater_prov.vocabulary import Relation

DIRECTIONS = {Relation.READ: "read", Relation.WRITE: "wrote"}


class FileNames:
    """Names of objects, learnt from the stream: documents repeat only what has changed."""

    def __init__(self) -> None:
        self._paths: dict[str, str] = {}
        self._programs: dict[str, str] = {}

    def learn(self, document: Document) -> None:
        """Take in what a document says about names."""
        for vertex in document.vertices.values():
            if "cf:name" in vertex.attributes:
                self._programs[vertex.object] = str(vertex.attributes["cf:name"])
        for edge in document.edges:
            if edge.relation is Relation.NAMED:
                path = document.vertices.get(edge.sender)
                if path is not None and "cf:pathname" in path.attributes:
                    named, _ = parse_vertex_name(edge.receiver)
                    self._paths[named] = str(path.attributes["cf:pathname"])

    def lines(self, document: Document) -> list[str]:
        """Return a line for each read and write of a file whose name is known."""
        found = []
        for edge in document.edges:
            if edge.relation in DIRECTIONS:
                ends = [parse_vertex_name(name)[0] for name in (edge.sender, edge.receiver)]
                file, task = ends if edge.relation is Relation.READ else reversed(ends)
                if file in self._paths:
                    program = self._programs.get(task, "?")
                    found.append(f"{program} {DIRECTIONS[edge.relation]} {self._paths[file]}")
        return found


async def main() -> None:
    """Read the command line, then the stream."""
    parser = argparse.ArgumentParser(description="Print the files that were read and written.")
    parser.add_argument("server", help="URL of NATS, or several with commas")
    parser.add_argument("credentials", type=Path, help="the tenant's .creds file")
    parser.add_argument("--once", action="store_true", help="end after what is stored now")
    parser.add_argument("--consumer", help="a durable consumer; the server remembers its place")
    parser.add_argument("--inbox-prefix", default="_INBOX", help="where answers may be received")
    parser.add_argument("--policies", default="", help="only their records; names with commas")
    arguments = parser.parse_args()
    names = FileNames()
    async with TenantStream(
        arguments.server.split(","),
        arguments.credentials,
        name="print-files",
        durable=arguments.consumer,
        inbox_prefix=arguments.inbox_prefix,
        policies=filter(None, arguments.policies.split(",")),
    ) as stream:
        batches = stream.fetch_all() if arguments.once else stream.follow()
        async for batch in batches:
            names.learn(batch.document)
            for line in names.lines(batch.document):
                print(line, flush=True)
        for origin, balance in stream.balances().items():
            print(f"{origin}: {balance}")


if __name__ == "__main__":
    asyncio.run(main())
