# SPDX-License-Identifier: Apache-2.0
"""`headwater status`: which policies are in force in a cluster, and what the nodes lost.

Why: `kubectl get` shows one kind at a time; whoever is on call wants one page. The objects come
from `headwater_cli.kubectl`, what stands in the way from `headwater_cli.diagnosis`.
"""

import sys
from typing import Any

import click

from headwater_cli.diagnosis import first_obstacle, is_in_force
from headwater_cli.errors import ExitStatus
from headwater_cli.kubectl import Cluster, cluster_options
from headwater_cli.listing import format_option, print_objects
from headwater_cli.options import ExampleCommand

HEADS = ("NAMESPACE", "POLICY", "TENANT", "NODES", "FAILED", "LOST", "IN FORCE", "REASON")
WIDE = ("STREAM", "HASH")


@click.command(
    "status",
    cls=ExampleCommand,
    examples=[
        "kubectl headwater status -n shop",
        "headwater status --all-namespaces -o wide",
        "headwater status -o json | jq '.items[].status.nodes'",
    ],
)
@click.option("-A", "--all-namespaces", is_flag=True, help="Of all namespaces.")
@format_option
@cluster_options
def command(cluster: Cluster, all_namespaces: bool, output: str | None) -> None:
    """Say which policies of a cluster are in force on how many nodes.

    Asks through kubectl, so it sees what you may see. The platform's policies are shown with
    --all-namespaces. "headwater doctor POLICY" says more of one.

    Exits with 0 when all are in force and with 1 when one is not.
    """
    policies = cluster.list("provenancepolicies", everywhere=all_namespaces)
    if all_namespaces:
        policies += cluster.list("clusterprovenancepolicies")
    is_wide = output == "wide"
    print_objects(
        policies,
        output,
        heads=HEADS + (WIDE if is_wide else ()),
        rows=[_row(policy, is_wide=is_wide) for policy in policies],
        nothing="headwater: there are no policies",
    )
    if not all(map(is_in_force, policies)):
        sys.exit(int(ExitStatus.NO_ANSWER))


def _row(policy: dict[str, Any], *, is_wide: bool) -> list[str]:
    status = policy.get("status") or {}
    nodes = status.get("nodes") or {}
    row = [
        policy["metadata"].get("namespace", "-"),
        policy["metadata"]["name"],
        status.get("tenant", "-"),
        f"{nodes.get('programmed', 0)}/{nodes.get('desired', 0)}",
        str(nodes.get("failed", 0) + nodes.get("unsupported", 0)),
        str(status.get("lost", 0)),
        "yes" if is_in_force(policy) else "no",
        first_obstacle(policy) or ("-" if status.get("conditions") else "NotSeenYet"),
    ]
    return [*row, status.get("stream", "-"), status.get("hash", "-")] if is_wide else row
