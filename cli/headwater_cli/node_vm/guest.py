# SPDX-License-Identifier: Apache-2.0
"""Process 1 of the node VM: mounts what a node has, runs one command, reports how it ended.

Why: the command must meet what it would meet outside (its directory, environment, limits, streams,
any byte in its arguments), and the other side must learn its status. Started by the initramfs
with the system's Python and no packages, so this module imports the standard library only and
nothing of Headwater. The other end of its ports is `vm`.

Protocol on the control port, one JSON object per line. Inward: the request
{"argv", "env", "cwd": base64, "umask", "nofile", "hostname", "modules", "network"}, later
{"signal": n}. Outward: {"ready": true} before the command starts, {"exit": n} or {"signal": n}
after its output was sent and the files were synced, {"error": text} when it could not be started.
"""

import base64
import contextlib
import ctypes
import errno
import fcntl
import json
import os
import resource
import select
import signal
import socket
import struct
import time

CONTROL, STDIN, STDOUT, STDERR = (
    "headwater.control",
    "headwater.stdin",
    "headwater.stdout",
    "headwater.stderr",
)
_CHUNK = 65536
_NODEV_NOSUID = 0x4 | 0x2
_NOT_EXECUTABLE, _NOT_FOUND = 126, 127
_libc = ctypes.CDLL(None, use_errno=True)


def _mount(kind: str, target: str, options: str = "", flags: int = 0) -> None:
    """Mount a kernel file system; one that this kernel lacks is left out."""
    with contextlib.suppress(FileExistsError, OSError):
        os.mkdir(target)
    _libc.mount(kind.encode(), target.encode(), kind.encode(), flags, options.encode())


def _bind(source: str, target: str) -> None:
    _libc.mount(source.encode(), target.encode(), None, 0x1000, None)


def mount_node_filesystems(modules: str) -> None:
    """Mount what a booted node has below /dev, /sys and /lib/modules."""
    _mount("devpts", "/dev/pts", "gid=5,mode=620,ptmxmode=666")
    _mount("tmpfs", "/dev/shm", "mode=1777", _NODEV_NOSUID)
    _mount("mqueue", "/dev/mqueue")
    _mount("cgroup2", "/sys/fs/cgroup")
    _mount("bpf", "/sys/fs/bpf", "mode=0700")
    _mount("securityfs", "/sys/kernel/security")
    _mount("debugfs", "/sys/kernel/debug")
    _mount("tracefs", "/sys/kernel/tracing")
    for name, target in (("fd", "fd"), ("stdin", "fd/0"), ("stdout", "fd/1"), ("stderr", "fd/2")):
        with contextlib.suppress(FileExistsError):
            os.symlink(f"/proc/self/{target}", f"/dev/{name}")
    os.makedirs("/run/lock", exist_ok=True)
    # The kernel loads further modules by this program. Their directory is that of the kernel that
    # runs, not of the machine's own.
    release = os.uname().release
    loader = "/run/headwater/modprobe"
    tree = "/run/headwater/modules"
    for prefix in ("lib", "usr/lib"):
        os.makedirs(f"{tree}/{prefix}/modules", exist_ok=True)
        os.symlink(modules, f"{tree}/{prefix}/modules/{release}")
    with open(loader, "w", encoding="ascii") as file:
        file.write(f'#!/bin/sh\nexec /sbin/modprobe -d {tree} "$@"\n')
    os.chmod(loader, 0o755)
    with open("/proc/sys/kernel/modprobe", "w", encoding="ascii") as file:
        file.write(loader)
    if os.path.isdir("/lib/modules") and not os.path.samefile(
        os.path.dirname(modules), "/lib/modules"
    ):
        _mount("tmpfs", "/lib/modules", "mode=0755")
        os.symlink(modules, f"/lib/modules/{release}")


