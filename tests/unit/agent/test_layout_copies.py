# SPDX-License-Identifier: Apache-2.0
"""Numbers that more than one side holds: layout.h, the kernel's own header, the compiled renderer.

test_layout.py compares layout.py with layout.h name by name. Here: that it would notice any changed
value, and the copies that it does not see.
"""

from __future__ import annotations

import json
import re
import subprocess
from enum import IntEnum
from pathlib import Path

import numpy as np
import pytest
from headwater_agent import layout, render
from headwater_agent.attached_kernel import flags_of
from headwater_agent.layout import Loss, Mark, MessageKnown, RecordKind, SlotFlag
from headwater_prov.policy import CompiledPolicy, compile_policy, load_file
from headwater_prov.vocabulary import VertexType

from tests.unit.agent.test_layout import ENUMS, HEADER, names_of

RENDERER = Path(str(layout.__file__)).with_name("_render.pyx").read_text()


def values_of(header: Path, names: list[str], directory: Path) -> dict[str, int]:
    """What the C compiler makes of names from a header."""
    lines = "".join(f'\tprintf("\\"{name}\\": %llu,\\n", (long long)({name}));\n' for name in names)
    source = directory / "values.c"
    source.write_text(
        "#include <stddef.h>\n#include <stdio.h>\n#include <linux/types.h>\n"
        f'#include "{header}"\nint main(void)\n{{\n\tputs("{{");\n{lines}'
        '\tputs("\\"end\\": 0}");\n\treturn 0;\n}\n'
    )
    subprocess.run(["gcc", "-o", directory / "values", source], check=True)
    output = subprocess.run([directory / "values"], check=True, capture_output=True).stdout
    values = json.loads(output)
    assert isinstance(values, dict)
    del values["end"]
    return values


def test_every_enum_value_of_the_header_is_compared(tmp_path: Path) -> None:
    """With each value of the header changed, none is what Python says."""
    here = {prefix + str(m.name): m.value for prefix, enum in ENUMS.items() for m in enum}
    assert values_of(HEADER, list(here), tmp_path) == here
    changed = tmp_path / "layout.h"
    text, count = re.subn(
        r"^\t(HW_\w+) = ([^,]+),", r"\t\1 = (\2) + 64,", HEADER.read_text(), flags=re.MULTILINE
    )
    assert count == len(here) + 1  # and HW_LOSSES, which is compared as a constant
    changed.write_text(text)
    assert values_of(changed, list(here), tmp_path) == {n: v + 64 for n, v in here.items()}


def test_header_gives_every_enum_value_a_number() -> None:
    """One without would take part in no comparison, and would depend on its neighbours."""
    for body in re.findall(
        r"^enum hw_\w+ \{\n(.*?)^\};", HEADER.read_text(), re.DOTALL | re.MULTILINE
    ):
        for line in re.sub(r"/\*.*?\*/", "", body, flags=re.DOTALL).split(","):
            assert not line.strip() or "=" in line, line


def test_losses_index_the_counters() -> None:
    assert [int(loss) for loss in Loss] == list(range(len(Loss)))
    assert layout.COUNTERS["lost"].shape == (len(Loss),)


def test_ring_bits_are_the_kernels(tmp_path: Path) -> None:
    names = ["BPF_RINGBUF_BUSY_BIT", "BPF_RINGBUF_DISCARD_BIT", "BPF_RINGBUF_HDR_SZ"]
    assert list(values_of(Path("/usr/include/linux/bpf.h"), names, tmp_path).values()) == [
        layout.RING_BUSY,
        layout.RING_DISCARD,
        layout.RING_HEADER_BYTES,
    ]


# -- the compiled renderer has constants and structs of its own ------------------------------------

RENDERER_NUMBERS = {
    name: int(value, 0)
    for name, value in re.findall(
        r"^    ([A-Z_]+) = (0x[0-9a-fA-F]+|\d+)\b", RENDERER, re.MULTILINE
    )
}


@pytest.mark.parametrize(
    ("prefix", "enum"), [("RECORD_", RecordKind), ("MARK_", Mark), ("MESSAGE_", MessageKnown)]
)
def test_renderer_has_the_same_values(prefix: str, enum: type[IntEnum] | type[Mark]) -> None:
    here = {prefix + str(member.name): member.value for member in enum}
    assert {n: v for n, v in RENDERER_NUMBERS.items() if n.startswith(prefix)} == here


def test_renderer_has_the_same_limits() -> None:
    assert RENDERER_NUMBERS["SLOTS"] == layout.SLOTS
    assert RENDERER_NUMBERS["RING_BUSY"] == layout.RING_BUSY
    assert RENDERER_NUMBERS["RING_DISCARD"] == layout.RING_DISCARD


