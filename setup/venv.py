#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Make or complete the virtual environment .venv; in well under a second when it is up to date.

Why: everything but bcc comes from PyPI at pinned versions, and bcc only from Debian
(python3-bpfcc). The environment does not see the system's packages, which would answer for pinned
ones; bcc alone is linked into it. Run by the Makefile with the system's Python (bcc is built for
that one), before anything is installed: standard library only. It can be interrupted anywhere: the
stamp is written last, and what is there is completed.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from common import ROOT, cache_directory

VENV = ROOT / ".venv"
STAMP = VENV / ".headwater-stamp"
CONSTRAINTS = ROOT / "setup" / "constraints.txt"
SYSTEM_PACKAGES = Path("/usr/lib/python3/dist-packages")
LINKED = ("bcc",)
"""Import packages that Debian builds and PyPI does not have."""

SOURCE_ONLY = "nkeys"
"""Published as source only (pure Python); everything else must be a wheel: no compiler here."""


def wanted_stamp() -> str:
    """Return a digest of all that the environment is made from."""
    digest = hashlib.sha256(f"{sys.version}\n{ROOT}\n".encode())
    compiled = sorted(ROOT.glob("node-agent/**/*.p[yx][xi]"))
    for path in (ROOT / "pyproject.toml", CONSTRAINTS, Path(__file__), *compiled):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def is_usable(venv: Path) -> bool:
    """Tell whether `venv` starts, has pip, and is of this very Python."""
    question = "import sys, pip; print(sys.version)"
    python = venv / "bin" / "python"
    if not python.exists():
        return False
    done = subprocess.run([python, "-c", question], capture_output=True, text=True, check=False)
    return done.returncode == 0 and done.stdout.strip() == sys.version


def pip(venv: Path, *arguments: str) -> None:
    """Run pip quietly, with its cache beside ours."""
    environment = dict(os.environ)
    environment.setdefault("PIP_CACHE_DIR", str(cache_directory() / "pip"))
    command = [str(venv / "bin" / "python"), "-m", "pip", "--quiet", "--disable-pip-version-check"]
    done = subprocess.run(
        [*command, *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        sys.stderr.write(done.stdout[-4000:])
        sys.exit(
            f'setup: pip could not install ("pip {" ".join(arguments)}"); its message is above.\n'
            "  remedy: check the network and pip's configuration (pip config list), then run again"
        )


def link_system_packages(venv: Path) -> None:
    """Make Debian's bcc importable, and nothing else of the system."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for name in LINKED:
        source = SYSTEM_PACKAGES / name
        if not source.is_dir():
            sys.exit(f"setup: {source} is missing\n  remedy: apt-get install python3-bpfcc")
        link = venv / "lib" / version / "site-packages" / name
        if not link.is_symlink():
            link.symlink_to(source)


def create(venv: Path) -> None:
    """Make an empty environment."""
    if venv.exists():
        shutil.rmtree(venv)
    print(f"setup: making {venv.name} with Python {sys.version.split()[0]}", flush=True)
    done = subprocess.run([sys.executable, "-m", "venv", venv], check=False)
    if done.returncode != 0:
        sys.exit("setup: no virtual environment\n  remedy: apt-get install python3-venv")


def install(venv: Path, constraints: list[str]) -> None:
    """Install the pinned packages and the checkout, editable."""
    wheels = ["--prefer-binary", "--only-binary", ":all:", "--no-binary", SOURCE_ONLY]
    wheels += ["--use-feature=no-binary-enable-wheel-cache"] if _pip_is_old(venv) else []
    print("setup: installing the pinned Python packages", flush=True)
    # What builds comes first: without isolation nothing unpinned is fetched for it.
    pip(venv, "install", *wheels, *constraints, *build_requirements())
    target = f"{ROOT}[dev]"
    pip(venv, "install", *wheels, *constraints, "--no-build-isolation", "--editable", target)


def _pip_is_old(venv: Path) -> bool:
    command = [str(venv / "bin" / "python"), "-c", "import pip; print(pip.__version__)"]
    version = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return tuple(int(part) for part in version.split(".")[:2]) < (23, 1)


def build_requirements() -> list[str]:
    """Return what pyproject.toml says the build needs."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        return list(tomllib.load(file)["build-system"]["requires"])


def renew() -> None:
    """Resolve afresh in a clean environment and write setup/constraints.txt."""
    scratch = ROOT / "build" / "renew-venv"
    create(scratch)
    install(scratch, [])
    command = [str(scratch / "bin" / "python"), "-m", "pip", "freeze", "--exclude-editable"]
    frozen = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    head = [line for line in CONSTRAINTS.read_text().splitlines() if line.startswith("#")]
    CONSTRAINTS.write_text("\n".join(head) + "\n" + frozen)
    shutil.rmtree(scratch)


def main() -> None:
    """Bring .venv up to date."""
    if sys.argv[1:] == ["--renew"]:
        renew()
        return
    stamp = wanted_stamp()
    if STAMP.exists() and STAMP.read_text() == stamp and (VENV / "bin" / "headwater").exists():
        return
    STAMP.unlink(missing_ok=True)
    if not is_usable(VENV):
        create(VENV)
    install(VENV, ["--constraint", str(CONSTRAINTS)])
    link_system_packages(VENV)
    STAMP.write_text(stamp)


if __name__ == "__main__":
    main()
