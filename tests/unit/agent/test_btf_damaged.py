# SPDX-License-Identifier: Apache-2.0
"""BTF that is cut off or damaged, as after a broken copy: one clear error wherever it ends."""

from __future__ import annotations

import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from headwater_agent import btf, probe
from headwater_agent.btf_headers import BTF, BtfUnavailableError, write_header_tree
from hypothesis import given, settings
from hypothesis import strategies as st

C_TEXT = """
enum __attribute__((packed)) small { SMALL_A, SMALL_B };
enum large { LARGE_A = 1 << 20 };
struct inner { int number; enum small small; };
struct outer {
	struct inner inner;
	union { long word; struct { char low, high; }; };
	unsigned flag : 1;
	int (*call)(struct outer *, enum large);
	char text[16];
};
int use(struct outer *outer) { return outer->inner.number; }
struct outer one;
"""

READERS: list[Callable[[bytes], object]] = [
    lambda content: btf.function_numbers(content, ["use"]),
    lambda content: btf.struct_layouts(content, ["outer", "inner"]),
    btf.one_byte_enums,
]


@pytest.fixture(scope="module")
def small_btf(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    directory = tmp_path_factory.mktemp("btf")
    source, built, section = directory / "a.c", directory / "a.o", directory / "a.btf"
    source.write_text(C_TEXT)
    subprocess.run(["gcc", "-gbtf", "-c", "-o", built, source], check=True)
    subprocess.run(["objcopy", f"--dump-section=.BTF={section}", built], check=True)
    return section.read_bytes()


def test_whole_file_is_read(small_btf: bytes) -> None:
    layouts = btf.struct_layouts(small_btf, ["outer", "inner"])
    assert layouts["inner"].members == {"number": 0, "small": 4}
    members = layouts["outer"].members
    assert (members["word"], members["low"], members["high"]) == (8, 8, 9)
    assert "flag" not in members and {"call", "text"} <= members.keys()
    assert btf.one_byte_enums(small_btf) == {"small"}
    assert btf.function_numbers(small_btf, ["use", "none"]).keys() == {"use"}


@pytest.mark.parametrize("reader", READERS)
def test_file_cut_off_anywhere_is_refused(
    reader: Callable[[bytes], object], small_btf: bytes
) -> None:
    for size in range(len(small_btf)):
        with pytest.raises(btf.BtfFormatError, match="no header" if size < 24 else "is cut off"):
            reader(small_btf[:size])


@settings(max_examples=400, deadline=None)
@given(data=st.data())
def test_changed_bytes_are_refused_or_read_and_never_crash(
    small_btf: bytes, data: st.DataObject
) -> None:
    changed = bytearray(small_btf)
    for _ in range(data.draw(st.integers(1, 4))):
        changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    for reader in READERS:
        try:
            reader(bytes(changed))
        except btf.BtfFormatError as error:
            assert "BTF" in str(error)


def made(types: bytes, text: bytes) -> bytes:
    header = struct.pack("<HBBIIIII", 0xEB9F, 1, 0, 24, 0, len(types), len(types), len(text))
    return header + types + text


@pytest.mark.parametrize(
    ("types", "text", "message"),
    [
        (bytes(11), b"\0", "type 1 of the BTF does not end"),
        (struct.pack("<III", 1, 4 << 24 | 1, 4), b"\0x\0", "type 1 of the BTF does not end"),
        (struct.pack("<III", 9, 4 << 24, 4), b"\0x\0", "no name at 9 of the BTF's text"),
        (struct.pack("<III", 1, 4 << 24, 4), b"\0x", "no name at 1 of the BTF's text"),
        (struct.pack("<III", 1, 4 << 24, 4), b"\0\xff\0", "name at 1 of the BTF's text"),
        (
            struct.pack("<IIIIII", 1, 4 << 24 | 1, 4, 0, 1, 0),
            b"\0outer\0",
            "type 1 of the BTF contains itself",
        ),
    ],
)
def test_damage_is_told_with_its_place(types: bytes, text: bytes, message: str) -> None:
    with pytest.raises(btf.BtfFormatError, match=message):
        btf.struct_layouts(made(types, text), ["outer"])


def kernel_btf() -> bytes:
    if not BTF.exists():
        pytest.fail(f"{BTF} is missing: this test needs a kernel with BTF")
    return BTF.read_bytes()


@pytest.mark.parametrize("share", [0.0, 0.000001, 0.3, 0.7, 0.999999])
def test_header_tree_names_the_damaged_file_and_the_remedy(share: float, tmp_path: Path) -> None:
    content = kernel_btf()
    file = tmp_path / "cut.btf"
    file.write_bytes(content[: int(len(content) * share)])
    root = tmp_path / "tree"
    root.mkdir()
    with pytest.raises(BtfUnavailableError) as caught:
        write_header_tree(root, file, "6.1.0", ["task_struct"])
    assert str(caught.value).startswith(f"{file} is damaged: BTF ")
    assert str(caught.value).endswith("read it again from /sys/kernel/btf/vmlinux of its kernel")
    assert list(root.iterdir()) == []


def test_kernel_without_a_needed_struct_is_told(small_btf: bytes, tmp_path: Path) -> None:
    file = tmp_path / "small.btf"
    file.write_bytes(small_btf)
    root = tmp_path / "tree"
    root.mkdir()
    with pytest.raises(BtfUnavailableError, match="no struct cgroup_namespace with a member ns"):
        write_header_tree(root, file, "6.1.0", ["outer"])


def test_compiling_for_a_damaged_file_ends_with_its_message_alone(tmp_path: Path) -> None:
    file, output = tmp_path / "cut.btf", tmp_path / "out" / "programs.json"
    file.write_bytes(kernel_btf()[:100_000])
    output.parent.mkdir()
    command = [sys.executable, "-m", "headwater_agent.compile", str(file), "6.1.0", "lsm"]
    done = subprocess.run([*command, str(output)], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"{file} is damaged: BTF is cut off: it has 100000 bytes")
    assert len(done.stderr.splitlines()) == 1
    assert list(output.parent.iterdir()) == []


def test_probe_reports_a_damaged_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "cut.btf"
    file.write_bytes(kernel_btf()[:100_000])
    monkeypatch.setattr(probe, "BTF", file)
    report = probe.probe()
    assert not report.can_capture
    assert "is cut off" in report.explain()
