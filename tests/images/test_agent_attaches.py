# SPDX-License-Identifier: Apache-2.0
"""What is in the agent's image attaches every hook, with the chart's two capabilities.

Compiled on this machine for the guest's types, because an emulated processor takes minutes for
what takes seconds here; attached in a node VM. bpftool, bcc, LLVM and the compiled modules are the
image's, the root is read-only, and of root's capabilities only BPF and PERFMON are left, as the
DaemonSet has it.
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from headwater_cli.node_vm import find_kernel
from headwater_cli.node_vm.programs import types_of

from tests.images.unpacking import BUILD_S, built

pytestmark = pytest.mark.timeout(BUILD_S)

ENTER = r"""
import ctypes, os, subprocess, sys
root, *command = sys.argv[1:]
libc = ctypes.CDLL(None, use_errno=True)
def mount(*words):
    subprocess.run(["mount", *words], check=True)
mount("--bind", root, root)
for place in ("proc", "sys", "dev"):
    mount("--rbind", "/" + place, root + "/" + place)
mount("-t", "tmpfs", "tmpfs", root + "/tmp")
state = root + "/var/lib/headwater"
mount("--bind", state, state)
mount("-o", "remount,bind,ro", root)
os.chroot(root)
os.chdir("/")
BPF, PERFMON, DROP = 39, 38, 24  # linux/capability.h, PR_CAPBSET_DROP
for number in range(41):
    if number not in (BPF, PERFMON):
        assert libc.prctl(DROP, number, 0, 0, 0) == 0
os.environ.clear()
os.environ["PATH"] = "/opt/headwater/bin:/usr/sbin:/usr/bin"
os.environ["HEADWATER_CACHE"] = "/var/lib/headwater"
os.execvp(command[0], command)
"""

COMPILE = """
import sys
from pathlib import Path
from headwater_agent.attach_points import CaptureMode
from headwater_agent.program_cache import compiled_programs
compiled_programs(Path("/var/lib/headwater/btf"), sys.argv[1], CaptureMode.LSM)
"""

ATTACH = """
import json, os
from headwater_agent.load import Capture
[held] = [line.split()[1] for line in open("/proc/self/status") if line.startswith("CapEff")]
try:
    open("/written", "w")
    writable = True
except OSError:
    writable = False
with Capture(ring_bytes=65536) as capture:
    said = {"mode": capture.mode, "hooks": capture.attached, "held": held, "writable": writable}
    print(json.dumps(said))
"""


def test_all_hooks_attach_with_two_capabilities_on_a_read_only_root(tmp_path: Path) -> None:
    image = built("agent", tmp_path / "agent")
    kernel = find_kernel("6.12")
    cache = image.root / "var/lib/headwater"
    cache.mkdir(parents=True)
    shutil.copy(types_of(kernel), cache / "btf")
    compiled = image.run(
        *("env", "HEADWATER_CACHE=/var/lib/headwater", "python3", "-c", COMPILE, kernel.release)
    )
    assert compiled.returncode == 0, compiled.stderr
    script = tmp_path / "enter.py"
    script.write_text(ENTER)
    words = ["/usr/bin/python3", str(script), str(image.root), "python3", "-c", ATTACH]
    done = subprocess.run(
        [sys.executable, "-m", "headwater_cli.node_vm", "--kernel", "6.12", "--", *words],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=BUILD_S / 2,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    said = json.loads(done.stdout)
    assert int(said["held"], 16) == 1 << 39 | 1 << 38
    assert not said["writable"]
    assert said["mode"] == "lsm"
    assert len(said["hooks"]) > 50
    assert {name: how for name, how in said["hooks"].items() if how != "attached"} == {}
