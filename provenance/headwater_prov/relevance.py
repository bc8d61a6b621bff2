# SPDX-License-Identifier: Apache-2.0
"""What is worth showing of everything that was captured.

Why: one run of an interpreter opens a hundred files of its own before it reads the user's one, and
every path lookup searches five directories. A whole system's provenance is right and unreadable.
Nor is what a container runtime did before the workload began an origin of what the workload made.

Who calls it: the walk of :mod:`headwater_prov.lineage` and :mod:`headwater_prov.picture`. What is
left out is counted and said. Nothing is left out that the capture saw being written: then it is a
result, wherever it lies.
"""

from __future__ import annotations

import re

from headwater_prov.catalogue import METADATA_RELATIONS, Catalogue
from headwater_prov.vocabulary import VERSION_STEPS, VertexType

SETUP_ATTRIBUTE = "hw:setup"

_RUNTIME = re.compile(
    rb"""
      ^/(usr/)?(local/)?lib(32|64|x32|exec)?/            # libraries, interpreters' modules
    | ^/usr/share/(locale|zoneinfo|terminfo|i18n|locales|perl|perl5|nodejs|python3)/
    | ^/etc/(ld\.so|locale|localtime|nsswitch\.conf|host\.conf|hosts|resolv\.conf|gai\.conf
             |ssl/|terminfo/|inputrc|python3|perl/|mime\.types|selinux/)
    | ^/(proc|sys)/ | ^/dev/(?!shm/)
    | \.pyc$ | \.so(\.[0-9]+)*$ | /pyvenv\.cfg$ | /(site|dist)-packages/
    """,
    re.VERBOSE,
)
"""Files that programs read to run, not to work on."""

_INSTALLED = re.compile(rb"^/(usr|lib|lib32|lib64|bin|sbin|opt|nix)/")
"""Where installed programs lie: left out for those who run them, not for those who copy them."""

_NO_CONTENT_TYPES = frozenset(
    {
        VertexType.DIRECTORY,
        VertexType.PATH,
        VertexType.ARGV,
        VertexType.ENVP,
        VertexType.MACHINE,
        VertexType.IATTR,
        VertexType.XATTR,
    }
)


class Relevance:
    """Decides edge by edge.

    Args:
        everything: keep all edges.
        setup: keep what a container runtime did to set a container up.
        asked: objects that the question is about; they are always worth showing.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        *,
        everything: bool = False,
        setup: bool = False,
        asked: frozenset[int] = frozenset(),
    ) -> None:
        self._catalogue = catalogue
        self._everything = everything
        self._setup = setup
        self._asked = asked
        self._is_runtime: dict[int, bool] = {}
        self.left_out: set[tuple[int, int]] = set()
        """Pairs of an object of the system and the task or memory that read it."""

    def keeps(self, edge: int) -> bool:
        """Whether the edge brings content that somebody might ask about."""
        if self._everything:
            return True
        graph, types = self._catalogue.graph, self._catalogue.types
        if graph.relations[edge] in METADATA_RELATIONS:
            return False
        sender = graph.objects[graph.senders[edge]]
        receiver = graph.objects[graph.receivers[edge]]
        if not self._setup and not self._asked & {sender, receiver} and self._is_setup(edge):
            return False
        if types[sender] in _NO_CONTENT_TYPES or types[receiver] in _NO_CONTENT_TYPES:
            return False
        if sender not in self._asked and self._is_of_system(sender, receiver):
            self.left_out.add((sender, graph.receivers[edge]))
            return False
        return receiver in self._asked or not self._is_device_of_system(receiver)

    def passes(self, vertex: int) -> bool:
        """Whether what went into the vertex comes out of it; a device forgets what it was told."""
        graph = self._catalogue.graph
        return (
            self._everything or self._catalogue.types[graph.objects[vertex]] is not VertexType.CHAR
        )

    def _is_setup(self, edge: int) -> bool:
        # What an object was before a runtime changed it is still what it was.
        if self._catalogue.graph.relations[edge] in VERSION_STEPS:
            return False
        return self._catalogue.document.edges[edge].attributes.get(SETUP_ATTRIBUTE) is True

    def _is_of_system(self, sender: int, receiver: int) -> bool:
        catalogue = self._catalogue
        known = self._is_runtime.get(sender)
        if known is None:
            path = catalogue.path(sender)
            known = (
                path is not None
                and (sender not in catalogue.written or self._is_device_of_system(sender))
                and _RUNTIME.search(path) is not None
            )
            self._is_runtime[sender] = known
        if known:
            return True
        if sender in catalogue.written:
            return False
        task = catalogue.executing.get(receiver, receiver)
        if (task, sender) in catalogue.text:
            return True
        path = catalogue.path(sender)
        return (
            path is not None
            and _INSTALLED.search(path) is not None
            and (task, sender) in catalogue.executed
        )

    def _is_device_of_system(self, object_: int) -> bool:
        path = self._catalogue.path(object_)
        return (
            self._catalogue.types[object_] is VertexType.CHAR
            and path is not None
            and path.startswith(b"/dev/")
        )