def _interface_up(name: str, address: str = "", netmask: str = "") -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        for request, value in ((0x8916, address), (0x891C, netmask)):  # SIOCSIFADDR, SIOCSIFNETMASK
            if value:
                packed = struct.pack("16sHH4s8x", name.encode(), 2, 0, socket.inet_aton(value))
                fcntl.ioctl(control, request, packed)
        fcntl.ioctl(control, 0x8914, struct.pack("16sH14x", name.encode(), 0x1 | 0x40))  # IFF_UP


def _route_by(gateway: str) -> None:
    """Send everything by `gateway` (SIOCADDRT, struct rtentry on 64 bits)."""
    empty = struct.pack("HH12x", 2, 0)
    entry = struct.pack(
        "8x16s16s16sHhL8x4hP16x",
        empty,
        struct.pack("HH4s8x", 2, 0, socket.inet_aton(gateway)),
        empty,
        0x1 | 0x2,
        *(0, 0, 0, 0, 0, 0, 0),
    )
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, 0x890B, entry.ljust(120, b"\0"))


def set_up_network(user_network: bool) -> None:
    """Bring loopback up and, when wanted, QEMU's user network (addresses are its defaults)."""
    _interface_up("lo")
    if not user_network:
        return
    card = next((name for _, name in socket.if_nameindex() if name != "lo"), None)
    if card is None:
        return
    _interface_up(card, "10.0.2.15", "255.255.255.0")
    _route_by("10.0.2.2")
    # A resolver of the host's keeps the file below /run, which is the guest's own.
    target = os.path.realpath("/etc/resolv.conf")
    own = target if target.startswith("/run/") else "/run/headwater/resolv.conf"
    os.makedirs(os.path.dirname(own), exist_ok=True)
    with open(own, "w", encoding="ascii") as file:
        file.write("nameserver 10.0.2.3\n")
    if own != target:
        _bind(own, target)


