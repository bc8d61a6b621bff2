# SPDX-License-Identifier: Apache-2.0
"""Start the node VM, carry one command's streams, and return the status it ended with.

Why: for its caller a command in the node VM is a command: same directory and files, output as it
comes, its own exit status, Ctrl-C as usual. Called by the verb `trace`, the kernel tests and the
benchmarks. The other end is `guest`.
"""

import base64
import contextlib
import json
import os
import resource
import select
import selectors
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType

from headwater_cli.errors import SIGNAL_BASE
from headwater_cli.node_vm import initramfs, qemu
from headwater_cli.node_vm.errors import NodeVmError
from headwater_cli.node_vm.guest import CONTROL, STDERR, STDIN, STDOUT
from headwater_cli.node_vm.kernels import Kernel, find_kernel

BOOT_TIMEOUT_S = 180.0
"""Emulated, on a busy machine, a boot takes 10 to 40 s; beyond this it hangs."""

KILL_TIMEOUT_S = 10.0
"""How long a signalled command may take to end before the machine is switched off."""

_FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
_CHUNK = 65536


def _encoded(value: bytes) -> str:
    return base64.b64encode(value).decode()


class NodeVm:
    """A stock kernel over this machine's files. Each `run` boots anew."""

    def __init__(
        self,
        kernel: Kernel | str = "",
        *,
        memory: str = "2G",
        cpus: int = 2,
        read_write: Sequence[str | Path] | None = None,
        icount: bool = False,
        append: str = "",
        network: bool = False,
    ) -> None:
        """Choose the machine.

        Args:
            kernel: a kernel, or the beginning of a release ("6.12"); empty for the default.
            memory: of the guest, in QEMU's notation.
            cpus: number of virtual CPUs; 1 when `icount`.
            read_write: the directories in which the guest may change this machine's files (the
                rest is read-only, /tmp is the guest's own); None for everywhere, as outside.
            icount: guest time counts executed instructions: exact costs, no wall time.
            append: further kernel parameters.
            network: QEMU's user network: the guest reaches what its host reaches.

        Raises:
            NodeVmError: no such kernel.
        """
        self.kernel = kernel if isinstance(kernel, Kernel) else find_kernel(kernel)
        self.memory = memory
        self.cpus = cpus
        self.icount = icount
        self.append = append
        self.network = network
        self.writable = read_write is None
        self.shares = [
            (f"headwater.share{number}", str(Path(path).resolve()))
            for number, path in enumerate(read_write or ())
        ]

    def run(
        self,
        argv: Sequence[str | bytes],
        *,
        cwd: str | Path | None = None,
        env: Mapping[str, str] | Mapping[bytes, bytes] | None = None,
        stdin: int | None = None,
        stdout: int | None = None,
        stderr: int | None = None,
        timeout_s: float | None = None,
    ) -> int:
        """Boot, run one command as root, switch off.

        Signals INT, TERM, HUP and QUIT go to the command; the second one, or a command that does
        not end within 10 s of the first, switches the machine off.

        Args:
            argv: the command and its arguments; any bytes.
            cwd: its directory; the caller's own by default.
            env: its whole environment; the caller's own by default.
            stdin: a descriptor to read from; 0 by default, -1 for nothing.
            stdout: a descriptor to write to; 1 by default, -1 for nowhere.
            stderr: a descriptor to write to; 2 by default, -1 for nowhere.
            timeout_s: for everything, the boot included; None for no limit.

        Returns:
            The exit status, or 128 + n when signal n ended the command.

        Raises:
            NodeVmError: QEMU or busybox is missing, the guest did not boot, or it went away.
            TimeoutError: `timeout_s` passed; the machine is off.
        """
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        umask = os.umask(0o077)
        os.umask(umask)
        variables = os.environb if env is None else {_b(k): _b(v) for k, v in env.items()}
        request = {
            "argv": [_encoded(os.fsencode(item)) for item in argv],
            "env": [_encoded(name + b"=" + value) for name, value in variables.items()],
            "cwd": _encoded(os.fsencode(Path(cwd or ".").absolute())),
            "umask": umask,
            "nofile": f"{soft} {hard}",
            "hostname": socket.gethostname(),
            "modules": str(self.kernel.modules.resolve()),
            "network": self.network,
        }
        streams = (
            0 if stdin is None else stdin,
            1 if stdout is None else stdout,
            2 if stderr is None else stderr,
        )
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        session = _Session(self)
        try:
            return session.run(request, streams, deadline)
        finally:
            session.close()


