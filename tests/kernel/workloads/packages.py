# SPDX-License-Identifier: Apache-2.0
"""`apt-get install` of a package, from a repository made here, into a root directory of its own.

Its configuration script runs under chroot, in a root that holds a static shell and nothing else.
"""

import hashlib
import shutil
import subprocess
from pathlib import Path

CONTROL = """\
Package: greeting
Version: 1.0
Architecture: all
Maintainer: Someone <someone@example.invalid>
Description: a file and a script
"""
AFTER = '#!/bin/sh\nset -e\nread text < /usr/share/greeting/text\necho "$text, again" > /greeted\n'


def make_repository(repository: Path) -> None:
    tree = repository / "tree"
    (tree / "DEBIAN").mkdir(parents=True)
    (tree / "DEBIAN/control").write_text(CONTROL)
    script = tree / "DEBIAN/postinst"
    script.write_text(AFTER)
    script.chmod(0o755)
    (tree / "usr/share/greeting").mkdir(parents=True)
    (tree / "usr/share/greeting/text").write_text("good morning\n")
    package = repository / "greeting.deb"
    subprocess.run(["dpkg-deb", "--root-owner-group", "--build", tree, package], check=True)
    content = package.read_bytes()
    (repository / "Packages").write_text(
        f"{CONTROL}Filename: ./greeting.deb\nSize: {len(content)}\n"
        f"SHA256: {hashlib.sha256(content).hexdigest()}\n"
    )


def make_root(root: Path, repository: Path) -> None:
    for name in (
        "bin", "etc/apt/apt.conf.d", "etc/apt/preferences.d", "etc/apt/trusted.gpg.d", "tmp",
        "var/cache/apt/archives/partial", "var/lib/apt/lists/partial", "var/lib/dpkg/info",
        "var/lib/dpkg/updates", "var/lib/dpkg/triggers", "var/log/apt",
    ):  # fmt: skip
        (root / name).mkdir(parents=True)
    (root / "var/lib/dpkg/status").touch()
    (root / "etc/apt/sources.list").write_text(f"deb [trusted=yes] file:{repository} ./\n")
    shutil.copy2("/bin/busybox", root / "bin/sh")


def main() -> None:
    repository, root = Path.cwd() / "repository", Path.cwd() / "root"
    make_repository(repository)
    make_root(root, repository)
    options = {
        "Dir": root,
        "Dir::Bin::methods": "/usr/lib/apt/methods/",
        "Dir::Bin::dpkg": "/usr/bin/dpkg",
        "Dir::State::status": root / "var/lib/dpkg/status",
        "APT::Sandbox::User": "root",
        "APT::Architecture": "amd64",
        "DPkg::Options::": f"--root={root}",
    }
    words = ["apt-get", *(f"--option={name}={value}" for name, value in options.items())]
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND": "noninteractive"}
    for verb in (["update"], ["install", "--yes", "greeting"]):
        subprocess.run([*words, *verb], check=True, env=environment)
    assert (root / "greeted").read_text() == "good morning, again\n"


if __name__ == "__main__":
    main()
