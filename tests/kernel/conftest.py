# SPDX-License-Identifier: Apache-2.0
"""One attached capture for the whole session; a slot and a cgroup for each test."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from headwater_agent.load import Capture

from tests.kernel.behaviours import build
from tests.kernel.lab import Lab, Tenant


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The behaviours, on the file system of the tests."""
    return Path(shutil.copy2(build(), tmp_path_factory.mktemp("program")))


@pytest.fixture(scope="session")
def lab(program: Path) -> Iterator[Lab]:
    with Capture() as capture:
        assert set(capture.attached.values()) == {"attached"}, capture.attached
        yield Lab(capture, program)


@pytest.fixture
def tenant(lab: Lab) -> Iterator[Tenant]:
    """All relations but the look-ups."""
    with lab.tenant() as tenant:
        yield tenant


@pytest.fixture
def whole(lab: Lab) -> Iterator[Tenant]:
    """Everything that there is."""
    with lab.tenant(off=()) as tenant:
        yield tenant


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """A working directory with a, b and a program."""
    (tmp_path / "a").write_text("content of a")
    (tmp_path / "b").write_text("content of b")
    return tmp_path
