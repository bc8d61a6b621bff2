# SPDX-License-Identifier: Apache-2.0
"""The words of one QEMU command line, and whether this machine's KVM can be used.

Why: what a guest sees (devices, clock, kernel parameters) is decided here and nowhere else.
Called by `vm`. QEMU is given inherited sockets for the command's streams, never names or shell
text, so the guest's end cannot be reached by another process.
"""

import functools
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from typing import Final

from headwater_cli.node_vm.errors import NodeVmError
from headwater_cli.node_vm.initramfs import ROOT_TAG
from headwater_cli.node_vm.kernels import Kernel

LSM_ORDER = "lsm=lockdown,capability,landlock,yama,apparmor,bpf"
"""Debian's own order with BPF LSM in it; said aloud because other builds leave it out."""

KVM: Final = ("-accel", "kvm", "-cpu", "host")
EMULATION: Final = ("-accel", "tcg", "-cpu", "max")

_PROBE_COUNT: Final = 1 << 25
"""Instructions by two: 20 ms on a CPU, 200 ms in QEMU's emulation, minutes where a hypervisor
emulates each of them."""

_PROBE_PORT: Final = 0xF4
_PROBE_STATUS: Final = 33
"""Of QEMU when the guest has written half of it to the port."""

_PROBE_TIMEOUT_S: Final = 3.0
"""QEMU takes a tenth of it to start on a busy machine. Too short costs speed, never a result."""

_QUIET = "console=ttyS0 quiet loglevel=3 panic=-1 random.trust_cpu=1 net.ifnames=0 biosdevname=0"


def executable() -> str:
    """Return the path of QEMU.

    Raises:
        NodeVmError: it is not installed.
    """
    found = shutil.which("qemu-system-x86_64")
    if found is None:
        raise NodeVmError(
            "the node VM needs QEMU, and qemu-system-x86_64 is not in PATH",
            "apt-get install --no-install-recommends qemu-system-x86",
        )
    return found


def _probe_image() -> bytes:
    """Return firmware that counts down and ends QEMU with :data:`_PROBE_STATUS`.

    16-bit code at the reset vector: mov ecx, count; again: dec ecx; jnz again; mov al, n;
    out port, al; hlt.
    """
    image = bytearray(b"\xf4" * 65536)
    code = b"\x66\xb9" + _PROBE_COUNT.to_bytes(4, "little") + b"\x66\x49\x75\xfc"
    code += bytes((0xB0, _PROBE_STATUS >> 1, 0xE6, _PROBE_PORT, 0xF4))
    image[0xFF00 : 0xFF00 + len(code)] = code
    image[0xFFF0:0xFFF3] = b"\xe9" + ((0xFF00 - 0xFFF3) & 0xFFFF).to_bytes(2, "little")
    return bytes(image)


def runs_at_speed(acceleration: Sequence[str]) -> bool:
    """Tell whether QEMU runs a guest's code with an accelerator, and in native time.

    Args:
        acceleration: QEMU's options that choose it.
    """
    with tempfile.NamedTemporaryFile(prefix="headwater-probe-") as firmware:
        firmware.write(_probe_image())
        firmware.flush()
        probe = [executable(), *acceleration, "-machine", "pc", "-m", "16", "-display", "none"]
        probe += ["-nodefaults", "-no-user-config", "-bios", firmware.name]
        probe += ["-device", f"isa-debug-exit,iobase={_PROBE_PORT},iosize=1"]
        try:
            done = subprocess.run(
                probe,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=_PROBE_TIMEOUT_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return False
    return done.returncode == _PROBE_STATUS


@functools.cache
def kvm_works() -> bool:
    """Tell whether KVM runs a stock kernel here.

    A device file proves nothing, nor does a virtual CPU that can be made: in a nested guest KVM may
    fail at the first register, or (paravirtual KVM, for kernels made for it) emulate every
    instruction, so that a kernel does not unpack itself within minutes. So a guest runs for 20 ms.
    """
    return os.access("/dev/kvm", os.R_OK | os.W_OK) and runs_at_speed(KVM)


def _quoted(value: str) -> str:
    """Return a value for a QEMU option list, in which a comma is written twice."""
    return value.replace(",", ",,")


def command(
    kernel: Kernel,
    *,
    memory: str,
    cpus: int,
    icount: bool,
    append: str,
    writable: bool,
    shares: Sequence[tuple[str, str]],
    network: bool,
    initramfs: int,
    console: int,
    ports: Mapping[str, int],
) -> list[str]:
    """Return the command that boots `kernel`.

    Args:
        kernel: image to boot.
        memory: of the guest, in QEMU's notation ("2G").
        cpus: number of virtual CPUs.
        icount: make guest time a count of executed instructions (one CPU, no KVM).
        append: further kernel parameters.
        writable: share this machine's root for writing.
        shares: (mount tag, directory) pairs shared for writing where the root is not.
        network: give the guest QEMU's user network.
        initramfs: the number of an inherited descriptor of the archive to start from.
        console: the number of an inherited descriptor that receives what the kernel says.
        ports: port name to the number of an inherited socket.
    """
    words = [executable(), "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"]
    words += ["-machine", "pc", "-m", memory, "-smp", str(1 if icount else cpus)]
    if kvm_works() and not icount:
        words += KVM
    else:
        words += EMULATION
    if icount:
        words += ["-icount", "shift=1,sleep=off"]
    words += ["-chardev", f"file,id=console,path=/proc/self/fd/{console}"]
    words += ["-serial", "chardev:console"]
    words += ["-device", "virtio-rng-pci", "-device", "virtio-serial-pci,id=ports,max_ports=8"]
    for number, (name, descriptor) in enumerate(ports.items(), start=1):
        words += ["-chardev", f"socket,id=port{number},fd={descriptor}"]
        words += ["-device", f"virtserialport,bus=ports.0,chardev=port{number},name={name}"]
    exports = [(ROOT_TAG, "/", writable), *((tag, path, True) for tag, path in shares)]
    for number, (tag, path, may_write) in enumerate(exports):
        access = "" if may_write else ",readonly=on"
        words += [
            "-fsdev",
            f"local,id=fs{number},path={_quoted(path)},security_model=none,multidevs=remap{access}",
            "-device",
            f"virtio-9p-pci,fsdev=fs{number},mount_tag={tag}",
        ]
    if network:
        words += ["-netdev", "user,id=net0", "-device", "virtio-net-pci,netdev=net0,romfile="]
    words += ["-kernel", str(kernel.image), "-initrd", f"/proc/self/fd/{initramfs}"]
    words += ["-append", f"{_QUIET} {LSM_ORDER} {append}".strip()]
    return words
