# SPDX-License-Identifier: Apache-2.0
"""`headwater doctor`: can this host capture, and what to do if not.

Why: a kernel, its configuration, a sandbox and privileges all have a say, and lists lie; so the
probe attaches and reports. The facts are `headwater_agent.probe`'s, the words here.
"""

import dataclasses
import json
import sys
from typing import Any

import click
from headwater_agent.attach_points import CaptureMode
from headwater_agent.load import Capture, CaptureError
from headwater_agent.precision import imprecise, unseen
from headwater_agent.probe import probe

from headwater_cli.cgroups import find_hierarchy
from headwater_cli.errors import ExitStatus, Failure
from headwater_cli.options import ExampleCommand

_RING_BYTES = 64 * 1024
"""Nothing is captured: just enough to attach."""


@click.command(
    "doctor",
    cls=ExampleCommand,
    examples=["headwater doctor", "headwater doctor -o json | jq .mode"],
)
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text")
def command(output: str) -> None:
    """Say whether this host can capture: kernel, BTF, LSMs, and each hook by attaching it.

    Exits with 0 when capture is possible and with 1 when it is not.
    """
    report = probe()
    hooks: dict[str, str] = {}
    problem = ""
    if report.can_capture:
        try:
            with Capture(ring_bytes=_RING_BYTES) as capture:
                hooks = capture.attached
        except CaptureError as error:
            problem = str(error)
    result = {
        "kernel": report.kernel,
        "btf": report.btf,
        "lsms": list(report.lsms),
        "cgroup2": _cgroup2(),
        "mode": CaptureMode.UNSUPPORTED if problem else report.mode,
        "findings": [dataclasses.asdict(finding) for finding in report.findings],
        "problem": problem,
        "unseen": sorted(relation.camflow for relation in unseen(report.mode)),
        "imprecise": {
            relation.camflow: each.loss
            for each in imprecise(report.mode)
            for relation in each.relations
        },
        "hooks": hooks,
    }
    if output == "json":
        click.echo(json.dumps(result, indent=1))
    else:
        click.echo("\n".join(_lines(result)))
    possible = result["mode"] != "unsupported" and result["cgroup2"]
    sys.exit(int(ExitStatus.OK if possible else ExitStatus.NO_ANSWER))


def _cgroup2() -> str:
    """Return where cgroup v2 is mounted; empty where it is not."""
    try:
        return str(find_hierarchy())
    except Failure:
        return ""


def _lines(result: dict[str, Any]) -> list[str]:
    attached = [name for name, status in result["hooks"].items() if status == "attached"]
    failed = {n: status for n, status in result["hooks"].items() if status != "attached"}
    lines = [
        f"kernel   {result['kernel']}",
        f"BTF      {'there' if result['btf'] else 'missing'}",
        f"LSMs     {', '.join(result['lsms']) or 'unknown: securityfs is not mounted'}",
        f"cgroup2  {result['cgroup2'] or 'not mounted: mount -t cgroup2 none /sys/fs/cgroup'}",
        f"mode     {result['mode']}",
    ]
    if result["hooks"]:
        lines.append(f"hooks    {len(attached)} attached, {len(failed)} not")
    lines += [f"  {name}: {why}" for name, why in failed.items()]
    if result["unseen"]:
        lines.append(f"unseen   {', '.join(result['unseen'])}")
    lines += [f"loses    of {name}: {loss}" for name, loss in result["imprecise"].items()]
    for finding in result["findings"]:
        lines += [f"problem  {finding['what']}", f"remedy   {finding['remedy']}"]
    if result["problem"]:
        lines.append(f"problem  {result['problem']}")
    return lines