def test_renderer_and_its_vocabulary_agree_on_bodies() -> None:
    named = {
        VertexType.TASK: "BODY_TASK",
        VertexType.PROCESS_MEMORY: "BODY_MEMORY",
        VertexType.FILE: "BODY_INODE",
        VertexType.SOCKET: "BODY_SOCKET",
        VertexType.IATTR: "BODY_IATTR",
        VertexType.XATTR: "BODY_XATTR",
        VertexType.MSG: "BODY_MESSAGE",
        VertexType.SHM: "BODY_SEGMENT",
        VertexType.PATH: "BODY_NONE",
    }
    for kind, name in named.items():
        assert render.type_words(kind)[1] == RENDERER_NUMBERS[name]


def test_renderer_and_its_vocabulary_agree_on_sections() -> None:
    """The constants of the sections stand in the order of their names."""
    sections = ("AGENT", "ACTIVITY", "ENTITY", "USED", "GENERATED", "DERIVED", "INFORMED")
    numbers = [RENDERER_NUMBERS[name] for name in (*sections, "INFLUENCED", "ASSOCIATED")]
    assert numbers == list(range(len(render.SECTION_NAMES)))
    assert RENDERER_NUMBERS["SECTIONS"] == len(numbers)


def renderer_struct(name: str) -> np.dtype[np.void]:
    """A packed struct of the renderer's text as a numpy type."""
    (body,) = re.findall(rf"^cdef packed struct {name}:\n((?:    .*\n)+)", RENDERER, re.MULTILINE)
    fields: list[tuple[str, object]] = []
    for line in body.splitlines():
        c_type, field, count = re.fullmatch(r"    (\w+) (\w+)(?:\[(\d+)\])?", line).groups()  # type: ignore[union-attr]
        integer = re.fullmatch(r"(u?)int(\d+)_t", c_type)
        if count:
            fields.append((field, f"V{count}"))
        elif integer:
            fields.append((field, f"<{integer[1] or 'i'}{int(integer[2]) // 8}"))
        else:
            fields.append((field, renderer_struct(c_type)))
    return np.dtype(fields)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("Header", layout.HEADER),
        ("Flow", layout.FLOW),
        ("Task", layout.TASK),
        ("Memory", layout.MEMORY),
        ("Inode", layout.INODE),
        ("Socket", layout.SOCKET),
        ("Iattr", layout.IATTR),
        ("Xattr", layout.XATTR),
        ("Message", layout.MESSAGE),
        ("Segment", layout.SEGMENT),
    ],
)
def test_renderer_has_the_same_structs(name: str, kind: np.dtype[np.void]) -> None:
    assert renderer_struct(name) == kind


@pytest.mark.parametrize(
    ("name", "kind", "rest"),
    [
        ("Vertex", layout.VERTEX, ("body", layout.VERTEX_HEADER_BYTES, layout.VERTEX_UNION_BYTES)),
        ("Text", layout.TEXT_HEADER, ("data", layout.TEXT_HEADER_BYTES, layout.TEXT_DATA_MAX)),
    ],
)
def test_renderer_has_the_same_records(
    name: str, kind: np.dtype[np.void], rest: tuple[str, int, int]
) -> None:
    there = renderer_struct(name)
    assert there.fields is not None and kind.fields is not None
    assert there.itemsize == rest[1] + rest[2]
    for field in names_of(there)[:-1]:
        assert there.fields[field][:2] == kind.fields[field][:2], field
    assert (names_of(there)[-1], there.fields[rest[0]][1]) == rest[:2]
    before = [field for field in names_of(kind) if kind.fields[field][1] < rest[1]]
    assert list(names_of(there)[:-1]) == before


# -- from a policy to the flags that the hooks read ------------------------------------------------


def compiled(spec: str, directory: Path) -> CompiledPolicy:
    file = directory / "policy.yaml"
    file.write_text(
        "apiVersion: headwater.dev/v1alpha1\nkind: ProvenancePolicy\nmetadata: {name: all}\n"
        f"spec: {{podSelector: {{}}, {spec}}}\n"
    )
    (policy,) = load_file(file).policies
    return compile_policy(policy)


@pytest.mark.parametrize(
    ("spec", "lost", "won"),
    [
        ("compression: {nodes: false}", SlotFlag.COMPRESS_NODES, SlotFlag(0)),
        ("compression: {edges: false}", SlotFlag.COMPRESS_EDGES, SlotFlag(0)),
        ("compression: {duplicate: true}", SlotFlag(0), SlotFlag.DUPLICATE),
        ("arguments: false", SlotFlag.ARGUMENTS, SlotFlag(0)),
    ],
)
def test_each_switch_of_a_policy_is_one_flag(
    spec: str, lost: SlotFlag, won: SlotFlag, tmp_path: Path
) -> None:
    usual = flags_of(compiled("capture: all", tmp_path))
    assert usual == (
        SlotFlag.ACTIVE | SlotFlag.COMPRESS_NODES | SlotFlag.COMPRESS_EDGES | SlotFlag.ARGUMENTS
    )
    assert flags_of(compiled(spec, tmp_path)) == usual & ~lost | won


def test_suspended_policy_is_not_active(tmp_path: Path) -> None:
    assert SlotFlag.ACTIVE not in flags_of(compiled("suspend: true", tmp_path))
