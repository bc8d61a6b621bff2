# SPDX-License-Identifier: Apache-2.0
"""What servers say of themselves: storage, and who is connected.

Why: a reservation that does not fit is refused by the server in silence (the account gets no
JetStream), so the sum is made before; and a node that is gone may have left a connection behind.
Asked through the system account by the operator's provisioning. Promise: G5.
"""

import asyncio
import json
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg

from headwater_operator.accounts import claims
from headwater_operator.accounts.errors import ServerUnreachableError

_FIRST_ANSWER_S = 5.0
_FURTHER_ANSWERS_S = 0.3
"""After one server has answered the others have this long: they were asked at the same time."""

_ACCOUNTS_MAX = 100_000
_PAGE = 1024


@dataclass(frozen=True, slots=True)
class Storage:
    """What servers have for streams on disk, all of them together."""

    servers: int
    """How many have JetStream."""

    total_bytes: int
    """What they may promise."""

    others_bytes: int
    """What they have promised to accounts that are not ours."""


@dataclass(frozen=True, slots=True)
class ConnectedUser:
    """A live connection."""

    name: str
    """The user's name in its token; an agent's is its node token."""

    public_key: str
    """The user's."""


async def measure_storage(system: Client, ours: Collection[str]) -> Storage:
    """Return how much there is to share out.

    Args:
        system: a connection of the system account that may ask.
        ours: public keys of our accounts.

    Raises:
        ServerUnreachableError: no server answers, or none has JetStream.
    """
    options = {"accounts": True, "limit": _ACCOUNTS_MAX}
    servers = total = others = 0
    for answer in await ask_all(system, "$SYS.REQ.SERVER.PING.JSZ", options):
        data = answer.get("data") or {}
        if data.get("disabled"):
            continue
        servers += 1
        total += int((data.get("config") or {}).get("max_storage") or 0)
        for account in data.get("account_details") or ():
            if account.get("id") not in ours:
                # An account without a limit has promised nothing; what it stores is there.
                held = (account.get("reserved_storage"), account.get("storage"))
                others += max(0, *(int(one or 0) for one in held))
    if not servers:
        raise ServerUnreachableError(
            "NATS: no server has JetStream", "add a jetstream block to the server's configuration"
        )
    return Storage(servers, total, others)


async def connected_users(system: Client, account: str) -> list[ConnectedUser]:
    """Return who is connected to an account.

    Args:
        system: a connection of the system account that may ask.
        account: the account's public key.

    Raises:
        ServerUnreachableError: no server answers.
    """
    found: list[ConnectedUser] = []
    for page in range(_ACCOUNTS_MAX // _PAGE):
        options = {"auth": True, "limit": _PAGE, "offset": page * _PAGE}
        answers = await ask_all(system, f"$SYS.REQ.ACCOUNT.{account}.CONNZ", options)
        is_more = False
        for answer in answers:
            data = answer.get("data") or {}
            connections = data.get("connections") or ()
            is_more |= len(connections) == _PAGE
            for one in connections:
                content = claims.read(str(one.get("jwt") or ""))
                if content is not None:
                    found.append(ConnectedUser(content.name, content.subject))
        if not is_more:
            break
    return found


async def ask_all(
    system: Client, subject: str, options: dict[str, Any], *, servers: int | None = None
) -> list[dict[str, Any]]:
    """Ask every server; return the answers of those that are there.

    Args:
        system: a connection of the system account that may ask.
        subject: of the request.
        options: its body.
        servers: how many there are, if that is known: nobody waits for more of them.

    Raises:
        ServerUnreachableError: no server answers.
    """
    inbox = system.new_inbox()
    arrived: asyncio.Queue[Msg] = asyncio.Queue()
    answers: list[dict[str, Any]] = []
    try:
        subscription = await system.subscribe(inbox, cb=arrived.put)
        await system.publish(subject, json.dumps(options).encode(), reply=inbox)
        try:
            while True:
                wait_s = _FURTHER_ANSWERS_S if answers else _FIRST_ANSWER_S
                message = await asyncio.wait_for(arrived.get(), wait_s)
                if (message.headers or {}).get("Status") == "503":
                    break
                answers.append(json.loads(message.data))
                if len(answers) == servers:
                    break
        except TimeoutError:
            pass  # all have answered who are there
        await subscription.unsubscribe()
    except (nats.errors.Error, OSError, ValueError) as error:
        raise ServerUnreachableError(
            f"NATS: no answer to {subject}: {error!r}", "see the server's log"
        ) from error
    if not answers:
        raise ServerUnreachableError(
            f"NATS: no answer to {subject}",
            "check that the user is one of the system account and may ask this",
        )
    return answers
