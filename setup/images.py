#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Build the container images with buildah, without a registry: their base is made from Debian.

usage: setup/images.py [NAME ...]      (operator, agent, cli, nats; default: all)

Why: images/Containerfile builds anywhere that has a base image of Debian 12, but many build
machines reach a Debian archive and a Python index and no registry. So the base is made by
mmdebstrap from the archive that this machine's apt is configured for (or from
HEADWATER_DEBIAN, for instance a day of snapshot.debian.org, with which two builds have the same
packages), once, and buildah builds on it in a chroot. Run by `make images` as root, with the
system's Python: standard library only.

Result: build/images/<image>.tar, which `podman load`, `docker load`, `skopeo copy docker-archive:`
and `ctr images import` take, and <image>.cdx.json, what is in it. The base, the layers of earlier
builds and pip's downloads lie in the cache.
"""

import argparse
import configparser
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from common import ROOT, cache_directory, fail
from kernels import archive_address

SUITE = "bookworm"
"""Of the base: its bcc and its Python are those of the tests."""

LIMITS_MB = {"operator": 150, "agent": 450, "cli": 250, "nats": 40}
"""Unpacked, in 10^6 bytes; an image that is larger is an error."""

SBOM = "usr/share/headwater/sbom.cdx.json"
CERTIFICATES = Path("/etc/ssl/certs")
_UNWANTED = ("doc", "locale", "man")
_INSIDE = "/run/headwater-build"
_PIP_SETTINGS = ("cert", "extra-index-url", "find-links", "index-url", "proxy", "trusted-host")


def run(*command: str | Path) -> str:
    """Run a command that must succeed and return its output.

    Raises:
        SystemExit: it failed; the end of what it said is shown.
    """
    words = [str(word) for word in command]
    done = subprocess.run(words, capture_output=True, text=True, check=False, cwd=ROOT)
    if done.returncode != 0:
        sys.stderr.write(done.stdout[-2000:] + done.stderr[-4000:])
        raise fail(f'"{words[0]} {words[1]}" failed; its message is above', "see the message")
    return done.stdout


class Builder:
    """buildah with a store of its own in the cache: the machine's is not touched."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._pip_configuration = directory / "pip.conf"
        self._command = ["buildah", "--root", str(directory / "store")]
        self._command += ["--runroot", str(directory / "run"), "--storage-driver", "overlay"]

    def run(self, verb: str, *arguments: str | Path) -> str:
        """Run one of its verbs and return what it printed."""
        return run(*self._command, verb, *arguments)

    def build(self, target: str, tag: str, base: str) -> None:
        """Build a target of the Containerfile under a name.

        Every file gets the commit's time, so equal inputs give equal layers. The machine's way to
        the Python index is mounted for the time of the build.
        """
        self._pip_configuration.write_text(pip_configuration())
        pip_cache = cache_directory() / "pip"
        pip_cache.mkdir(parents=True, exist_ok=True)
        mounts = [f"{self._pip_configuration}:/etc/pip.conf:ro", f"{pip_cache}:/root/.cache/pip"]
        if CERTIFICATES.is_dir():
            mounts.append(f"{CERTIFICATES}:{_INSIDE}/certificates:ro")
        for place in local_places():
            mounts.append(f"{place}:{_INSIDE}/links{place}:ro")
        options = [word for mount in mounts for word in ("--volume", mount)]
        self.run(
            "build",
            *("--quiet", "--isolation", "chroot", "--pull=never", "--layers"),
            *("--timestamp", commit("%ct", "0"), "--target", target, "--tag", tag),
            *("--build-arg", f"BASE={base}", "--build-arg", f"VERSION={version()}"),
            *("--build-arg", f"REVISION={commit('%H', 'unknown')}"),
            *options,
            *("--ignorefile", ROOT / ".containerignore"),
            *("--file", ROOT / "images" / "Containerfile"),
            ROOT,
        )


