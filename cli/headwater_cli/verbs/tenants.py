# SPDX-License-Identifier: Apache-2.0
"""`headwater tenants`: the tenants of a cluster, what they own and what is set aside for them."""

from typing import Any

import click

from headwater_cli.diagnosis import first_obstacle
from headwater_cli.kubectl import Cluster, cluster_options
from headwater_cli.listing import format_option, print_objects
from headwater_cli.options import ExampleCommand

HEADS = ("TENANT", "NAMESPACES", "RESERVED", "AUDITORS", "REASON")
WIDE = ("ACCOUNT", "OWNED")
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


@click.command(
    "tenants",
    cls=ExampleCommand,
    examples=["kubectl headwater tenants", "headwater tenants -o wide --context production"],
)
@format_option
@cluster_options
def command(cluster: Cluster, output: str | None) -> None:
    """List a cluster's tenants: namespaces, reserved storage, auditors, and what is wrong.

    Asks through kubectl, so it sees what you may see.
    """
    tenants = cluster.list("provenancetenants")
    is_wide = output == "wide"
    print_objects(
        tenants,
        output,
        heads=HEADS + (WIDE if is_wide else ()),
        rows=[_row(tenant, is_wide=is_wide) for tenant in tenants],
        nothing="headwater: there are no tenants",
    )


def _row(tenant: dict[str, Any], *, is_wide: bool) -> list[str]:
    status = tenant.get("status") or {}
    row = [
        tenant["metadata"]["name"],
        str(status.get("namespaceCount", 0)),
        _size(status.get("reservedBytes", 0)),
        str(status.get("auditors", 0)),
        first_obstacle(tenant) or ("-" if status.get("conditions") else "NotSeenYet"),
    ]
    owned = ",".join(status.get("namespaces", [])) or "-"
    return [*row, status.get("account", "-"), owned] if is_wide else row


def _size(count: int) -> str:
    size, unit = float(count), 0
    while size >= 1024 and unit < len(_UNITS) - 1:
        size, unit = size / 1024, unit + 1
    return f"{size:.4g}{_UNITS[unit]}" if count else "-"