def open_port(name: str, flags: int) -> int:
    """Open the virtio port called `name`, waiting for it to appear."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        for device in os.listdir("/sys/class/virtio-ports"):
            with open(f"/sys/class/virtio-ports/{device}/name", encoding="ascii") as file:
                if file.read().strip() == name:
                    return os.open(f"/dev/{device}", flags | os.O_CLOEXEC)
        time.sleep(0.02)
    raise OSError(errno.ENODEV, "no virtio port", name)


def _write_all(port: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(port, view) :]


class Control:
    """The line protocol of the control port."""

    def __init__(self) -> None:
        self.port = open_port(CONTROL, os.O_RDWR)
        self._pending = b""

    def read_line(self) -> dict[str, object]:
        """Wait for one object."""
        while b"\n" not in self._pending:
            self._pending += os.read(self.port, _CHUNK)
        line, _, self._pending = self._pending.partition(b"\n")
        loaded: dict[str, object] = json.loads(line)
        return loaded

    def send(self, message: dict[str, object]) -> None:
        """Send one object."""
        _write_all(self.port, json.dumps(message).encode() + b"\n")


def _decode(value: object) -> bytes:
    return base64.b64decode(str(value))


def _decode_all(values: object) -> list[bytes]:
    assert isinstance(values, list)
    return [_decode(value) for value in values]


def _become(request: dict[str, object], streams: tuple[int, int, int]) -> None:
    """In the child: take on the caller's circumstances and exec; never returns."""
    status = _NOT_EXECUTABLE
    arguments = _decode_all(request["argv"])
    shown = arguments[0].decode(errors="backslashreplace")
    try:
        os.setsid()
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
        for number in (signal.SIGPIPE, signal.SIGINT, signal.SIGTERM, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        with contextlib.suppress(OSError, ValueError):
            soft, hard = map(int, str(request["nofile"]).split())
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        os.umask(int(str(request["umask"])))
        os.chdir(_decode(request["cwd"]))
        pairs = (item.partition(b"=") for item in _decode_all(request["env"]))
        os.execvpe(arguments[0], arguments, {name: value for name, _, value in pairs})
    except FileNotFoundError:
        status = _NOT_FOUND
        os.write(2, f"headwater: {shown}: not found\n".encode())
    except BaseException as error:
        os.write(2, f"headwater: {shown}: {error}\n".encode())
    os._exit(status)


class Relay:
    """Carries the command's three streams between its pipes and the ports, until it has ended."""

    def __init__(self, control: Control, request: dict[str, object]) -> None:
        self._control = control
        self._stdin = open_port(STDIN, os.O_RDONLY | os.O_NONBLOCK)
        ports = open_port(STDOUT, os.O_WRONLY), open_port(STDERR, os.O_WRONLY)
        child_in, self._feed = os.pipe()
        out, child_out = os.pipe()
        err, child_err = os.pipe()
        self._outputs = {out: ports[0], err: ports[1]}
        self._wake, wake = os.pipe()
        for descriptor in (self._feed, self._wake, wake, out, err):
            os.set_blocking(descriptor, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        self._input = b""
        self.child = os.fork()
        if self.child == 0:
            _become(request, (child_in, child_out, child_err))
        for descriptor in (child_in, child_out, child_err):
            os.close(descriptor)
        self._status: int | None = None

    def run(self) -> int:
        """Relay until the command has ended and its output was sent; return its wait status."""
        poll = select.poll()
        for descriptor in (*self._outputs, self._wake, self._control.port, self._stdin):
            poll.register(descriptor, select.POLLIN)
        while self._status is None:
            for descriptor, _ in poll.poll():
                if descriptor in self._outputs:
                    if not self._carry(descriptor):
                        poll.unregister(descriptor)
                elif descriptor == self._wake:
                    os.read(self._wake, _CHUNK)
                    self._reap()
                elif descriptor == self._control.port:
                    number = int(str(self._control.read_line()["signal"]))
                    with contextlib.suppress(ProcessLookupError):
                        os.killpg(self.child, number)
                elif descriptor == self._stdin:
                    self._take_input(poll)
                elif descriptor == self._feed:
                    self._give_input(poll)
        # What the command wrote before its end is in the pipes; what others write later is not its.
        for descriptor in self._outputs:
            while self._carry(descriptor):
                pass
        return self._status

    def _carry(self, descriptor: int) -> bool:
        try:
            data = os.read(descriptor, _CHUNK)
        except BlockingIOError:
            return False
        if data:
            _write_all(self._outputs[descriptor], data)
        return bool(data)

    def _take_input(self, poll: select.poll) -> None:
        try:
            self._input = os.read(self._stdin, _CHUNK)
        except BlockingIOError:
            return
        poll.unregister(self._stdin)
        if not self._input:
            os.close(self._feed)
            return
        poll.register(self._feed, select.POLLOUT)

    def _give_input(self, poll: select.poll) -> None:
        try:
            self._input = self._input[os.write(self._feed, self._input) :]
        except BlockingIOError:
            return
        except BrokenPipeError:
            # The command does not read any more; nor need we.
            poll.unregister(self._feed)
            os.close(self._feed)
            return
        if not self._input:
            poll.unregister(self._feed)
            poll.register(self._stdin, select.POLLIN)

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid == self.child:
                self._status = status


def main() -> None:
    """Be process 1: set up, run the request, report, stop the machine."""
    os.environ["PATH"] = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    control = Control()
    request = control.read_line()
    mount_node_filesystems(str(request["modules"]))
    socket.sethostname(str(request["hostname"]))
    set_up_network(bool(request["network"]))
    control.send({"ready": True})
    status = Relay(control, request).run()
    os.sync()
    if os.WIFSIGNALED(status):
        control.send({"signal": os.WTERMSIG(status)})
    else:
        control.send({"exit": os.WEXITSTATUS(status)})


def _stop() -> None:
    """Switch the machine off; the other side usually does it first."""
    os.sync()
    _libc.reboot(0x4321FEDC)


if __name__ == "__main__":
    try:
        main()
    except BaseException as error:
        print(f"headwater-guest: {error!r}", flush=True)
    finally:
        time.sleep(0.2)
        _stop()
        while True:
            time.sleep(60)