def _b(value: str | bytes) -> bytes:
    return os.fsencode(value)


class _Session:
    """One boot: the QEMU process, its four sockets, and what was learnt from the guest."""

    def __init__(self, vm: NodeVm) -> None:
        image = initramfs.build(
            vm.kernel,
            interpreter=os.path.realpath("/usr/bin/python3"),
            writable=vm.writable,
            shares=vm.shares,
            network=vm.network,
        )
        # In memory, so that nothing is left behind however this process ends.
        self._said = {name: os.memfd_create(name) for name in ("qemu", "console")}
        start = os.memfd_create("initramfs")
        os.write(start, image)
        self._sockets: dict[str, socket.socket] = {}
        far: dict[str, socket.socket] = {}
        for name in (CONTROL, STDIN, STDOUT, STDERR):
            self._sockets[name], far[name] = socket.socketpair()
        words = qemu.command(
            vm.kernel,
            memory=vm.memory,
            cpus=vm.cpus,
            icount=vm.icount,
            append=vm.append,
            writable=vm.writable,
            shares=vm.shares,
            network=vm.network,
            initramfs=start,
            console=self._said["console"],
            ports={name: end.fileno() for name, end in far.items()},
        )
        inherited = [start, self._said["console"], *(end.fileno() for end in far.values())]
        # Own session: Ctrl-C reaches the command through us. The parent's death ends QEMU, too.
        self._process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", "--", *words],
            stdin=subprocess.DEVNULL,
            stdout=self._said["qemu"],
            stderr=self._said["qemu"],
            pass_fds=inherited,
            start_new_session=True,
        )
        os.close(start)
        for end in far.values():
            end.close()
        self._ready = False
        self._status: int | None = None
        self._lines = b""
        self._signalled = 0
        self._signals: list[int] = []

    def close(self) -> None:
        """Switch off."""
        for end in self._sockets.values():
            end.close()
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        for descriptor in self._said.values():
            os.close(descriptor)

    def run(
        self,
        request: Mapping[str, object],
        streams: tuple[int, int, int],
        deadline: float | None,
    ) -> int:
        """Carry the streams until the guest reported; see `NodeVm.run`."""
        self._send(request)
        boot_deadline = time.monotonic() + BOOT_TIMEOUT_S
        end_deadline: float | None = None
        outputs = {STDOUT: streams[1], STDERR: streams[2]}
        with self._signal_pipe() as wake, selectors.DefaultSelector() as selector:
            selector.register(wake, selectors.EVENT_READ, "wake")
            for name in (CONTROL, STDOUT, STDERR):
                selector.register(self._sockets[name], selectors.EVENT_READ, name)
            feeder = _Feeder(selector, streams[0], self._sockets[STDIN])
            while self._status is None:
                limits = [deadline, end_deadline, None if self._ready else boot_deadline]
                nearest = min((limit for limit in limits if limit is not None), default=None)
                wait = None if nearest is None else max(0.0, nearest - time.monotonic())
                events = selector.select(wait)
                if not events and nearest is not None and time.monotonic() >= nearest:
                    if nearest == deadline:
                        raise TimeoutError("the command in the node VM ran out of time")
                    if nearest == end_deadline:
                        return SIGNAL_BASE + self._signalled
                    raise self._failure(f"the kernel did not boot within {BOOT_TIMEOUT_S:.0f} s")
                for key, _ in events:
                    if key.data == "wake":
                        os.read(wake, _CHUNK)
                        for number in self._signals:
                            if self._signalled or not self._ready:
                                return SIGNAL_BASE + number
                            self._signalled = number
                            end_deadline = time.monotonic() + KILL_TIMEOUT_S
                            self._send({"signal": number})
                        self._signals.clear()
                    elif key.data in outputs:
                        if not self._carry(self._sockets[key.data], outputs, key.data):
                            selector.unregister(key.fileobj)
                    elif key.data == CONTROL:
                        self._hear()
                    else:
                        feeder.step(key.data)
            # The guest sent its output before its report, on other sockets.
            for name in outputs:
                self._sockets[name].setblocking(False)
                with contextlib.suppress(BlockingIOError):
                    while self._carry(self._sockets[name], outputs, name):
                        pass
        return self._status

    def _carry(self, source: socket.socket, outputs: dict[str, int], name: str) -> bool:
        data = source.recv(_CHUNK)
        target = outputs[name]
        view = memoryview(data)
        while view and target >= 0:
            try:
                view = view[os.write(target, view) :]
            except BlockingIOError:
                select.select([], [target], [])
            except BrokenPipeError:
                # Nobody reads any more: the command learns it as it would outside.
                outputs[name] = -1
                self._send({"signal": int(signal.SIGPIPE)})
                break
        return bool(data)

    def _send(self, message: Mapping[str, object]) -> None:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._sockets[CONTROL].sendall(json.dumps(message).encode() + b"\n")

    def _hear(self) -> None:
        try:
            data = self._sockets[CONTROL].recv(_CHUNK)
        except ConnectionResetError:
            data = b""
        if not data:
            self._process.wait()
            what = "went away under the command" if self._ready else "did not boot"
            raise self._failure(f"the node VM {what}")
        self._lines += data
        while b"\n" in self._lines:
            line, _, self._lines = self._lines.partition(b"\n")
            message = json.loads(line)
            if "ready" in message:
                self._ready = True
            elif "exit" in message:
                self._status = int(message["exit"])
            elif "signal" in message:
                self._status = SIGNAL_BASE + int(message["signal"])

    def _failure(self, what: str) -> NodeVmError:
        """Return the error with the ends of QEMU's own messages and of the guest's console."""
        tail = ""
        for descriptor in self._said.values():
            size = os.fstat(descriptor).st_size
            text = os.pread(descriptor, 4096, max(0, size - 4096)).decode(errors="replace")
            lines = text.replace("\r", "").rstrip().splitlines()[-20:]
            tail += "".join(f"\n  | {line}" for line in lines)
        return NodeVmError(
            what + (f"; it last said:{tail}" if tail else ", and it said nothing"),
            "try another kernel or more memory; docs/development.md says how to see the console",
        )

    @contextlib.contextmanager
    def _signal_pipe(self) -> Iterator[int]:
        """Collect the forwarded signals while the command runs (in the main thread only)."""
        read_end, write_end = os.pipe()
        os.set_blocking(write_end, False)

        def note(number: int, _: FrameType | None) -> None:
            self._signals.append(number)
            with contextlib.suppress(BlockingIOError):
                os.write(write_end, b"s")

        previous = {}
        if threading.current_thread() is threading.main_thread():
            previous = {number: signal.signal(number, note) for number in _FORWARDED}
        try:
            yield read_end
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)
            os.close(read_end)
            os.close(write_end)


