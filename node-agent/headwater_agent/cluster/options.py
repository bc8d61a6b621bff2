# SPDX-License-Identifier: Apache-2.0
"""What an agent in a cluster is started with, from flags or the environment.

Why: a DaemonSet sets variables, a person types flags; both are the same options, and `--help` names
both. Called by `main` only; nothing else reads the environment.
"""

import argparse
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from headwater_prov.endpoints import check_encrypted

from headwater_agent.settings import QuarantineSettings, RingSettings, SpoolSettings, WhenFull

EPILOG: Final = """\
exit status:
  0  stopped by SIGTERM or SIGINT; every record was delivered, declared lost, or kept in --state
  1  the agent failed; it is to be started again
  2  an option is missing or wrong
  3  something that it was started with cannot be used: the API server's address, --state,
     --machine-id-file; the message says what to do

A node that cannot capture is no failure: the agent says so in the status of its ProvenanceNode and
stays. A stop takes as long as NATS needs, 40 seconds at most: give the pod 60.
"""


RING_BYTES_MIN: Final = 1 << 16
RING_BYTES_MAX: Final = 1 << 30
"""What a node can spare, between a ring that holds 800 records and one that holds 13 million."""

SPOOL_BYTES_MIN: Final = 1 << 20
"""Below that a tenant's share is a few batches."""

_OPERATOR_TOKEN: Final = Path("/var/run/secrets/headwater/token")


@dataclass(frozen=True, slots=True)
class ClusterOptions:
    """The options, each checked for its form."""

    node_name: str
    """Name of the Node, and of its ProvenanceNode."""

    nats_servers: tuple[str, ...]
    """URLs; any of them will do."""

    nats_credentials: Path | None
    """The node's `.creds` file; it may be replaced at any time. None where `operator` gives
    tokens."""

    tenant_keys: Path
    """Directory with a file for each tenant, 32 bytes each."""

    state: Path
    """Directory on the node's disk for what has to survive a restart; the owner's alone."""

    cgroup_root: Path = Path("/sys/fs/cgroup")
    """Where the node's cgroup v2 hierarchy is seen, not the pod's own part of it."""

    machine_id_file: Path = Path("/etc/machine-id")
    """The node's, not the image's."""

    runtime_state: Path | None = None
    """Directory of the container runtime's bundles; None leaves containers nameless until the API
    server has told of them."""

    mode: str = "auto"
    """Capture mode; "auto" for the best that attaches."""

    ring_bytes: int = RingSettings().size_bytes
    """Size of the ring between the kernel and the agent: a power of two, in kernel memory."""

    quarantine: QuarantineSettings = field(default_factory=QuarantineSettings)
    """What is kept of pods that the API server has not told of."""

    spool: SpoolSettings = field(default_factory=SpoolSettings)
    """What is kept on disk of what NATS has not taken."""

    nats_ca: Path | None = None
    """Certificate of NATS' authority; None for the system's."""

    operator: str = ""
    """URL of the operator's exchange, where the pod's token is exchanged for one of NATS; empty
    where `nats_credentials` are given."""

    operator_ca: Path | None = None
    """Certificate of the exchange's authority; None for the system's."""

    operator_token: Path = _OPERATOR_TOKEN
    """The pod's projected token with the operator's audience; kubelet replaces it."""

    kubeconfig: Path | None = None
    """How to reach the API server from outside of a pod."""

    listen: tuple[str, int] | None = None
    """Host and port of the pages; None for none."""

    log_level: str = "INFO"


