# SPDX-License-Identifier: Apache-2.0
"""The connection to the API server: from the pod's own files, or from a kubeconfig.

Why: kopf and the client both need one, the same one, and a wrong file has to end in a sentence.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from kubernetes.aio import config
from kubernetes.aio.client import ApiClient, Configuration
from kubernetes.aio.config.config_exception import ConfigException

from headwater_operator.cluster.settings import OperatorSettings


class ConnectionSetupError(Exception):
    """There is nothing to connect with; the message says what was looked for, and the remedy."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where the API server is and how it is talked to, for whoever has a client of their own."""

    server: str
    ca_file: str | None
    certificate_file: str | None
    key_file: str | None
    token: str | None


def address_of(client: ApiClient) -> Address:
    """The address that a client uses."""
    configuration = client.configuration
    return Address(
        server=configuration.host,
        ca_file=configuration.ssl_ca_cert,
        certificate_file=configuration.cert_file,
        key_file=configuration.key_file,
        token=configuration.api_key.get("BearerToken", "").removeprefix("Bearer ") or None,
    )


def is_in_cluster() -> bool:
    """Whether this process runs in a pod with a service account."""
    return bool(os.environ.get("KUBERNETES_SERVICE_HOST"))


async def connect(settings: OperatorSettings, kubeconfig: Path | None = None) -> ApiClient:
    """A client for the API server.

    Args:
        settings: how many requests are under way at once.
        kubeconfig: a file, instead of the pod's service account or `$KUBECONFIG`.

    Raises:
        ConnectionSetupError: no configuration, or one that cannot be read.
    """
    configuration = Configuration()
    # Watches are kopf's own; these are requests of workers, lists and the lease.
    configuration.connection_pool_maxsize = settings.workers + 8
    # By default each request looks for a .netrc, in a thread of its own.
    configuration.client_session_kwargs = {"trust_env": False}
    try:
        if kubeconfig is None and is_in_cluster():
            config.load_incluster_config(client_configuration=configuration)
        else:
            await config.load_kube_config(
                config_file=str(kubeconfig) if kubeconfig else None,
                client_configuration=configuration,
            )
    except (ConfigException, OSError, ValueError) as error:
        raise ConnectionSetupError(
            f"no connection to Kubernetes: {error}; run in a pod with a service account, "
            "or name a kubeconfig file with --kubeconfig or KUBECONFIG"
        ) from error
    return ApiClient(configuration)
