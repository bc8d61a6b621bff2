# SPDX-License-Identifier: Apache-2.0
"""An image, built as `make images` does, and unpacked into a directory where its programs can run.

Why: what an image holds is seen without a container runtime, and so on any machine that can build
one. Called by the tests beside it.
"""

import json
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
BUILD_S = 900.0


@dataclass(frozen=True)
class Image:
    """An image, unpacked."""

    name: str
    root: Path
    configuration: dict[str, Any]

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command in it as its user, with its environment."""
        user = self.configuration.get("User", "0:0")
        return subprocess.run(
            ["chroot", f"--userspec={user}", str(self.root), *command],
            env=dict(each.split("=", 1) for each in self.configuration["Env"]),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def sbom(self) -> dict[str, str]:
        """Versions by package URL without the version."""
        document = json.loads((self.root / "usr/share/headwater/sbom.cdx.json").read_text())
        return {each["purl"].split("@")[0]: each["version"] for each in document["components"]}


def built(name: str, root: Path) -> Image:
    """Build an image, or take the layers of the last build, and unpack it below `root`."""
    done = subprocess.run(
        ["/usr/bin/python3", str(ROOT / "setup" / "images.py"), name],
        capture_output=True,
        text=True,
        timeout=BUILD_S - 60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    root.mkdir()
    with tarfile.open(ROOT / "build" / "images" / f"headwater-{name}.tar") as archive:

        def member(path: str) -> Any:
            content = archive.extractfile(path)
            assert content is not None
            return content

        [manifest] = json.load(member("manifest.json"))
        configuration = json.load(member(manifest["Config"]))["config"]
        for layer in manifest["Layers"]:
            # tar(1): it keeps owners and modes, whatever Python's filters are by its version.
            unpack = ["tar", "--extract", "--directory", str(root)]
            subprocess.run(unpack, input=member(layer).read(), check=True)
    return Image(name, root, configuration)
