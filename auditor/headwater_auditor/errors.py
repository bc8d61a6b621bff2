# SPDX-License-Identifier: Apache-2.0
"""What an auditor's author has to expect, each with what to do about it."""


class AuditorError(Exception):
    """The stream cannot be read.

    Args:
        message: what is wrong.
        remedy: what the reader can do.
    """

    def __init__(self, message: str, remedy: str) -> None:
        super().__init__(f"{message}; {remedy}")
        self.message = message
        self.remedy = remedy


class InvalidBatchError(ValueError):
    """A message in the stream is not a batch: a header, the encoding or the document is wrong."""
