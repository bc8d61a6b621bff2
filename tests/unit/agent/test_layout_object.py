# SPDX-License-Identifier: Apache-2.0
"""The compiled object's own debug information against layout.py, and that a change is noticed."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from headwater_agent.btf import StructLayout, struct_layouts
from headwater_agent.scope import _CONFIG

from tests.unit.agent.test_layout import HEADER, STRUCTS, names_of


def layouts_of(text: str, directory: Path) -> dict[str, StructLayout]:
    """What the compiler wrote into the object's BTF about every struct of the header."""
    (directory / "layout.h").write_text(text)
    names = re.findall(r"^struct (hw_\w+) \{", text, re.MULTILINE)
    source = '#include <linux/types.h>\n#include "layout.h"\n'
    source += "".join(f"struct {name} one_{name};\n" for name in names)
    (directory / "layout.c").write_text(source)
    built, section = directory / "layout.o", directory / "layout.btf"
    subprocess.run(["gcc", "-gbtf", "-c", "-o", built, directory / "layout.c"], check=True)
    subprocess.run(["objcopy", f"--dump-section=.BTF={section}", built], check=True)
    return struct_layouts(section.read_bytes(), names)


def differences(found: dict[str, StructLayout]) -> list[str]:
    wrong = []
    for struct, kind in STRUCTS.items():
        assert kind.fields is not None
        here = {name: int(kind.fields[name][1]) for name in names_of(kind)}
        there = {name: at for name, at in found[struct].members.items() if name != "bytes"}
        if (kind.itemsize, here) != (found[struct].bytes, there):
            wrong.append(struct)
    return wrong


def test_object_and_python_agree_on_every_struct(tmp_path: Path) -> None:
    found = layouts_of(HEADER.read_text(), tmp_path)
    assert differences(found) == []
    assert found["hw_slot_config"].bytes == _CONFIG.size


@pytest.mark.parametrize(
    ("struct", "old", "new"),
    [
        ("hw_slot_config", "__u32 vertices_off;", "__u64 vertices_off;"),
        ("hw_header", "__u16 cpu;\n\t__u16 marks;", "__u16 marks;\n\t__u16 cpu;"),
        ("hw_iattr", "__s64 size;", "__s64 bytes_size;"),
    ],
)
def test_changed_header_is_noticed(struct: str, old: str, new: str, tmp_path: Path) -> None:
    text = HEADER.read_text()
    assert old in text
    assert struct in differences(layouts_of(text.replace(old, new), tmp_path))
