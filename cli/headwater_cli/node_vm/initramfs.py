# SPDX-License-Identifier: Apache-2.0
"""The few files a stock kernel starts from before it can see this machine's own.

Why: the root file system arrives over 9p, and 9p is a module. The archive holds a static busybox,
those modules, a script that loads them and mounts the root, and `guest.py`, which the script
starts as process 1. Called by `vm`; made anew for each run (some 5 MB, 50 ms), so nothing can be
stale. Format: cpio "newc", as the kernel's initramfs documentation defines it.
"""

import shlex
import shutil
import struct
from collections.abc import Sequence
from pathlib import Path

from headwater_cli.node_vm import guest, modules
from headwater_cli.node_vm.errors import NodeVmError
from headwater_cli.node_vm.kernels import Kernel

_DIRECTORY = 0o040755
_EXECUTABLE = 0o100755
_CONSOLE = 0o020600

ROOT_TAG = "headwater.root"
"""The 9p mount tag of this machine's root."""

# cache=loose: with any other mode 9p drops an inode at its last close, and with it the kernel's
# storage on that inode; a file written by one process and read by the next would be two objects.
# (Only the guest writes while it runs, and it syncs before its end.)
_MOUNT_OPTIONS = "trans=virtio,version=9p2000.L,msize=524288,cache=loose,access=any"

_INIT = """#!/bin/sh
/bin/busybox --install -s /bin
export PATH=/bin
fail() {{ echo "headwater-init: $*" > /dev/console; poweroff -f; }}
mount -t devtmpfs dev /dev || fail "no devtmpfs"
mount -t proc proc /proc
mount -t sysfs sys /sys
for module in {modules}; do
	insmod "/modules/$module" || fail "cannot load $module"
done
mount -t 9p -o {root_options} {root_tag} /newroot || fail "cannot mount the host's files"
{shares}
mount -t tmpfs -o mode=0755 run /newroot/run || fail "no directory /run in the root"
mkdir /newroot/run/headwater
cp /guest.py /newroot/run/headwater/guest.py
for directory in dev proc sys; do
	mount --move /$directory /newroot/$directory || fail "no directory /$directory in the root"
done
exec switch_root /newroot {interpreter} -I -S -B -u /run/headwater/guest.py
"""


class _Archive:
    """A cpio archive in memory."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._count = 0

    def add(
        self, name: str, mode: int, body: bytes = b"", device: tuple[int, int] = (0, 0)
    ) -> None:
        self._count += 1
        encoded = name.encode() + b"\0"
        fields = (self._count, mode, 0, 0, 1, 0, len(body), 0, 0, *device, len(encoded), 0)
        header = b"070701" + b"".join(b"%08X" % field for field in fields)
        head = header + encoded
        self._parts += [head, bytes(-len(head) % 4), body, bytes(-len(body) % 4)]

    def finish(self) -> bytes:
        self.add("TRAILER!!!", 0)
        return b"".join(self._parts)


def _is_static(program: bytes) -> bool:
    """Tell whether a 64-bit ELF program needs no interpreter (no PT_INTERP segment)."""
    (offset,) = struct.unpack_from("<Q", program, 32)
    size, count = struct.unpack_from("<HH", program, 54)
    kinds = (struct.unpack_from("<I", program, offset + size * index) for index in range(count))
    return all(kind != 3 for (kind,) in kinds)


def _busybox() -> bytes:
    path = shutil.which("busybox", path="/bin:/usr/bin:/usr/local/bin")
    content = Path(path).read_bytes() if path else b""
    if not content or not _is_static(content):
        raise NodeVmError(
            "the node VM's first process needs a static busybox",
            "apt-get install --no-install-recommends busybox-static",
        )
    return content


def build(
    kernel: Kernel,
    *,
    interpreter: str,
    writable: bool,
    shares: Sequence[tuple[str, str]],
    network: bool,
) -> bytes:
    """Return the archive for one run.

    Args:
        kernel: what will boot with it.
        interpreter: the guest path of a Python that runs `guest.py` without packages.
        writable: whether the guest may change this machine's files anywhere.
        shares: (mount tag, directory) pairs mounted writable over a root that is not.
        network: whether to bring the network card's driver.

    Raises:
        NodeVmError: busybox is missing or not static.
    """
    archive = _Archive()
    for directory in ("bin", "dev", "proc", "sys", "newroot", "modules", "run"):
        archive.add(directory, _DIRECTORY)
    archive.add("dev/console", _CONSOLE, device=(5, 1))
    archive.add("bin/busybox", _EXECUTABLE, _busybox())
    archive.add("bin/sh", 0o120777, b"busybox")
    names = modules.BOOT_MODULES + (modules.NETWORK_MODULES if network else ())
    files = modules.resolve(kernel.modules, names)
    loaded = [path.name.split(".ko")[0] + ".ko" for path in files]
    for path, name in zip(files, loaded, strict=True):
        archive.add(f"modules/{name}", 0o100644, modules.read(path))
    lines = []
    if not writable:
        lines.append("mount -t tmpfs -o mode=1777 tmp /newroot/tmp")
    for tag, directory in shares:
        target = shlex.quote("/newroot" + directory)
        lines.append(f"mkdir -p {target}")
        lines.append(f"mount -t 9p -o rw,{_MOUNT_OPTIONS} {tag} {target} || fail 'no {tag}'")
    script = _INIT.format(
        modules=" ".join(shlex.quote(name) for name in loaded),
        root_options=("rw," if writable else "ro,") + _MOUNT_OPTIONS,
        root_tag=ROOT_TAG,
        shares="\n".join(lines),
        interpreter=shlex.quote(interpreter),
    )
    archive.add("init", _EXECUTABLE, script.encode())
    archive.add("guest.py", 0o100644, Path(guest.__file__).read_bytes())
    return archive.finish()