def commit(layout: str, otherwise: str) -> str:
    """Return something of the checkout's commit, in git's words; `otherwise` without a git."""
    if shutil.which("git") is None:
        return otherwise
    words = ["git", "-C", str(ROOT), "log", "-1", f"--format={layout}"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    return done.stdout.strip() or otherwise


def version() -> str:
    """Return the version that the chart asks its images for."""
    text = (ROOT / "charts" / "headwater" / "Chart.yaml").read_text(encoding="utf-8")
    found = re.search(r'^appVersion: "?([^"\n]+)"?$', text, re.MULTILINE)
    if found is None:
        raise fail("charts/headwater/Chart.yaml names no appVersion", "restore the file")
    return found[1]


def pip_settings() -> dict[str, str]:
    """Return how this machine's pip finds packages, by setting; files first, then environment."""
    found: dict[str, str] = {}
    for path in ("/etc/pip.conf", Path.home() / ".config" / "pip" / "pip.conf"):
        parser = configparser.RawConfigParser()
        parser.read(path)
        if parser.has_section("global"):
            found.update(parser.items("global"))
    for name in _PIP_SETTINGS:
        text = os.environ.get(f"PIP_{name.upper().replace('-', '_')}")
        if text:
            found[name] = text
    return {name: text for name, text in found.items() if name in _PIP_SETTINGS}


def local_places() -> list[str]:
    """Return the directories among pip's places for packages."""
    links = pip_settings().get("find-links", "").split()
    return [place for place in links if place.startswith("/") and Path(place).is_dir()]


def pip_configuration() -> str:
    """Return pip's configuration for the inside of a build."""
    settings = pip_settings()
    settings.pop("cert", None)
    bundle = CERTIFICATES / "ca-certificates.crt"
    if bundle.is_file():
        settings["cert"] = f"{_INSIDE}/certificates/{bundle.name}"
    links = settings.pop("find-links", "").split()
    kept = [f"{_INSIDE}/links{place}" if place in local_places() else place for place in links]
    if kept:
        settings["find-links"] = " ".join(kept)
    lines = [f"{name} = {text}" for name, text in settings.items()]
    return "\n".join(["[global]", "disable-pip-version-check = true", *lines]) + "\n"


def base(builder: Builder, directory: Path) -> str:
    """Return the name of the base image, made from the archive if it is not there yet."""
    archive = os.environ.get("HEADWATER_DEBIAN") or archive_address()
    place = re.sub(r"[^a-z0-9]+", "-", archive.lower()).strip("-")
    name = f"localhost/headwater-base:{SUITE}-{place}"[:160]
    if name not in builder.run("images", "--format", "{{.Name}}:{{.Tag}}").splitlines():
        print(f"images: base of Debian {SUITE}, from {archive}", flush=True)
        root = directory / "base.tar"
        unwanted = [f"--dpkgopt=path-exclude=/usr/share/{each}/*" for each in _UNWANTED]
        # A day of the past is out of date, and meant.
        options = ["--variant=minbase", "--aptopt=Acquire::Check-Valid-Until false", *unwanted]
        source = f"deb {archive} {SUITE} main"
        run("mmdebstrap", "--quiet", "--include=ca-certificates", *options, SUITE, root, source)
        containerfile = directory / "Containerfile.base"
        containerfile.write_text('FROM scratch\nADD base.tar /\nCMD ["sh"]\n')
        builder.run("build", "--quiet", "--tag", name, "--file", containerfile, directory)
        root.unlink()
    return name


def export(builder: Builder, tag: str, target: Path) -> float:
    """Write an image and its SBOM to files; return what it takes unpacked, in 10^6 bytes."""
    partial = target.with_name(f".{target.name}.partial")
    partial.unlink(missing_ok=True)
    builder.run("push", "--quiet", tag, f"docker-archive:{partial}:{tag}")
    size = 0
    with tarfile.open(partial) as archive:
        manifest = json.load(archive.extractfile("manifest.json") or sys.stdin)
        for layer in manifest[0]["Layers"]:
            with tarfile.open(fileobj=archive.extractfile(layer)) as files:
                for member in files:
                    size += member.size
                    if member.name.lstrip("./") == SBOM:
                        content = files.extractfile(member)
                        assert content is not None
                        target.with_suffix(".cdx.json").write_bytes(content.read())
    partial.rename(target)
    return size / 1e6


def main() -> None:
    """Build what the command line names."""
    parser = argparse.ArgumentParser(description="Build the container images without a registry.")
    parser.add_argument("name", nargs="*", help="operator, agent, cli, nats; default: all")
    names = parser.parse_args().name or list(LIMITS_MB)
    unknown = set(names) - set(LIMITS_MB)
    if unknown:
        parser.error(f"unknown image {min(unknown)}; known: {', '.join(LIMITS_MB)}")
    if os.geteuid() != 0:
        raise fail("images are built in a chroot, which only root can enter", "sudo make images")
    directory = cache_directory() / "images"
    directory.mkdir(parents=True, exist_ok=True)
    output = ROOT / "build" / "images"
    output.mkdir(parents=True, exist_ok=True)
    builder = Builder(directory)
    foundation = base(builder, directory)
    for name in names:
        began_s = time.monotonic()
        tag = f"localhost/headwater-{name}:{version()}"
        print(f"images: building {tag}", flush=True)
        builder.build(name, tag, foundation)
        file = output / f"headwater-{name}.tar"
        size = export(builder, tag, file)
        took_s = time.monotonic() - began_s
        print(f"images: {file.relative_to(ROOT)}: {size:.0f} MB unpacked, {took_s:.0f} s")
        if size > LIMITS_MB[name]:
            raise fail(
                f"{tag} has {size:.0f} MB, and may have {LIMITS_MB[name]}",
                "see what grew: the SBOM beside it lists the packages",
            )


if __name__ == "__main__":
    main()
