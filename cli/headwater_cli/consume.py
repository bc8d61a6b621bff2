# SPDX-License-Identifier: Apache-2.0
"""Read a tenant's stream as any auditor would: with a short-lived credential, from the start.

Why: what the program prints must be what the tenant can get, so it has no other way in. Called by
`trace`, `lineage` and the demo; `tail` reads batch by batch. Promises: G2 (the account), G5.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from headwater_auditor import AuditorError, InvalidBatchError, TenantStream
from headwater_prov.balance import Balance
from headwater_prov.document import Document, DocumentError, merge

from headwater_cli.embedded_nats import NatsAccess
from headwater_cli.errors import Failure

CREDENTIAL_LIFETIME_S = 300.0


@dataclass(frozen=True, slots=True)
class Account:
    """What an auditor found in a stream, all nodes and loads together."""

    delivered: int
    """Captured records in graph documents."""

    declared: int
    """Captured records that gap documents declare lost."""

    missing: int
    """Numbers below the highest that are in neither."""

    messages: int
    """Batches of any class."""


def sum_up(balances: Iterable[Balance], messages: int) -> Account:
    """Add up the balances of all origins."""
    delivered = declared = missing = 0
    for balance in balances:
        delivered += balance.delivered
        declared += balance.declared
        missing += sum(hole.count for hole in balance.missing)
    return Account(delivered, declared, missing, messages)


def open_stream(access: NatsAccess, tenant: str, *, name: str) -> TenantStream:
    """Return the tenant's stream, to be entered; a fresh credential is made at each connection.

    Raises:
        Failure: there is no such tenant; the message lists those that are.
    """
    access.tenant_credentials(tenant, CREDENTIAL_LIFETIME_S, name=name)
    return TenantStream(
        access.url,
        lambda: access.tenant_credentials(tenant, CREDENTIAL_LIFETIME_S, name=name).text(),
        name=name,
    )


async def fetch_all(
    access: NatsAccess, tenant: str, *, name: str = "headwater"
) -> tuple[Document, Account]:
    """Return everything that is stored for `tenant` as one document, and the account of it.

    Raises:
        Failure: the stream cannot be read, or what is in it contradicts itself.
    """
    documents: list[Document] = []
    try:
        async with open_stream(access, tenant, name=name) as stream:
            async for batch in stream.fetch_all():
                documents.append(batch.document)
            account = sum_up(stream.balances().values(), stream.statistics.batches)
        return merge(documents, source=f"the stream of tenant {tenant}"), account
    except AuditorError as error:
        raise Failure(error.message, error.remedy) from error
    except (InvalidBatchError, DocumentError) as error:
        raise Failure(
            f"the stream of tenant {tenant} holds something that is no provenance: {error}",
            "this is a defect, or somebody published into the stream: please report it",
        ) from error
