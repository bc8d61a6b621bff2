# SPDX-License-Identifier: Apache-2.0
"""Print what a root file system is made of, in CycloneDX 1.5: Debian's packages and Python's.

usage: sbom.py NAME

Why: a platform team asks which of its images have a package of that version in them. Run in the
build of an image, by the environment whose packages are listed; the list is sorted and has no time
in it, so equal images have equal ones. Format: https://cyclonedx.org/docs/1.5/json/
"""

import importlib.metadata
import json
import subprocess
import sys
from urllib.parse import quote


def debian() -> list[dict[str, str]]:
    """Return the packages that dpkg has on its list, those whose files were removed excepted."""
    words = ["dpkg-query", "--show", "--showformat"]
    layout = "${db:Status-Status} ${Package} ${Version} ${Architecture}\\n"
    lines = subprocess.run([*words, layout], capture_output=True, text=True, check=True).stdout
    found = (line.split() for line in lines.splitlines())
    return [
        component(name, version, f"pkg:deb/debian/{name}@{quote(version)}?arch={architecture}")
        for status, name, version, architecture in found
        if status == "installed"
    ]


def python() -> list[dict[str, str]]:
    """Return the distributions that this interpreter can import."""
    found = {each.metadata["Name"]: each.version for each in importlib.metadata.distributions()}
    return [
        component(name, version, f"pkg:pypi/{name.lower().replace('_', '-')}@{quote(version)}")
        for name, version in found.items()
    ]


def component(name: str, version: str, purl: str) -> dict[str, str]:
    """Return one entry of the list."""
    return {"type": "library", "name": name, "version": version, "purl": purl, "bom-ref": purl}


def main() -> None:
    """Print it."""
    document = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {
            "component": {
                "type": "container",
                "name": sys.argv[1],
                "version": importlib.metadata.version("headwater"),
            }
        },
        "components": sorted(debian() + python(), key=lambda each: each["purl"]),
    }
    json.dump(document, sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main()
