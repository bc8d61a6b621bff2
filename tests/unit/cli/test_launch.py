# SPDX-License-Identifier: Apache-2.0
"""COMMAND is held until it is in scope, and its fate comes through unchanged (G1)."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from headwater_cli.errors import ExitStatus, Failure
from headwater_cli.launch import HeldCommand, resolve

RELAY = """
import sys
from headwater_cli.launch import HeldCommand, SignalRelay
with HeldCommand(sys.argv[1:]) as held:
    SignalRelay.block()
    with SignalRelay(held.pid):
        held.release()
        print("released", flush=True)
        status = held.wait()
sys.exit(status)
"""


def test_nothing_runs_before_release(tmp_path: Path) -> None:
    with HeldCommand(["touch", str(tmp_path / "made")]) as held:
        time.sleep(0.1)
        assert not (tmp_path / "made").exists()
        held.release()
        assert held.wait() == 0
    assert (tmp_path / "made").exists()


def test_command_that_is_abandoned_never_runs(tmp_path: Path) -> None:
    with HeldCommand(["touch", str(tmp_path / "made")]):
        pass
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    ("script", "status"), [("exit 0", 0), ("exit 3", 3), ("kill -KILL $$", 137), ("kill $$", 143)]
)
def test_status_is_what_a_shell_reports(script: str, status: int) -> None:
    with HeldCommand(["sh", "-c", script]) as held:
        held.release()
        assert held.wait() == status


@pytest.mark.parametrize("name", ["no-such-command-here", "./no-such-file", "/no/such/file"])
def test_missing_command_is_127(name: str) -> None:
    with pytest.raises(Failure) as failure:
        HeldCommand([name])
    assert failure.value.exit_code == ExitStatus.NOT_FOUND
    assert name in failure.value.message


def test_file_without_x_bit_is_126(tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.write_text("data")
    with pytest.raises(Failure) as failure:
        resolve(str(plain))
    assert failure.value.exit_code == ExitStatus.NOT_EXECUTABLE
    assert "chmod +x" in failure.value.remedy


def test_missing_interpreter_is_127_and_broken_format_is_run_by_the_shell(tmp_path: Path) -> None:
    orphan = tmp_path / "orphan"
    orphan.write_text("#!/no/such/interpreter\n")
    orphan.chmod(0o755)
    with HeldCommand([str(orphan)]) as held, pytest.raises(Failure) as failure:
        held.release()
    assert failure.value.exit_code == ExitStatus.NOT_FOUND

    bare = tmp_path / "bare"
    bare.write_text("exit 7\n")
    bare.chmod(0o755)
    with HeldCommand([str(bare)]) as held:
        held.release()
        assert held.wait() == 7


def test_a_signal_sent_to_us_reaches_the_command_once() -> None:
    script = "trap 'echo got; exit 9' TERM; echo ready; while :; do sleep 0.05; done"
    with subprocess.Popen(
        [sys.executable, "-c", RELAY, "sh", "-c", script], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline(), process.stdout.readline()]
        assert sorted(lines) == ["ready\n", "released\n"]
        os.kill(process.pid, signal.SIGTERM)
        assert process.stdout.read() == "got\n"
        assert process.wait(20) == 9


def test_command_keeps_descriptors_environment_and_a_clean_signal_mask() -> None:
    script = (
        "import os,signal,sys; print(sys.stdin.read(), os.environ['HW_TEST'],"
        " sorted(signal.pthread_sigmask(signal.SIG_BLOCK, [])),"
        " signal.getsignal(signal.SIGPIPE) is signal.SIG_IGN)"
    )
    result = subprocess.run(
        [sys.executable, "-c", RELAY, sys.executable, "-c", script],
        input="from stdin",
        env={**os.environ, "HW_TEST": "kept"},
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    # Python itself sets SIGPIPE to ignored at its start, so that value says nothing about us.
    assert "from stdin kept []" in result.stdout
