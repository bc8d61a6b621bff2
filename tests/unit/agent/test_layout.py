# SPDX-License-Identifier: Apache-2.0
"""The numpy types are what a C compiler makes of layout.h: every size, offset and constant."""

from __future__ import annotations

import json
import re
import subprocess
from enum import IntEnum, IntFlag
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
from headwater_agent import layout

HEADER = Path(str(files("headwater_bpf"))) / "headwater" / "layout.h"

STRUCTS = {
    "hw_header": layout.HEADER,
    "hw_flow": layout.FLOW,
    "hw_task": layout.TASK,
    "hw_memory": layout.MEMORY,
    "hw_inode": layout.INODE,
    "hw_socket": layout.SOCKET,
    "hw_iattr": layout.IATTR,
    "hw_xattr": layout.XATTR,
    "hw_message": layout.MESSAGE,
    "hw_segment": layout.SEGMENT,
    "hw_vertex": layout.VERTEX,
    "hw_flow_ends": layout.FLOW_ENDS,
    "hw_counters": layout.COUNTERS,
    "hw_slot_config": layout.SLOT_CONFIG,
    "hw_slot_policy": layout.SLOT_POLICY,
    "hw_policies": layout.POLICIES,
    "hw_scope_buckets": layout.SCOPE_BUCKETS,
    "hw_strays": layout.STRAYS,
    "hw_automaton": layout.AUTOMATON,
}
ENUMS: dict[str, type[IntEnum] | type[IntFlag]] = {
    "HW_RECORD_": layout.RecordKind,
    "HW_MARK_": layout.Mark,
    "HW_TEXT_": layout.TextMark,
    "HW_LOSS_": layout.Loss,
    "HW_SLOT_": layout.SlotFlag,
    "HW_MESSAGE_": layout.MessageKnown,
}
CONSTANTS = {
    "HW_CELL_BYTES": layout.CELL_BYTES,
    "HW_RING_HEADER_BYTES": layout.RING_HEADER_BYTES,
    "HW_FLOW_BYTES": layout.FLOW.itemsize,
    "HW_VERTEX_BYTES": layout.VERTEX.itemsize,
    "HW_TEXT_HEADER_BYTES": layout.TEXT_HEADER_BYTES,
    "HW_TEXT_BYTES_MAX": layout.TEXT_BYTES_MAX,
    "HW_TEXT_DATA_MAX": layout.TEXT_DATA_MAX,
    "HW_INTERNET_ADDRESS_BYTES": layout.INTERNET_ADDRESS_BYTES,
    "HW_COMM_BYTES": layout.COMM_BYTES,
    "HW_XATTR_NAME_BYTES": layout.XATTR_NAME_BYTES,
    "HW_SLOTS": layout.SLOTS,
    "HW_BUCKETS": layout.BUCKETS,
    "HW_LOSSES": len(layout.Loss),
}


def names_of(kind: np.dtype[np.void]) -> tuple[str, ...]:
    assert kind.names is not None
    return kind.names


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, int]:
    """Every expression that the tests ask for, evaluated by the C compiler."""
    wanted = list(CONSTANTS)
    for struct, kind in STRUCTS.items():
        wanted.append(f"sizeof(struct {struct})")
        for field in names_of(kind):
            wanted.append(f"offsetof(struct {struct}, {field})")
            wanted.append(f"sizeof(((struct {struct} *)0)->{field})")
    for field in ("header", "object", "version", "length", "marks", "data"):
        wanted.append(f"offsetof(struct hw_text, {field})")
    for prefix, enum in ENUMS.items():
        wanted += [prefix + member.name for member in enum if member.name]
    directory = tmp_path_factory.mktemp("layout")
    lines = "".join(f'\tprintf("\\"{text}\\": %ld,\\n", (long)({text}));\n' for text in wanted)
    source = directory / "layout.c"
    source.write_text(
        "#include <stddef.h>\n#include <stdio.h>\n#include <linux/types.h>\n"
        f'#include "{HEADER}"\nint main(void)\n{{\n\tputs("{{");\n{lines}'
        '\tputs("\\"end\\": 0}");\n\treturn 0;\n}\n'
    )
    subprocess.run(["gcc", "-o", directory / "layout", source], check=True)
    output = subprocess.run([directory / "layout"], check=True, capture_output=True).stdout
    values = json.loads(output)
    assert isinstance(values, dict)
    return values


@pytest.mark.parametrize("struct", STRUCTS)
def test_struct_is_the_same_on_both_sides(struct: str, compiled: dict[str, int]) -> None:
    kind = STRUCTS[struct]
    assert kind.itemsize == compiled[f"sizeof(struct {struct})"]
    assert kind.fields is not None
    for name in names_of(kind):
        field, offset = kind.fields[name][:2]
        assert offset == compiled[f"offsetof(struct {struct}, {name})"], name
        assert field.itemsize == compiled[f"sizeof(((struct {struct} *)0)->{name})"], name


def test_text_is_the_same_on_both_sides(compiled: dict[str, int]) -> None:
    fields = layout.TEXT_HEADER.fields
    assert fields is not None
    for name in names_of(layout.TEXT_HEADER):
        assert fields[name][1] == compiled[f"offsetof(struct hw_text, {name})"]
    assert compiled["offsetof(struct hw_text, data)"] == layout.TEXT_HEADER_BYTES


def test_constants_are_the_same_on_both_sides(compiled: dict[str, int]) -> None:
    assert {name: compiled[name] for name in CONSTANTS} == CONSTANTS


@pytest.mark.parametrize("prefix", ENUMS)
def test_enum_is_the_same_on_both_sides(prefix: str, compiled: dict[str, int]) -> None:
    for member in ENUMS[prefix]:
        assert compiled[f"{prefix}{member.name}"] == member.value


def test_no_struct_or_enum_value_of_the_header_is_left_out() -> None:
    text = HEADER.read_text()
    assert {*STRUCTS, "hw_text"} == set(re.findall(r"^struct (hw_\w+) \{", text, re.MULTILINE))
    here = {prefix + str(member.name) for prefix, enum in ENUMS.items() for member in enum}
    assert here == set(re.findall(r"^\t(HW_\w+) =", text, re.MULTILINE)) - {"HW_LOSSES"}


def test_cells_hold_every_record() -> None:
    for payload in (72, 152, *(layout.text_payload_bytes(n) for n in (0, 192, 193, 4112))):
        assert (payload + layout.RING_HEADER_BYTES) % layout.CELL_BYTES == 0
    with pytest.raises(ValueError, match="at most 4112"):
        layout.text_payload_bytes(4113)
