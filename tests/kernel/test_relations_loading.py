# SPDX-License-Identifier: Apache-2.0
"""What the kernel itself takes in: modules, kexec images, firmware, policies (G2)."""

import os
import subprocess
from pathlib import Path

import pytest
from headwater_cli.node_vm import find_kernel
from headwater_prov.vocabulary import Relation

from tests.kernel.graph import graph
from tests.kernel.lab import NO_LOOK_UPS, Lab, Tenant

FIRMWARE_PATH = Path("/sys/module/firmware_class/parameters/path")
TEST_FIRMWARE = Path("/sys/devices/virtual/misc/test_firmware/trigger_request")
IMA_POLICY = Path("/sys/kernel/security/ima/policy")


@pytest.mark.every_kernel
def test_module_from_a_file(tenant: Tenant, work: Path) -> None:
    assert tenant.lines(work, "load-module-file") == graph("""
        version_activity task.0 -> task.1
        load_file a.0 -> task.1 0x2
        memory_write task.1 -> memory.0
        load_module task.1 -> machine 0x2
        version_activity task.1 -> task.2
        read a.0 -> task.2 0x4
        memory_write task.2 -> memory.0
    """)


@pytest.mark.every_kernel
def test_module_from_memory(tenant: Tenant, work: Path) -> None:
    assert tenant.lines(work, "load-module-memory") == graph("""
        version_activity task.0 -> task.1
        memory_read memory.0 -> task.1
        load_module task.1 -> machine 0x2
    """)


def test_kexec_from_files(tenant: Tenant, work: Path) -> None:
    assert tenant.lines(work, "load-kexec-file")[:4] == graph("""
        version_activity task.0 -> task.1
        load_file a.0 -> task.1 0x3
        memory_write task.1 -> memory.0
        load_kexec_image task.1 -> machine 0x3
    """)


def test_kexec_from_memory(tenant: Tenant, work: Path) -> None:
    assert tenant.lines(work, "load-kexec-memory") == graph("""
        version_activity task.0 -> task.1
        memory_read memory.0 -> task.1
        load_kexec_image task.1 -> machine 0x3
    """)


def loading(lines: list[str]) -> list[str]:
    """Relation and sender of what concerns loading."""
    words = (line.split() for line in lines if line.startswith("load_"))
    return [f"{relation} {sender.partition('.')[0]}" for relation, sender, *_ in words]


@pytest.mark.every_kernel
def test_firmware(tenant: Tenant, work: Path) -> None:
    kernel = find_kernel(os.uname().release)
    (module,) = (kernel.modules / "kernel/lib").glob("test_firmware.ko*")
    if not TEST_FIRMWARE.exists():
        subprocess.run(["insmod", module], check=True)
    FIRMWARE_PATH.write_text(str(work))
    try:
        lines = tenant.lines(work, "load-by-writing", str(TEST_FIRMWARE), "a")
    finally:
        FIRMWARE_PATH.write_text(" ")
    assert loading(lines) == ["load_file a", "load_firmware task"]


def test_policy(tenant: Tenant, work: Path) -> None:
    lines = tenant.lines(work, "load-by-writing", str(IMA_POLICY), str(work / "a"))
    assert loading(lines) == ["load_file a", "load_policy task"]


@pytest.mark.parametrize(
    ("off", "left"),
    [
        (Relation.LOAD_FILE, ["load_module"]),
        (Relation.LOAD_MODULE, ["load_file"]),
    ],
)
def test_half_of_loading_can_be_off(lab: Lab, work: Path, off: Relation, left: list[str]) -> None:
    with lab.tenant(off={*NO_LOOK_UPS, off}) as tenant:
        lines = tenant.lines(work, "load-module-file")
    assert [line.split()[0] for line in lines if line.startswith("load_")] == left
