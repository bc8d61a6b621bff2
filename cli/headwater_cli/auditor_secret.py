# SPDX-License-Identifier: Apache-2.0
"""A ProvenanceAuditor's Secret, fetched through the caller's kubectl, and the stream that it opens.

Why: the operator keeps in it what a pod needs to read a tenant's stream. A person at a desk who may
read the Secret reads the same way, as that auditor. Called by `auditors credentials` and `tail`.
"""

import base64
import binascii

from headwater_auditor import TenantStream

from headwater_cli.diagnosis import first_obstacle
from headwater_cli.errors import ExitStatus, Failure
from headwater_cli.kubectl import Cluster, not_found

CREDENTIALS_KEY = "auditor.creds"
"""This entry and the others are explained in docs/operations/operator.md."""


def fetch_secret(cluster: Cluster, auditor: str) -> dict[str, bytes]:
    """What is in the Secret of an auditor, by entry.

    Raises:
        Failure: there is no such auditor, or it has no credentials; with the reason that it gives.
    """
    found = cluster.get("provenanceauditors", auditor)
    if found is None:
        raise not_found("ProvenanceAuditor", auditor, cluster)
    name = found["spec"]["secretName"]
    data = (cluster.get("secrets", name, group="") or {}).get("data") or {}
    if CREDENTIALS_KEY not in data:
        reason = first_obstacle(found) or "the operator has not looked at it yet"
        raise Failure(
            f'the auditor "{auditor}" has no credentials: {reason}',
            f"kubectl describe provenanceauditor {auditor} says more",
            ExitStatus.NO_ANSWER,
        )
    return {entry: _decoded(name, entry, text) for entry, text in data.items()}


def open_auditor(cluster: Cluster, auditor: str, server: str, *, name: str) -> TenantStream:
    """The stream as an auditor sees it, from where its consumer stands; to be entered.

    Args:
        cluster: where the auditor is.
        auditor: name of the ProvenanceAuditor.
        server: URL of NATS as this machine reaches it; empty for those of the Secret.
        name: of the program, shown in the server's monitoring.

    Raises:
        Failure: as :func:`fetch_secret`, also at a later connection, for which it is read again.
    """
    secret = fetch_secret(cluster, auditor)
    return TenantStream(
        [server] if server else secret["servers"].decode().split(","),
        lambda: fetch_secret(cluster, auditor)[CREDENTIALS_KEY].decode(),
        name=name,
        durable=secret["consumer"].decode(),
        inbox_prefix=secret["inbox-prefix"].decode(),
        policies=[each for each in secret.get("policies", b"").decode().split(",") if each],
        authority=secret.get("ca.crt", b"").decode(),
    )


def _decoded(secret: str, entry: str, text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise Failure(
            f"Secret {secret}: {entry} is not base64: {error}",
            "delete the Secret: the operator writes it again",
        ) from error
