# SPDX-License-Identifier: Apache-2.0
"""The C text of a program set, and the constants it is compiled with.

bcc takes one text and only rewrites functions that stand in it, so the files of ``bpf/`` are put
in place of their ``#include`` lines here; ``#line`` keeps the compiler's messages true. Nothing in
the text is edited: what differs between nodes comes as ``-D`` constants.

Called by :mod:`headwater_agent.compile`; the text is also part of the cache's key
(:mod:`headwater_agent.program_cache`).
"""

import re
from importlib import resources
from importlib.resources.abc import Traversable

from headwater_prov.vocabulary import Relation, VertexType

_INCLUDE = re.compile(r'^#include "([^"]+)"\s*$')


def read_program_text(name: str = "headwater.bpf.c") -> str:
    """One text for a program set.

    :param name: its top file in the package ``headwater_bpf``
    :raises FileNotFoundError: if it or a file that it includes is missing
    """
    return _expand(resources.files("headwater_bpf"), name)


def _expand(root: Traversable, name: str) -> str:
    lines = [f'#line 1 "{name}"']
    for number, line in enumerate(root.joinpath(name).read_text().splitlines(), start=1):
        include = _INCLUDE.match(line)
        if include is None:
            lines.append(line)
        else:
            lines.append(_expand(root, include[1]))
            lines.append(f'#line {number + 1} "{name}"')
    return "\n".join(lines)


def vocabulary_constants() -> dict[str, int]:
    """The numbers of vertex types and relations, by the names the C text uses."""
    vertices = {f"HW_VERTEX_{vertex.name}": int(vertex) for vertex in VertexType}
    relations = {f"HW_RELATION_{relation.name}": int(relation) for relation in Relation}
    return vertices | relations
