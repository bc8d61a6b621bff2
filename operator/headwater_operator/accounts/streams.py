# SPDX-License-Identifier: Apache-2.0
"""A tenant's stream: made, kept as its quotas say, never lossy in silence.

Why: the stream's settings carry promises. A full one refuses (`discard: new`) instead of dropping
its oldest records unseen, so the agent learns of it and declares it (G2); acknowledged means stored
(`no_ack` is never set; it would also leak memory in the server); nothing in it can be deleted or
purged (G7); what is sent twice is stored once (`duplicate_window`, G3). Called after `push`.
"""

import nats.errors
import nats.js.errors
from headwater_prov.stream import STREAM_NAME, STREAM_SUBJECTS
from nats.aio.client import Client
from nats.js.api import DiscardPolicy, RetentionPolicy, StorageType, StreamConfig

from headwater_operator.accounts.errors import StreamRefusedError
from headwater_operator.accounts.quotas import Quotas


def stream_config(quotas: Quotas, *, replicas: int = 1) -> StreamConfig:
    """Return the settings of a tenant's stream, held by `replicas` servers (1 when embedded)."""
    window_s = quotas.duplicate_window_s
    if quotas.stream_age_s:
        window_s = min(window_s, quotas.stream_age_s)  # the server refuses a longer one
    return StreamConfig(
        name=STREAM_NAME,
        description="W3C PROV of this tenant",
        subjects=[STREAM_SUBJECTS],
        retention=RetentionPolicy.LIMITS,
        storage=StorageType.FILE,
        discard=DiscardPolicy.NEW,
        max_bytes=quotas.stream_bytes,
        max_age=quotas.stream_age_s,
        duplicate_window=window_s,
        num_replicas=replicas,
        deny_delete=True,
        deny_purge=True,
        no_ack=False,
    )


async def delete_stream(tenant: Client) -> None:
    """Delete the stream with all that is in it; none is as good.

    Args:
        tenant: a connection of the tenant's account that may use its JetStream API.

    Raises:
        StreamRefusedError: the server does not do it, with its reason.
    """
    try:
        await tenant.jsm().delete_stream(STREAM_NAME)
    except nats.js.errors.NotFoundError:
        pass  # an earlier attempt got so far
    except nats.js.errors.APIError as error:
        raise StreamRefusedError(
            f"stream {STREAM_NAME}: the server did not delete it: {error.description or error}",
            "see the server's log",
        ) from error
    except (nats.errors.Error, TimeoutError) as error:
        raise StreamRefusedError(
            f"stream {STREAM_NAME}: no answer from JetStream: {error!r}", "see the server's log"
        ) from error


async def ensure_stream(tenant: Client, quotas: Quotas, *, replicas: int = 1) -> None:
    """Make the stream, or change it to what `quotas` say; what is stored stays.

    Args:
        tenant: a connection of the tenant's account that may use its JetStream API.
        quotas: size and age of what is kept.
        replicas: servers that hold a copy; 1 for an embedded server.

    Raises:
        StreamRefusedError: the server does not do it, with its reason.
    """
    manager = tenant.jsm()
    config = stream_config(quotas, replicas=replicas)
    try:
        try:
            if not _is_so((await manager.stream_info(STREAM_NAME)).config, config):
                await manager.update_stream(config)
        except nats.js.errors.NotFoundError:
            await manager.add_stream(config)
    except nats.js.errors.APIError as error:
        raise StreamRefusedError(
            f"stream {STREAM_NAME}: the server refused it: {error.description or error} "
            f"(code {error.err_code})",
            "change the tenant's quotas; a stream cannot be made smaller than what is in it",
        ) from error
    except (nats.errors.Error, TimeoutError) as error:
        raise StreamRefusedError(
            f"stream {STREAM_NAME}: no answer from JetStream: {error!r}",
            "see the server's log; an account whose reservation does not fit gets no JetStream",
        ) from error


def _is_so(found: StreamConfig, wanted: StreamConfig) -> bool:
    """Whether a stream has all that is wanted; what the server has filled in does not matter."""
    return all(
        getattr(found, name) == value or (value is False and not getattr(found, name))
        for name, value in vars(wanted).items()
        if value is not None
    )