def parse(
    arguments: Sequence[str] | None = None, environment: Mapping[str, str] = os.environ
) -> ClusterOptions:
    """Return the options; ends the program with status 2 when they are wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m headwater_agent.cluster",
        description="The Headwater agent of one node of a Kubernetes cluster.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )

    def add(
        name: str, variable: str, text: str, default: str | None = None, optional: bool = False
    ) -> None:
        value = environment.get(variable, default)
        ending = f" [{variable}]" if not default else f" [{variable}; {default}]"
        parser.add_argument(
            f"--{name}",
            default=value,
            required=value is None and not optional,
            metavar=name.rpartition("-")[2].upper(),
            help=text + ending,
        )

    add("node-name", "NODE_NAME", "name of this Node")
    add("nats", "HEADWATER_NATS", "URLs of NATS, with commas")
    add("nats-ca", "HEADWATER_NATS_CA", "certificate of NATS' authority", optional=True)
    add("operator", "HEADWATER_OPERATOR", "URL of the operator's exchange", optional=True)
    add("operator-ca", "HEADWATER_OPERATOR_CA", "certificate of its authority", optional=True)
    add(
        "operator-token",
        "HEADWATER_OPERATOR_TOKEN",
        "the pod's token for it",
        str(_OPERATOR_TOKEN),
    )
    add(
        "nats-credentials",
        "HEADWATER_NATS_CREDENTIALS",
        "this node's .creds file, instead of --operator",
        optional=True,
    )
    add("tenant-keys", "HEADWATER_TENANT_KEYS", "directory of the tenants' keys")
    add("state", "HEADWATER_STATE", "directory that survives a restart", "/var/lib/headwater")
    add("cgroup-root", "HEADWATER_CGROUP_ROOT", "the node's cgroup v2 hierarchy", "/sys/fs/cgroup")
    add("machine-id-file", "HEADWATER_MACHINE_ID_FILE", "the node's machine id", "/etc/machine-id")
    add("runtime-state", "HEADWATER_RUNTIME_STATE", "the runtime's bundles", optional=True)
    add("mode", "HEADWATER_MODE", "capture mode", "auto")
    add("log-level", "HEADWATER_LOG_LEVEL", "least level that is logged", "INFO")
    add("kubeconfig", "KUBECONFIG", "the API server from outside of a pod", optional=True)
    add("listen", "HEADWATER_LISTEN", "HOST:PORT of /healthz and /metrics", optional=True)
    add(
        "ring-bytes",
        "HEADWATER_RING_BYTES",
        "size of the ring between kernel and agent, a power of two",
        str(RingSettings().size_bytes),
    )
    kept = QuarantineSettings()
    add(
        "quarantine-bytes",
        "HEADWATER_QUARANTINE_BYTES",
        "most bytes of records kept of a pod that is not known yet",
        str(kept.pod_bytes),
    )
    add(
        "quarantine-total-bytes",
        "HEADWATER_QUARANTINE_TOTAL_BYTES",
        "most bytes kept of all such pods",
        str(kept.total_bytes),
    )
    add(
        "quarantine-seconds",
        "HEADWATER_QUARANTINE_SECONDS",
        "how long they are kept",
        f"{kept.keep_s:.0f}",
    )
    spool = SpoolSettings()
    add(
        "spool-bytes",
        "HEADWATER_SPOOL_BYTES",
        "most bytes on disk of what is owed to a tenant",
        str(spool.tenant_bytes),
    )
    add(
        "spool-total-bytes",
        "HEADWATER_SPOOL_TOTAL_BYTES",
        "most bytes on disk of all tenants",
        str(spool.total_bytes),
    )
    add(
        "spool-seconds",
        "HEADWATER_SPOOL_SECONDS",
        "how long it is kept",
        f"{spool.max_age_s:.0f}",
    )
    add(
        "spool-policy",
        "HEADWATER_SPOOL_POLICY",
        f"what is given up beyond a bound: {' or '.join(WhenFull)}",
        spool.when_full,
    )
    chosen = parser.parse_args(arguments)
    servers = tuple(filter(None, (each.strip() for each in chosen.nats.split(","))))
    if not servers:
        parser.error("--nats: names no server; write for instance tls://nats.headwater:4222")
    if bool(chosen.operator) == bool(chosen.nats_credentials):
        parser.error(
            "--operator or --nats-credentials: write one of them, the first where an operator "
            "exchanges tokens"
        )
    try:
        check_encrypted(servers, "--nats")
        check_encrypted(filter(None, [chosen.operator]), "--operator")
    except ValueError as error:
        parser.error(str(error))
    if not chosen.node_name:
        parser.error("--node-name: is empty; set it from spec.nodeName")
    levels = ("DEBUG", "INFO", "WARNING", "ERROR")
    if chosen.log_level.upper() not in levels:
        parser.error(f"--log-level: {chosen.log_level} is not one of {', '.join(levels)}")

    def whole(name: str, text: str) -> int:
        if not text.isdecimal():
            parser.error(f"--{name}: {text} is no whole number; write for instance 1048576")
        return int(text)

    ring_bytes = whole("ring-bytes", chosen.ring_bytes)
    if not RING_BYTES_MIN <= ring_bytes <= RING_BYTES_MAX or ring_bytes & (ring_bytes - 1):
        parser.error(
            f"--ring-bytes: {ring_bytes} is no power of two from {RING_BYTES_MIN} to "
            f"{RING_BYTES_MAX}; write for instance 33554432"
        )
    spool_bytes = whole("spool-bytes", chosen.spool_bytes)
    spool_total_bytes = whole("spool-total-bytes", chosen.spool_total_bytes)
    if not SPOOL_BYTES_MIN <= spool_bytes <= spool_total_bytes:
        parser.error(
            f"--spool-bytes: {spool_bytes} is not from {SPOOL_BYTES_MIN} to --spool-total-bytes, "
            f"{spool_total_bytes}; write for instance {SpoolSettings().tenant_bytes}"
        )
    if chosen.spool_policy not in list(WhenFull):
        parser.error(f"--spool-policy: {chosen.spool_policy} is not {' or '.join(WhenFull)}")
    listen = None
    if chosen.listen:
        host, _, port = chosen.listen.rpartition(":")
        if not host or not port.isdecimal() or int(port) > 65535:
            parser.error(f"--listen: {chosen.listen} is not HOST:PORT; write 127.0.0.1:9464")
        listen = (host.strip("[]"), int(port))
    return ClusterOptions(
        node_name=chosen.node_name,
        nats_servers=servers,
        nats_credentials=Path(chosen.nats_credentials) if chosen.nats_credentials else None,
        nats_ca=Path(chosen.nats_ca) if chosen.nats_ca else None,
        operator=chosen.operator or "",
        operator_ca=Path(chosen.operator_ca) if chosen.operator_ca else None,
        operator_token=Path(chosen.operator_token),
        tenant_keys=Path(chosen.tenant_keys),
        state=Path(chosen.state),
        cgroup_root=Path(chosen.cgroup_root),
        machine_id_file=Path(chosen.machine_id_file),
        runtime_state=Path(chosen.runtime_state) if chosen.runtime_state else None,
        mode=chosen.mode,
        kubeconfig=Path(chosen.kubeconfig) if chosen.kubeconfig else None,
        listen=listen,
        log_level=chosen.log_level.upper(),
        ring_bytes=ring_bytes,
        quarantine=QuarantineSettings(
            pod_bytes=whole("quarantine-bytes", chosen.quarantine_bytes),
            total_bytes=whole("quarantine-total-bytes", chosen.quarantine_total_bytes),
            keep_s=float(whole("quarantine-seconds", chosen.quarantine_seconds)),
        ),
        spool=SpoolSettings(
            tenant_bytes=spool_bytes,
            total_bytes=spool_total_bytes,
            max_age_s=float(whole("spool-seconds", chosen.spool_seconds)),
            when_full=WhenFull(chosen.spool_policy),
        ),
    )
