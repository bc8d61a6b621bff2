# SPDX-License-Identifier: Apache-2.0
"""A command in the node VM is a command: its words, files, streams, status and signals.

Each test boots once, so each asks many things of its boot.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from headwater_cli.node_vm import NodeVm, NodeVmError

BOOT_S = 240.0
pytestmark = pytest.mark.timeout(300)


def run_with_output(argv: list[str | bytes], **options: object) -> tuple[int, bytes, bytes]:
    """Run in a VM with its output on pipes, read as it comes."""
    out_read, out_write = os.pipe()
    err_read, err_write = os.pipe()
    # Small outputs only: they fit into the pipes.
    try:
        status = NodeVm(cpus=1).run(
            argv,
            stdout=out_write,
            stderr=err_write,
            timeout_s=BOOT_S,
            **options,  # type: ignore[arg-type]
        )
    finally:
        os.close(out_write)
        os.close(err_write)
    with os.fdopen(out_read, "rb") as out, os.fdopen(err_read, "rb") as err:
        return status, out.read(), err.read()


def test_words_files_streams_and_status_are_the_callers_own(tmp_path: Path) -> None:
    source = tmp_path / "in put"
    source.write_bytes(b"first\nsecond")
    odd = [b"a b", b"'\"$(id)`", b"\xff\xfe\n", b"", b"-n"]
    script = (
        'import os, sys; sys.stdout.buffer.write(b"|".join(map(os.fsencode, sys.argv[1:])));'
        "data = sys.stdin.buffer.read();"
        'open("out put", "wb").write(data.upper());'
        "os.chmod('out put', 0o640);"
        "print(os.getcwd(), os.environ['HW_ODD'], oct(os.umask(0)), file=sys.stderr);"
        "sys.exit(43)"
    )
    descriptor = os.open(source, os.O_RDONLY)
    umask = os.umask(0o027)
    try:
        status, out, err = run_with_output(
            [sys.executable, "-c", script, *odd],
            cwd=tmp_path,
            env={"HW_ODD": "x=y z", "PATH": os.environ["PATH"]},
            stdin=descriptor,
        )
    finally:
        os.umask(umask)
        os.close(descriptor)
    assert (status, out) == (43, b"|".join(odd))
    assert err.decode() == f"{tmp_path} x=y z 0o27\n"
    assert (tmp_path / "out put").read_bytes() == b"FIRST\nSECOND"
    assert (tmp_path / "out put").stat().st_mode & 0o777 == 0o640


def test_guest_is_a_node_and_leaves_no_trace_on_the_host(tmp_path: Path) -> None:
    watched = ("/etc", "/etc/sudoers.d", "/lib/modules", "/var/tmp")
    before = {name: sorted(os.listdir(name)) for name in watched if Path(name).is_dir()}
    status, out, _ = run_with_output(
        [
            "sh",
            "-c",
            "cat /sys/kernel/security/lsm; echo; stat -f -c %T /sys/fs/cgroup /sys/fs/bpf;"
            "cat /sys/class/net/lo/operstate; hostname; touch /run/x /dev/shm/y; kill -TERM $$",
        ],
        stdin=-1,
    )
    assert status == 128 + signal.SIGTERM
    lines = out.decode().splitlines()
    assert "bpf" in lines[0].split(",")
    assert lines[1:3] == ["cgroup2fs", "bpf_fs"]
    assert lines[3:] == ["unknown", os.uname().nodename]
    assert before == {name: sorted(os.listdir(name)) for name in before}
    assert not Path("/run/x").exists()


def test_read_only_root_protects_all_but_the_named_directories(tmp_path: Path) -> None:
    shared = tmp_path / "may write"
    shared.mkdir()
    status = NodeVm(cpus=1, read_write=[shared]).run(
        ["sh", "-c", f"touch '{shared}/yes' && ! touch /etc/headwater-no 2>/dev/null"],
        stdin=-1,
        cwd="/",
        timeout_s=BOOT_S,
    )
    assert status == 0
    assert (shared / "yes").exists()
    assert not Path("/etc/headwater-no").exists()


def test_interrupt_reaches_the_command_and_its_status_comes_back(tmp_path: Path) -> None:
    started = tmp_path / "started"
    script = f"trap 'echo caught; exit 9' INT; touch {started}; while :; do sleep 0.1; done"
    command = [sys.executable, "-m", "headwater_cli.node_vm", "--cpus", "1", "--"]
    process = subprocess.Popen(
        [*command, "sh", "-c", script], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
    )
    try:
        deadline = time.monotonic() + BOOT_S
        while not started.exists() and time.monotonic() < deadline:
            time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert (process.returncode, out) == (9, b"caught\n")


def test_no_qemu_is_left_when_its_starter_is_killed(tmp_path: Path) -> None:
    started = tmp_path / "started"
    command = [sys.executable, "-m", "headwater_cli.node_vm", "--cpus", "1", "--"]
    process = subprocess.Popen(
        [*command, "sh", "-c", f"touch {started}; sleep 1000"], stdin=subprocess.DEVNULL
    )
    deadline = time.monotonic() + BOOT_S
    while not started.exists() and time.monotonic() < deadline:
        time.sleep(0.2)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    process.kill()
    process.wait()
    assert children
    deadline = time.monotonic() + 10
    while any(Path(f"/proc/{child}/exe").exists() for child in children):
        assert time.monotonic() < deadline, f"QEMU {children} outlived its starter"
        time.sleep(0.1)


def test_kernel_that_does_not_boot_is_an_error_with_the_consoles_words() -> None:
    with pytest.raises(NodeVmError, match=r"did not boot; it last said:[^$]*headwater-init"):
        # Without its transport the root cannot be mounted, which the init script says.
        NodeVm(cpus=1, append="module_blacklist=9pnet_virtio").run(["true"], stdin=-1)
