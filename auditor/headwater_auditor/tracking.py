# SPDX-License-Identifier: Apache-2.0
"""What has come, what was declared lost, what came twice: kept while a stream is read.

Why: an auditor that reports "nothing else happened" must know that nothing is missing, and one that
counts must not count a redelivered batch again. Called by `stream.TenantStream` for each batch;
the sums are `headwater_prov.balance`'s. Promises: G2, G3, G4.
"""

from collections import OrderedDict
from dataclasses import replace

from headwater_prov.balance import Balance, Ledger
from headwater_prov.stream import SequenceRange
from headwater_prov.vocabulary import RecordClass

from headwater_auditor.batch import BatchHeader

_RECENT_IDS = 4096
"""Message ids remembered of batches without numbers (machine documents, a handful per epoch)."""


class Tracker:
    """Accounts of all nodes and loads in one stream.

    Args:
        from_start: whether the stream is read from its first record. If not, the numbers before an
            origin's first batch are neither expected nor counted.
    """

    def __init__(self, *, from_start: bool = True) -> None:
        self._from_start = from_start
        self._ledgers: dict[str, Ledger] = {}
        self._skipped: dict[str, int] = {}
        self._recent: OrderedDict[str, None] = OrderedDict()
        self.duplicates = 0

    def admit(self, header: BatchHeader) -> bool:
        """Enter a batch; return False if all of it has come before and it must not count again."""
        if header.numbers is None:
            fresh = self._is_new_id(header.message_id)
        else:
            fresh = self._enter(header, header.numbers)
        self.duplicates += not fresh
        return fresh

    def balances(self) -> dict[str, Balance]:
        """Return the account of each origin (`<node>-<load>`)."""
        return {origin: self._balance(origin) for origin in self._ledgers}

    @property
    def is_even(self) -> bool:
        """Whether every number that was given is delivered or declared, everywhere."""
        return all(balance.is_even for balance in self.balances().values())

    def _enter(self, header: BatchHeader, numbers: SequenceRange) -> bool:
        origin = header.origin
        ledger = self._ledgers.get(origin)
        if ledger is None:
            ledger = self._ledgers[origin] = Ledger()
            self._skipped[origin] = 0
            if not self._from_start and numbers.first > 1:
                self._skipped[origin] = numbers.first - 1
                ledger.add(SequenceRange(1, numbers.first - 1))
        before = ledger.balance().repeated
        ledger.add(numbers, is_gap=header.record_class is RecordClass.GAP)
        return ledger.balance().repeated - before < numbers.count

    def _balance(self, origin: str) -> Balance:
        balance, skipped = self._ledgers[origin].balance(), self._skipped[origin]
        return replace(
            balance, captured=balance.captured - skipped, delivered=balance.delivered - skipped
        )

    def _is_new_id(self, message_id: str) -> bool:
        if message_id in self._recent:
            return False
        self._recent[message_id] = None
        if len(self._recent) > _RECENT_IDS:
            self._recent.popitem(last=False)
        return True
