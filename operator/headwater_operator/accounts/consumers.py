# SPDX-License-Identifier: Apache-2.0
"""An auditor's durable consumer: made by the operator, used by the auditor, gone with it.

Why: what an auditor may read is what its consumer's filter lets through, so it may use the consumer
and not change it. Pull and explicit acknowledgement: a batch counts as read when the auditor says
so, whatever dies in between (G3). Called by the operator's provisioning after `streams`.
"""

from collections.abc import Collection, Mapping, Sequence

import nats.errors
import nats.js.errors
from headwater_prov.stream import STREAM_NAME
from nats.aio.client import Client
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

from headwater_operator.accounts.errors import ConsumerRefusedError

ACK_WAIT_S = 300.0
"""For one document; after that it comes again."""

ACK_PENDING_MAX = 512
"""Messages handed out and not acknowledged: two requests of the auditor SDK."""


def consumer_config(name: str, subjects: Sequence[str]) -> ConsumerConfig:
    """Return the settings of an auditor's consumer.

    Args:
        name: of the consumer.
        subjects: what it gets; none: everything.
    """
    config = ConsumerConfig(
        name=name,
        durable_name=name,
        description="an auditor of this tenant",
        ack_policy=AckPolicy.EXPLICIT,
        ack_wait=ACK_WAIT_S,
        max_ack_pending=ACK_PENDING_MAX,
        deliver_policy=DeliverPolicy.ALL,
    )
    if len(subjects) == 1:
        config.filter_subject = subjects[0]
    elif subjects:
        config.filter_subjects = list(subjects)
    return config


async def ensure_consumer(tenant: Client, name: str, subjects: Sequence[str]) -> None:
    """Make the consumer, or give it another filter; its place in the stream stays.

    Args:
        tenant: a connection of the tenant's account that may use its JetStream API.
        name: of the consumer.
        subjects: what it gets; none: everything.

    Raises:
        ConsumerRefusedError: the server does not do it, with its reason.
    """
    try:
        await tenant.jsm().add_consumer(STREAM_NAME, consumer_config(name, subjects))
    except nats.js.errors.APIError as error:
        raise ConsumerRefusedError(
            f"consumer {name}: the server refused it: {error.description or error} "
            f"(code {error.err_code})",
            "delete a ProvenanceAuditor, or raise quotas.auditors of the tenant",
        ) from error
    except (nats.errors.Error, TimeoutError) as error:
        raise ConsumerRefusedError(
            f"consumer {name}: no answer from JetStream: {error!r}", "see the server's log"
        ) from error


async def delete_consumer(tenant: Client, name: str) -> None:
    """Delete a consumer; none is as good.

    Args:
        tenant: a connection of the tenant's account that may use its JetStream API.
        name: of the consumer.

    Raises:
        ConsumerRefusedError: the server does not do it, with its reason.
    """
    try:
        await tenant.jsm().delete_consumer(STREAM_NAME, name)
    except nats.js.errors.NotFoundError:
        pass  # an earlier attempt got so far, or the stream is gone with all its consumers
    except (nats.js.errors.APIError, nats.errors.Error, TimeoutError) as error:
        raise ConsumerRefusedError(
            f"consumer {name}: the server did not delete it: {error!r}", "see the server's log"
        ) from error


async def align_consumers(
    tenant: Client, wanted: Mapping[str, Sequence[str]], kept: Collection[str] = ()
) -> dict[str, ConsumerRefusedError]:
    """See that the stream has these consumers and no other.

    Args:
        tenant: a connection of the tenant's account that may use its JetStream API.
        wanted: what each gets, by its name.
        kept: names of further ones that stay as they are.

    Returns:
        By name, those that the server refused.

    Raises:
        ConsumerRefusedError: the server does not tell which there are, or keeps one that is over.
    """
    there: dict[str, set[str]] = {}
    manager = tenant.jsm()
    try:
        while True:
            page = await manager.consumers_info(STREAM_NAME, offset=len(there))
            for one in page:
                filters = [one.config.filter_subject, *(one.config.filter_subjects or ())]
                there[one.name] = {each for each in filters if each}
            if not page:
                break
    except (nats.js.errors.APIError, nats.errors.Error, TimeoutError) as error:
        raise ConsumerRefusedError(
            f"the consumers of stream {STREAM_NAME} cannot be listed: {error!r}",
            "see the server's log",
        ) from error
    for name in there.keys() - wanted.keys() - set(kept):
        await delete_consumer(tenant, name)
    refused: dict[str, ConsumerRefusedError] = {}
    for name, subjects in wanted.items():
        if there.get(name) != set(subjects):
            try:
                await ensure_consumer(tenant, name, subjects)
            except ConsumerRefusedError as error:
                refused[name] = error
    return refused
