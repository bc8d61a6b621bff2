# SPDX-License-Identifier: Apache-2.0
"""An image holds what its pod runs, as pinned, and nothing by which a system is set up.

Each image is built as `make images` does, unpacked, and its programs run in it in a chroot, as the
user that the image names.
"""

import re
import time

import pytest

from tests.images.unpacking import BUILD_S, ROOT, Image, built

START_S = 10.0
"""An operator is to start in 2 s on a machine that does nothing else; tests share theirs."""

pytestmark = pytest.mark.timeout(BUILD_S)


@pytest.fixture(scope="module", params=["operator", "agent", "cli"])
def image(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Image:
    name = str(request.param)
    return built(name, tmp_path_factory.mktemp(name) / "root")


def pins() -> dict[str, str]:
    """Versions of the lock file by normalised name."""
    lines = (ROOT / "setup" / "constraints.txt").read_text().splitlines()
    pairs = (line.split("==") for line in lines if "==" in line)
    return {_normal(name): version for name, version in pairs}


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_what_the_pod_runs_starts_as_the_images_user(image: Image) -> None:
    entry = image.configuration["Entrypoint"]
    began_s = time.monotonic()
    done = image.run(*entry, "--help")
    assert done.returncode == 0, done.stderr
    assert "usage" in done.stdout.lower()
    assert time.monotonic() - began_s < START_S
    assert image.configuration.get("User", "0:0") == (
        "0:0" if image.name == "agent" else "65532:65532"
    )


def test_agents_compiler_and_modules_are_whole(image: Image) -> None:
    if image.name != "agent":
        assert not (image.root / "usr/lib/python3/dist-packages/bcc").exists()
        return
    program = "import bcc, headwater_agent._render, headwater_agent.cluster.main"
    done = image.run("python3", "-c", program)
    assert done.returncode == 0, done.stderr
    assert image.run("bpftool", "version").returncode == 0


def test_operator_has_all_that_it_loads_though_the_client_was_trimmed(image: Image) -> None:
    """Options are judged after every import, so this message means that none is missing."""
    if image.name == "operator":
        done = image.run("headwater-operator", "--kubeconfig", "/nowhere")
        assert done.returncode == 2, done.stderr
        assert "there is no such file: /nowhere" in done.stderr


def test_python_packages_are_those_of_the_lock_file_and_the_sbom_says_so(image: Image) -> None:
    ours = {
        _normal(purl.removeprefix("pkg:pypi/")): version
        for purl, version in image.sbom().items()
        if purl.startswith("pkg:pypi/")
    }
    assert ours.pop("headwater") == "0.1.0"
    assert "nats-py" in ours
    assert ours == {name: pins()[name] for name in ours}
    assert image.sbom()["pkg:deb/debian/libc6"]


def test_nothing_that_sets_a_system_up_is_in_it(image: Image) -> None:
    found = {
        path.name
        for place in ("usr/bin", "usr/sbin", "bin", "sbin", "opt/headwater/bin")
        for path in (image.root / place).glob("*")
    }
    assert "python3" in found
    assert not found & {"apt", "apt-get", "gcc", "gpgv", "mount", "passwd", "perl", "pip", "su"}
    raised = [
        path
        for path in image.root.rglob("*")
        if path.is_file() and not path.is_symlink() and path.stat().st_mode & 0o6000
    ]
    assert raised == []
    labels = image.configuration["Labels"]
    assert labels["org.opencontainers.image.title"] == f"headwater-{image.name}"
    assert labels["org.opencontainers.image.version"] == "0.1.0"
    assert re.fullmatch(r"[0-9a-f]{40}|unknown", labels["org.opencontainers.image.revision"])


def test_bytecode_is_taken_without_a_write_or_a_look_at_times(image: Image) -> None:
    files = [*image.root.glob("opt/headwater/lib/python3*/site-packages/headwater_*/**/*.pyc")]
    assert files
    # Flags of a .pyc: bit 0 by hash, bit 1 checked against the source (PEP 552).
    assert {int.from_bytes(path.read_bytes()[4:8], "little") for path in files} == {1}
