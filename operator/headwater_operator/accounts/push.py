# SPDX-License-Identifier: Apache-2.0
"""Hand account tokens to a running server, and see that it took them over.

Why: the server answers 200 and stores a token even when it then refuses to apply it, and the good
one on its disk is overwritten; so what was pushed is read back. What it stores is not what it works
by, either: a token that arrives in the moment in which the server first loads that account is kept
on disk and never applied (nats-server 2.15, `fetchAccount`: the older token that it has read is
registered after the newer one was announced), and the same token sent again is no news to it. So
what it has loaded is asked for, too. Called by the embedded NATS and by
the operator's provisioning for each new or changed tenant; next comes `streams`.
Promise: G5, G6 (one push changes one account).
"""

import json
from collections.abc import Sequence

import nats.errors
from nats.aio.client import Client

from headwater_operator.accounts import claims
from headwater_operator.accounts.errors import ClaimsRefusedError
from headwater_operator.accounts.key_pair import KeyPair
from headwater_operator.accounts.monitoring import ask_all

_REQUEST_TIMEOUT_S = 5.0
_READ_BACK = "look at the server's log, it says why; then push again"


async def push_account(system: Client, *, account: str, token: str, what: str) -> None:
    """Push one account's token and read it back.

    Args:
        system: a connection of the system account.
        account: the account's public key.
        token: the signed token.
        what: whose account, for messages.

    Raises:
        ClaimsRefusedError: the token is too large, was refused, or is not what the server now has.
    """
    data = token.encode("ascii")
    if len(data) > system.max_payload:
        raise ClaimsRefusedError(
            f"{what}: its token has {len(data)} bytes, the server takes {system.max_payload}",
            "raise the server's max_payload; each tenant adds some 250 bytes to the capture token",
        )
    answer = json.loads(await _ask(system, "$SYS.REQ.CLAIMS.UPDATE", data, what))
    code = answer.get("data", {}).get("code")
    if code != 200:
        reason = answer.get("error", answer.get("data", {}))
        raise ClaimsRefusedError(f"{what}: the server refused its token: {reason}", _READ_BACK)
    stored = await _ask(system, f"$SYS.REQ.ACCOUNT.{account}.CLAIMS.LOOKUP", b"", what)
    if stored != data:
        raise ClaimsRefusedError(f"{what}: the server holds another token than pushed", _READ_BACK)


async def applied_claims(
    system: Client, account: str, *, servers: int | None = None
) -> list[claims.Claims]:
    """Return what each server works by that has an account loaded; the others will load what they
    store.

    Args:
        system: a connection of the system account.
        account: the account's public key.
        servers: how many there are, if that is known.

    Raises:
        ServerUnreachableError: no server answers, or the user may not ask.
    """
    answers = await ask_all(system, f"$SYS.REQ.ACCOUNT.{account}.INFO", {}, servers=servers)
    tokens = (str((answer.get("data") or {}).get("jwt") or "") for answer in answers)
    return [found for found in map(claims.read, tokens) if found is not None]


async def stored_claims(system: Client, account: str, what: str) -> claims.Claims | None:
    """Return what a server has of an account; None if it has nothing, or nothing that is signed.

    Args:
        system: a connection of the system account.
        account: the account's public key.
        what: whose account, for messages.

    Raises:
        ClaimsRefusedError: no answer.
    """
    stored = await _ask(system, f"$SYS.REQ.ACCOUNT.{account}.CLAIMS.LOOKUP", b"", what)
    return claims.read(stored.decode("ascii", "replace")) if stored else None


async def delete_accounts(
    system: Client, *, accounts: Sequence[str], signer: KeyPair, issued_at: int, what: str
) -> None:
    """Have a server forget accounts; streams in them have to be deleted before.

    Args:
        system: a connection of the system account.
        accounts: public keys.
        signer: a signing key of the operator.
        issued_at: seconds since 1970.
        what: whose accounts, for messages.

    Raises:
        ClaimsRefusedError: the server does not, or has them still.
    """
    token = claims.deletion_token(accounts=accounts, signer=signer, issued_at=issued_at)
    answer = json.loads(await _ask(system, "$SYS.REQ.CLAIMS.DELETE", token.encode("ascii"), what))
    if answer.get("data", {}).get("code") == 200:
        for account in accounts:
            if await _ask(system, f"$SYS.REQ.ACCOUNT.{account}.CLAIMS.LOOKUP", b"", what):
                break
        else:
            return
    reason = answer.get("error", answer.get("data", {}))
    raise ClaimsRefusedError(
        f"{what}: the server did not delete the account: {reason}",
        "set allow_delete: true in the server's resolver",
    )


async def _ask(system: Client, subject: str, data: bytes, what: str) -> bytes:
    try:
        reply = await system.request(subject, data, timeout=_REQUEST_TIMEOUT_S)
    except (nats.errors.Error, TimeoutError) as error:
        raise ClaimsRefusedError(
            f"{what}: no answer from the server to {subject}: {error!r}",
            "check that the server runs and that its system account is this operator's",
        ) from error
    return bytes(reply.data)