class _Feeder:
    """Standard input on its way to the guest; never more than one piece is held."""

    def __init__(
        self, selector: selectors.BaseSelector, source: int, target: socket.socket
    ) -> None:
        self._selector = selector
        self._source = source
        self._target = target
        self._pending = b""
        target.setblocking(False)
        self._always_readable = False
        if source < 0:
            self._end()
            return
        try:
            selector.register(source, selectors.EVENT_READ, "input")
        except PermissionError:
            # epoll does not take regular files: they are always readable.
            self._always_readable = True
            selector.register(target, selectors.EVENT_WRITE, "feed")
        except (OSError, ValueError):
            self._end()

    def step(self, event: str) -> None:
        """Take from the source or give to the target, whichever `event` says is possible."""
        if event == "input" or (self._always_readable and not self._pending):
            self._take()
        elif self._pending:
            self._give()

    def _take(self) -> None:
        try:
            self._pending = os.read(self._source, _CHUNK)
        except BlockingIOError:
            return
        except OSError:
            self._pending = b""
        if not self._always_readable:
            self._selector.unregister(self._source)
        if not self._pending:
            if self._always_readable:
                self._selector.unregister(self._target)
            self._end()
        elif not self._always_readable:
            self._selector.register(self._target, selectors.EVENT_WRITE, "feed")

    def _give(self) -> None:
        try:
            self._pending = self._pending[self._target.send(self._pending) :]
        except BlockingIOError:
            return
        except (BrokenPipeError, ConnectionResetError):
            self._pending = b""
        if not self._pending and not self._always_readable:
            self._selector.unregister(self._target)
            self._selector.register(self._source, selectors.EVENT_READ, "input")

    def _end(self) -> None:
        with contextlib.suppress(OSError):
            self._target.shutdown(socket.SHUT_WR)
