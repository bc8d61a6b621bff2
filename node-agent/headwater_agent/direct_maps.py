# SPDX-License-Identifier: Apache-2.0
"""Maps of one value that programs reach by its address and the agent by its pages.

Why: a look-up in an array costs a hook a dozen instructions even where the kernel inlines it, and
every hook of every task on the node looks at the scope. bcc does not know such maps, so they are
made here: the C text names one by a number (``HW_DIRECT`` in ``bpf/headwater/scope.h``), which the
compiling child replaces by the map's index.

Used by :mod:`headwater_agent.compile` and :mod:`headwater_agent.load`.
"""

import mmap
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from headwater_agent.layout import AUTOMATON, POLICIES, SCOPE_BUCKETS, STRAYS
from headwater_agent.program_object import MapSpec

_MAP_TYPE_ARRAY: Final = 2
_FLAG_MMAPABLE: Final = 1 << 10
"""``BPF_F_MMAPABLE``, since 5.5."""

_FIRST_NUMBER: Final = 1 << 20
"""No descriptor and none of bcc's own numbers, which are below zero."""

TYPES: Final[dict[str, np.dtype[np.void]]] = {
    "policies": POLICIES,
    "scope_buckets": SCOPE_BUCKETS,
    "strays": STRAYS,
    "automaton": AUTOMATON,
}
"""The value of each such map."""

NUMBERS: Final = {name: _FIRST_NUMBER + at for at, name in enumerate(TYPES)}
"""What stands for each in the C text."""

CONSTANTS: Final = {f"HW_MAP_{name}": number for name, number in NUMBERS.items()}

SPECS: Final = tuple(
    MapSpec(name, _MAP_TYPE_ARRAY, 4, kind.itemsize, 1, _FLAG_MMAPABLE)
    for name, kind in TYPES.items()
)


def direct_value(name: str, descriptor: int) -> NDArray[Any]:
    """The one value of a map, as an array of one element that reads and writes the kernel's pages.

    Aligned words are read and written whole. The pages stay mapped for as long as the array lives,
    whether or not the descriptor is closed.

    :param name: a key of :data:`TYPES`
    :raises OSError: if the map cannot be mapped
    """
    kind = TYPES[name]
    return np.frombuffer(mmap.mmap(descriptor, kind.itemsize), kind)
