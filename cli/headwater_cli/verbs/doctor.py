# SPDX-License-Identifier: Apache-2.0
"""`headwater doctor`: can this host capture, or is a policy in force, and what to do if not.

Why: a kernel, its configuration, a sandbox and privileges all have a say, and lists lie; so the
probe attaches and reports. The facts are `headwater_agent.probe`'s, of a policy in a cluster
`headwater_cli.diagnosis`'; the words are here.
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
from headwater_cli.diagnosis import is_in_force, of_node, of_policy
from headwater_cli.errors import ExitStatus, Failure
from headwater_cli.kubectl import Cluster, cluster_options, not_found
from headwater_cli.options import ExampleCommand

_KINDS = {
    "": "provenancepolicies",
    "provenancepolicy": "provenancepolicies",
    "clusterprovenancepolicy": "clusterprovenancepolicies",
}
"""Plural by what a user writes before the name."""

_RING_BYTES = 64 * 1024
"""Nothing is captured: just enough to attach."""


@click.command(
    "doctor",
    cls=ExampleCommand,
    examples=[
        "headwater doctor",
        "headwater doctor -o json | jq .mode",
        "kubectl headwater doctor web -n shop --node worker-3",
        "headwater doctor clusterprovenancepolicy/baseline",
    ],
)
@click.argument("policy", required=False)
@click.option("--node", default="", metavar="NODE", help="Why POLICY is not in force there.")
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text")
@cluster_options
def command(cluster: Cluster, policy: str | None, node: str, output: str) -> None:
    """Say whether this host can capture: kernel, BTF, LSMs, and each hook by attaching it.

    With POLICY, say instead what stands in the way of that policy in a cluster, on all nodes or on
    NODE. POLICY is the name of a ProvenancePolicy, or KIND/NAME. Asks through kubectl.

    Exits with 0 when capture is possible, or the policy is in force, and with 1 when not.
    """
    if policy:
        _of_policy(cluster, policy, node, output)
    elif node:
        raise click.UsageError("--node needs a POLICY")
    else:
        _of_host(output)


def _of_policy(cluster: Cluster, name: str, node: str, output: str) -> None:
    kind, _, name = name.rpartition("/")
    kind = kind.partition(".")[0].lower().removesuffix("s").replace("policie", "policy")
    if kind not in _KINDS:
        raise click.UsageError(f'"{kind}" is no kind of policy; write one of {", ".join(_KINDS)}')
    found = cluster.get(_KINDS[kind], name)
    if found is None:
        raise not_found(
            "ClusterProvenancePolicy" if "cluster" in kind else "ProvenancePolicy", name, cluster
        )
    obstacles = list(of_policy(found))
    if node:
        obstacles += of_node(
            found, node, cluster.get("nodes", node, group=""), cluster.get("provenancenodes", node)
        )
    if output == "json":
        result = {
            "inForce": is_in_force(found),
            "obstacles": list(map(dataclasses.asdict, obstacles)),
        }
        click.echo(json.dumps(result, indent=1))
    else:
        for each in obstacles:
            click.echo(f"problem  {each.what}")
            if each.remedy:
                click.echo(f"remedy   {each.remedy}")
        if not obstacles:
            click.echo(f"{name}: nothing stands in the way" + (f" on node {node}" if node else ""))
    sys.exit(int(ExitStatus.NO_ANSWER if obstacles else ExitStatus.OK))


def _of_host(output: str) -> None:
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
