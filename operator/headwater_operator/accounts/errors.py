# SPDX-License-Identifier: Apache-2.0
"""What can go wrong with accounts and streams, each with a remedy a person can follow.

Why: the same text reaches a terminal, a condition in a cluster and a log, so the wording is made
where the fact is known. Raised by every module of this package; a caller shows `message` and
`remedy` and decides about its own exit.
"""


class AccountsError(Exception):
    """An expected failure of keys, accounts or streams.

    Args:
        message: what is wrong, with the file, field or tenant it is about.
        remedy: what the reader can do about it.
    """

    def __init__(self, message: str, remedy: str) -> None:
        super().__init__(f"{message}; {remedy}")
        self.message = message
        self.remedy = remedy


class KeyStateError(AccountsError):
    """Keys on disk are missing, damaged, readable by others or cannot be written."""


class TenantNameError(AccountsError):
    """A tenant's name is not one, or no account of that name exists."""


class QuotaError(AccountsError):
    """A quota is impossible, or the sum of all reservations does not fit the server's storage."""


class ClaimsRefusedError(AccountsError):
    """The server did not take over an account JWT that was pushed to it."""


class StreamRefusedError(AccountsError):
    """The server did not make or change a tenant's stream."""


class ServerUnreachableError(AccountsError):
    """No server takes a connection, or none answers."""


class ConsumerRefusedError(AccountsError):
    """The server did not make, change or delete an auditor's consumer."""
