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
from collections.abc import Mapping, Sequence

from headwater_cli.node_vm.errors import NodeVmError
from headwater_cli.node_vm.initramfs import ROOT_TAG
from headwater_cli.node_vm.kernels import Kernel

LSM_ORDER = "lsm=lockdown,capability,landlock,yama,apparmor,bpf"
"""Debian's own order with BPF LSM in it; said aloud because other builds leave it out."""

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


@functools.cache
def kvm_works() -> bool:
    """Tell whether QEMU can make a virtual CPU with KVM.

    A device file proves nothing: in a nested guest it opens, makes a machine and then fails at
    the first register. So a machine is made, with its CPU, and thrown away before it runs.
    """
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return False
    probe = [executable(), "-accel", "kvm", "-cpu", "host", "-machine", "pc", "-m", "16", "-S"]
    probe += ["-display", "none", "-nodefaults", "-no-user-config", "-monitor", "stdio"]
    try:
        done = subprocess.run(probe, input=b"quit\n", capture_output=True, timeout=10, check=False)
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0


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
        words += ["-accel", "kvm", "-cpu", "host"]
    else:
        words += ["-accel", "tcg", "-cpu", "max"]
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
