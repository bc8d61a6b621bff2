# SPDX-License-Identifier: Apache-2.0
"""What consumes one tenant's stream and answers questions about it.

`TenantStream` yields `Batch`es; `batch.document` is a `headwater_prov.document.Document`, and
everything that `headwater_prov` does with documents (merge, lineage, writers) can be done with it.
"""

from headwater_auditor.batch import Batch, BatchHeader
from headwater_auditor.errors import AuditorError, InvalidBatchError
from headwater_auditor.message import StoredMessage
from headwater_auditor.stream import ReadStatistics, TenantStream
from headwater_auditor.stream_session import Start
from headwater_auditor.tracking import Tracker

__all__ = [
    "AuditorError",
    "Batch",
    "BatchHeader",
    "InvalidBatchError",
    "ReadStatistics",
    "Start",
    "StoredMessage",
    "TenantStream",
    "Tracker",
]
