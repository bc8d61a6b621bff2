# SPDX-License-Identifier: Apache-2.0
"""What a stock kernel is given to start from."""

import lzma
import subprocess
from pathlib import Path

import pytest
import zstandard
from headwater_cli.node_vm import Kernel, NodeVmError, initramfs, modules, qemu


@pytest.fixture
def kernel(tmp_path: Path) -> Kernel:
    directory = tmp_path / "modules"
    (directory / "kernel").mkdir(parents=True)
    (directory / "kernel/9p.ko.xz").write_bytes(lzma.compress(b"9p"))
    (directory / "kernel/netfs.ko.zst").write_bytes(zstandard.compress(b"netfs"))
    (directory / "kernel/9pnet.ko").write_bytes(b"9pnet")
    (directory / "kernel/9pnet_virtio.ko").write_bytes(b"9pnet_virtio")
    (directory / "modules.dep").write_text(
        "kernel/9p.ko.xz: kernel/netfs.ko.zst kernel/9pnet.ko\n"
        "kernel/9pnet_virtio.ko: kernel/9pnet.ko\n"
        "kernel/9pnet.ko:\n"
        "kernel/netfs.ko.zst:\n"
    )
    return Kernel("6.1.0-1-amd64", tmp_path / "vmlinuz", directory)


def test_modules_come_after_what_they_need_and_once(kernel: Kernel) -> None:
    found = [path.name for path in modules.resolve(kernel.modules, modules.BOOT_MODULES)]
    assert found == ["9pnet.ko", "netfs.ko.zst", "9p.ko.xz", "9pnet_virtio.ko"]


def test_modules_are_unpacked_whatever_they_are_packed_with(kernel: Kernel) -> None:
    found = modules.resolve(kernel.modules, modules.BOOT_MODULES)
    assert [modules.read(path) for path in found] == [b"9pnet", b"netfs", b"9p", b"9pnet_virtio"]


def build(kernel: Kernel, **changes: object) -> bytes:
    wanted = {"interpreter": "/usr/bin/python3", "writable": True, "shares": (), "network": False}
    return initramfs.build(kernel, **(wanted | changes))  # type: ignore[arg-type]


def test_archive_is_one_that_cpio_understands(kernel: Kernel, tmp_path: Path) -> None:
    archive = build(kernel)
    listing = subprocess.run(
        ["busybox", "cpio", "-t"], input=archive, capture_output=True, check=True
    ).stdout.decode()
    names = listing.splitlines()
    assert {"init", "guest.py", "bin/busybox", "modules/9p.ko", "dev/console"} <= set(names)


def test_odd_names_stay_one_word_in_the_script(kernel: Kernel) -> None:
    archive = build(
        kernel, interpreter="/opt/it's a b/python3", writable=False, shares=[("t0", "/srv/$(x) y")]
    )
    assert b"'/opt/it'\"'\"'s a b/python3' -I -S" in archive
    assert b"'/newroot/srv/$(x) y'" in archive


def test_dynamic_busybox_is_refused_before_the_boot(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.which", lambda *_, **__: "/bin/ls")
    with pytest.raises(NodeVmError, match="static busybox") as caught:
        build(kernel)
    assert "busybox-static" in caught.value.remedy


def test_missing_qemu_is_an_error_with_a_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(NodeVmError, match="qemu-system-x86_64") as caught:
        qemu.executable()
    assert "apt-get install" in caught.value.remedy


def test_icount_is_one_cpu_without_kvm(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(qemu, "kvm_works", lambda: True)
    words = qemu.command(
        kernel,
        memory="1G",
        cpus=4,
        icount=True,
        append="a=b",
        writable=True,
        shares=[],
        network=False,
        initramfs=7,
        console=8,
        ports={"p": 9},
    )
    assert words[words.index("-smp") + 1] == "1"
    assert words[words.index("-accel") + 1] == "tcg"
    assert words[words.index("-append") + 1].endswith("a=b")


def test_a_guest_runs_at_speed_in_emulation() -> None:
    assert qemu.runs_at_speed(qemu.EMULATION)


def test_an_accelerator_that_does_not_run_the_guest_is_not_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # As with paravirtual KVM: a virtual CPU is made, and the guest does not come on.
    monkeypatch.setattr(qemu, "_PROBE_TIMEOUT_S", 1.0)
    assert not qemu.runs_at_speed(["-accel", "tcg", "-cpu", "max", "-S"])


def test_an_accelerator_that_does_not_exist_is_not_taken() -> None:
    assert not qemu.runs_at_speed(["-accel", "nonesuch"])
