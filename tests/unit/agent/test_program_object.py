# SPDX-License-Identifier: Apache-2.0
"""Stored programs and their cache: whole or made again, private, keyed by what they come from."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from headwater_agent import btf, btf_headers, probe, program_cache
from headwater_agent.attach_points import CaptureMode, attach_point
from headwater_agent.program_object import (
    MapSpec,
    ProgramObject,
    ProgramObjectError,
    ProgramSpec,
    function_offsets,
    link_shared,
    replace_map_references,
    whole_program,
)
from hypothesis import given
from hypothesis import strategies as st

OBJECT = ProgramObject(
    (MapSpec("events", 27, 0, 0, 4096, 0),), (ProgramSpec("lsm", "file_open", 7, b"\0\xff" * 8),)
)


def load(kind: int, descriptor: int) -> bytes:
    return bytes([0x18, kind << 4, 0, 0]) + descriptor.to_bytes(4, "little") + bytes(8)


def test_object_survives_its_file() -> None:
    assert ProgramObject.decode(OBJECT.encode()) == OBJECT


@given(st.data())
def test_torn_or_changed_file_is_refused(data: st.DataObject) -> None:
    whole = OBJECT.encode()
    at = data.draw(st.integers(0, len(whole) - 1))
    changed = bytearray(whole)
    changed[at] ^= data.draw(st.integers(1, 255))
    for content in (bytes(changed), whole[:at]):
        with pytest.raises(ProgramObjectError, match="torn or was changed"):
            ProgramObject.decode(content)


@given(st.lists(st.tuples(st.sampled_from([None, 0, 1]), st.integers(0, 9))))
def test_only_map_references_are_replaced_and_back(items: list[tuple[int | None, int]]) -> None:
    code = b"".join(b"\xb7" + bytes(7) if kind is None else load(kind, n) for kind, n in items)
    there = {n: 100 + n for n in range(10)}
    expected = b"".join(
        b"\xb7" + bytes(7) if kind is None else load(kind, 100 + n if kind else n)
        for kind, n in items
    )
    assert replace_map_references(code, there) == expected
    assert replace_map_references(expected, {new: old for old, new in there.items()}) == code


def test_reference_to_no_known_map_is_refused() -> None:
    with pytest.raises(KeyError):
        replace_map_references(load(1, 5), {})


EXIT = b"\x95" + bytes(7)
MOVE = b"\xb7" + bytes(7)


def call(distance: int) -> bytes:
    return b"\x85\x10\0\0" + distance.to_bytes(4, "little", signed=True)


def jump(distance: int, operation: int = 0x15) -> bytes:
    return bytes([operation, 0]) + distance.to_bytes(2, "little", signed=True) + bytes(4)


HELPER = b"\x85" + bytes(3) + (5).to_bytes(4, "little")


@pytest.mark.parametrize(
    ("first", "called"),
    [
        (MOVE + EXIT, b""),
        (HELPER + EXIT, b""),
        (call(1) + EXIT, MOVE + EXIT),
        (call(1) + EXIT, jump(1) + EXIT + MOVE + EXIT),
        (call(1) + EXIT, jump(2) + MOVE + EXIT + jump(-3, 0x05)),
        (call(1) + EXIT, load(1, 7) + EXIT),
        (call(1) + EXIT, call(1) + EXIT + load(1, 7) + EXIT),
    ],
    ids=["alone", "helper", "called", "two ends", "loop at the end", "wide", "two levels"],
)
def test_program_has_the_functions_that_it_calls_and_no_more(first: bytes, called: bytes) -> None:
    memory = first + called + MOVE + EXIT

    def fetch(at: int) -> bytes:
        return memory[at : at + 8]

    assert whole_program(first, fetch) == first + called
    # A bcc that knows the whole section gives the same.
    assert whole_program(first + called, fetch) == first + called


UNRESOLVED = call(-1)


@pytest.mark.parametrize(
    ("program", "linked", "functions"),
    [
        (MOVE + EXIT, None, [0]),
        (call(1) + EXIT + MOVE + EXIT, None, [0, 16]),
        (UNRESOLVED + EXIT, call(1) + EXIT, [0, 16]),
        (UNRESOLVED + MOVE + UNRESOLVED + EXIT, call(3) + MOVE + call(1) + EXIT, [0, 32]),
        (call(1) + EXIT + UNRESOLVED + EXIT, call(1) + EXIT + call(1) + EXIT, [0, 16, 32]),
        (load(1, 7) + UNRESOLVED + EXIT, load(1, 7) + call(1) + EXIT, [0, 32]),
        (HELPER + UNRESOLVED + EXIT, HELPER + call(1) + EXIT, [0, 24]),
    ],
    ids=["alone", "calls its own", "calls it", "twice", "from within", "wide", "helper"],
)
def test_shared_function_lies_behind_each_program_that_calls_it(
    program: bytes, linked: bytes | None, functions: list[int]
) -> None:
    shared = MOVE + MOVE + EXIT
    if linked is None:
        assert link_shared(program, shared) == (program, 0)
        assert function_offsets(program) == functions
    else:
        code, shared_at = link_shared(program, shared)
        assert (code, shared_at) == (linked + shared, len(linked))
        assert function_offsets(code) == functions
        assert shared_at in functions


def test_types_of_functions_say_which_is_global() -> None:
    content, numbers = btf.function_types([False, True])
    assert numbers == [3, 4]
    # Behind the header an integer and a prototype, then the functions, 12 bytes each.
    functions = content[24 + 16 + 20 :][: 2 * 12]
    kinds = [functions[7], functions[12 + 7]]
    linkages = [int.from_bytes(functions[at + 4 : at + 6], "little") for at in (0, 12)]
    assert (kinds, linkages) == ([12, 12], [0, 1])


@pytest.fixture
def types(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HEADWATER_CACHE", str(tmp_path / "cache"))
    file = tmp_path / "btf"
    file.write_bytes(b"types")
    return file


def test_key_follows_everything_that_is_compiled(
    types: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    keys = [program_cache.program_key(types, "6.1.0"), program_cache.program_key(types, "6.1.1")]
    types.write_bytes(b"others")
    keys.append(program_cache.program_key(types, "6.1.0"))
    (tmp_path / "version.py").write_text("another bcc")
    monkeypatch.setattr(program_cache, "_BCC", tmp_path / "version.py")
    keys.append(program_cache.program_key(types, "6.1.0"))
    monkeypatch.setattr(program_cache, "read_program_text", lambda name: "another text")
    keys.append(program_cache.program_key(types, "6.1.0"))
    keys.append(program_cache.program_key(types, "6.1.0", CaptureMode.FENTRY))
    assert len(set(keys)) == len(keys)
    assert program_cache.program_key(types, "6.1.0") == keys[-2]


def test_corrupt_file_is_compiled_again(types: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Path] = []

    def fake(_btf: Path, _release: str, _mode: CaptureMode, file: Path) -> None:
        file.write_bytes(OBJECT.encode())
        made.append(file)

    monkeypatch.setattr(program_cache, "_compile", fake)
    for _ in range(2):
        assert program_cache.compiled_programs(types, "6.1.0") == OBJECT
    assert len(made) == 1
    made[0].write_bytes(OBJECT.encode()[:-1])
    assert program_cache.compiled_programs(types, "6.1.0") == OBJECT
    assert len(made) == 2


def test_directory_that_others_can_write_is_refused(types: Path, tmp_path: Path) -> None:
    programs = tmp_path / "cache" / "programs"
    programs.mkdir(parents=True)
    programs.chmod(0o770)
    with pytest.raises(program_cache.ProgramCacheError, match="chmod 700"):
        program_cache.compiled_programs(types, "6.1.0")


def test_missing_compiler_is_named_with_its_package(
    types: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = subprocess.CompletedProcess([], 1, "", "No module named 'bcc'")
    monkeypatch.setattr("subprocess.run", lambda *_args, **_options: failed)
    with pytest.raises(program_cache.ProgramCacheError, match="install python3-bpfcc"):
        program_cache.compiled_programs(types, "6.1.0")


def test_types_of_this_kernel_are_found() -> None:
    if not btf_headers.BTF.exists():
        pytest.fail(f"{btf_headers.BTF} is missing: this test needs a kernel with BTF")
    content = btf_headers.BTF.read_bytes()
    assert set(btf.function_numbers(content, ["vfs_read", "no_such"])) == {"vfs_read"}
    found = btf.struct_layouts(content, ["list_head", "no_such"])
    assert found == {"list_head": btf.StructLayout(16, {"next": 0, "prev": 8})}


@pytest.mark.parametrize("content", [b"", b"\x9f\xeb", bytes(64)])
def test_what_is_not_btf_is_refused(content: bytes) -> None:
    with pytest.raises(btf.BtfFormatError):
        btf.function_numbers(content, ["vfs_read"])


def test_probe_names_what_stands_in_the_way(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(probe, "BTF", tmp_path / "none")
    report = probe.probe()
    assert (report.can_capture, report.mode, report.btf) == (False, "unsupported", False)
    assert "CONFIG_DEBUG_INFO_BTF" in report.explain()
    assert "older than 6.1" in probe._age("5.10.0-1")[0].what and not probe._age("6.1.0")
    monkeypatch.setattr("os.geteuid", lambda: 0)
    refusal = probe._refused(PermissionError(1, "no"), CaptureMode.LSM)
    assert (refusal.what, "node VM" in refusal.remedy) == (
        "the kernel refuses LSM programs even to root",
        True,
    )
    assert "fexit" in probe._refused(PermissionError(1, "no"), CaptureMode.FENTRY).what
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert probe._refused(PermissionError(1, "no"), CaptureMode.LSM).what == "not root"


def test_best_mode_that_works_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    refused: dict[CaptureMode, list[probe.Finding]] = {
        CaptureMode.LSM: [probe.Finding("no LSM", "boot")],
        CaptureMode.FENTRY: [],
        CaptureMode.TRACEPOINT: [],
    }
    monkeypatch.setattr(probe, "_attempt", lambda mode, _lsms: refused[mode])
    monkeypatch.setattr(probe, "_age", lambda _release: [])
    report = probe.probe()
    assert (report.mode, report.can_capture, report.explain()) == (CaptureMode.FENTRY, True, "")
    assert report.explain(CaptureMode.LSM) == "no LSM (boot)"
    assert report.findings[0].what == "no LSM"
    refused[CaptureMode.FENTRY] = [probe.Finding("no fexit", "boot")]
    assert probe.probe().mode is CaptureMode.TRACEPOINT
    refused[CaptureMode.TRACEPOINT] = [probe.Finding("no tracepoints", "boot")]
    assert probe.probe().explain() == "no LSM (boot); no fexit (boot); no tracepoints (boot)"


@pytest.mark.parametrize(
    ("hook", "function"),
    [
        ("file_open", "security_file_open"),
        ("inode_free_security", "security_inode_free"),
        ("sk_free_security", "security_sk_free"),
        ("bprm_check_security", "security_bprm_check"),
        ("bprm_committed_creds", "security_bprm_committed_creds"),
    ],
)
def test_hook_is_the_exit_of_the_function_that_calls_it(hook: str, function: str) -> None:
    content = btf_headers.BTF.read_bytes()
    assert function in btf.function_numbers(content, [function])
    nothing = btf.functions_without_result(content)
    point = attach_point("lsm", hook, CaptureMode.FENTRY, nothing)
    assert point.functions == (function,)
    # What is freed is there at the entry only.
    expected = "fentry" if hook.startswith(("inode_free", "sk_free", "bprm_committed")) else "fexit"
    assert point.name == f"{expected}:{function}"
    assert attach_point("lsm", hook, CaptureMode.LSM).functions == (f"bpf_lsm_{hook}",)
