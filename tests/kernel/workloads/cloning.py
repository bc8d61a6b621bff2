# SPDX-License-Identifier: Apache-2.0
"""`git clone` of a local repository over git's own protocol: from `origin` to `copy`."""

import os
import subprocess
from pathlib import Path

FILES = 12


def git(*words: str) -> None:
    environment = os.environ | {
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_CONFIG_SYSTEM": "/dev/null",
        "HOME": str(Path.cwd()),
    }
    subprocess.run(["git", *words], check=True, env=environment)


def main() -> None:
    git("init", "--quiet", "origin")
    for number in range(FILES):
        Path("origin", f"file-{number}").write_text(f"content {number}\n" * 50)
    git("-C", "origin", "add", ".")
    author = ("-c", "user.name=someone", "-c", "user.email=someone@example.invalid")
    git("-C", "origin", *author, "commit", "--quiet", "-m", "all files")
    git("clone", "--quiet", Path("origin").absolute().as_uri(), "copy")
    for number in range(FILES):
        assert Path("copy", f"file-{number}").read_text() == f"content {number}\n" * 50


if __name__ == "__main__":
    main()
