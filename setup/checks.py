# SPDX-License-Identifier: Apache-2.0
"""What no other linter looks at: licence lines, links between documents, and the package list.

Why: a file without a licence, a dead link and a package left out of the wheel are found by readers
otherwise. Run by `make lint` over the files that git knows.
"""

import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

LICENCES = {"bpf/": "GPL-2.0 OR BSD-2-Clause"}
"""Licence by directory; Apache-2.0 elsewhere."""

WITHOUT_COMMENTS = {".export", ".json", ".svg", ".txt", ".typed", ".md", ".csv", ".sum"}
"""Kinds of files that cannot say it, or are documents: the repository's licence covers them, as it
does the tests' corpora, in which the first line matters."""

_FENCED = re.compile(r"```.*?```", flags=re.DOTALL)
_LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)|!\[[^\]]*\]\(([^)\s]+)\)")


def tracked() -> list[Path]:
    """Return every file that is or is about to be in the repository."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [Path(name) for name in names.split("\0") if name and (ROOT / name).is_file()]


def licence_problems(files: list[Path]) -> Iterator[str]:
    """Yield the files whose first lines do not name the right licence."""
    for path in files:
        corpus = path.parts[0] == "tests" and path.suffix != ".py"
        if corpus or path.suffix in WITHOUT_COMMENTS or path.name == ".gitignore":
            continue
        content = (ROOT / path).read_bytes()
        if not content or b"\0" in content[:1024]:
            continue
        wanted = next((v for k, v in LICENCES.items() if str(path).startswith(k)), "Apache-2.0")
        head = "\n".join(content.decode(errors="replace").splitlines()[:3])
        if f"SPDX-License-Identifier: {wanted}" not in head:
            yield f"{path}:1: write SPDX-License-Identifier: {wanted} in the first lines"


def link_problems(files: list[Path]) -> Iterator[str]:
    """Yield relative links of documents that lead nowhere, anchors included."""
    for path in files:
        if path.suffix != ".md":
            continue
        text = (ROOT / path).read_text(encoding="utf-8")
        text = _FENCED.sub(lambda block: "\n" * block[0].count("\n"), text)
        for number, line in enumerate(text.splitlines(), start=1):
            for match in _LINK.finditer(line):
                target, _, anchor = (match[1] or match[2]).partition("#")
                if re.match(r"[a-z]+:", target):
                    continue
                found = ROOT / path.parent / target if target else ROOT / path
                if not found.exists():
                    yield f"{path}:{number}: the link to {target} leads nowhere"
                elif anchor and found.suffix == ".md" and anchor not in anchors(found):
                    yield f"{path}:{number}: {target or path} has no heading #{anchor}"


def anchors(document: Path) -> set[str]:
    """Return the anchors that forges make of a document's headings."""
    headings = re.findall(r"^#+ (.*)$", document.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {
        re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings
    }


def package_problems(files: list[Path]) -> Iterator[str]:
    """Yield import packages that pyproject.toml does not list, and the other way round."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        setuptools = tomllib.load(file)["tool"]["setuptools"]
    listed = set(setuptools["packages"])
    places = {Path(place): name for name, place in setuptools["package-dir"].items()}
    there = set()
    for path in files:
        for place, name in places.items():
            if path.is_relative_to(place):
                inner = path.parent.relative_to(place).parts
                if path.name == "__init__.py" or place == Path("bpf"):
                    there.add(".".join((name, *inner)))
    for name in sorted(there - listed):
        yield f"pyproject.toml: [tool.setuptools] packages lacks {name}"
    for name in sorted(listed - there):
        yield f"pyproject.toml: [tool.setuptools] packages names {name}, which is not there"


def main() -> int:
    """Print the problems; 1 when there are any."""
    files = tracked()
    checks = (licence_problems, link_problems, package_problems)
    problems = [problem for check in checks for problem in check(files)]
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
