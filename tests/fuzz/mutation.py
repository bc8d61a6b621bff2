# SPDX-License-Identifier: Apache-2.0
"""Inputs that are nearly right: what a decoder meets from a torn file or a hostile tenant.

Why not bytes at random: those fail at the first byte, and the code behind is never reached.
"""

import re
from collections.abc import Sequence
from random import Random

_NUMBERS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 2**63 - 1, 2**64 - 1)
_WORDS = (
    *(b"null", b"true", b"[]", b"{}", b'""', b"-1", b"0", b"1e999", b"18446744073709551616"),
    *(b'"\\ud800"', b'"\\u0000"', b'"\xff"', b"[" * 200, b'{"a":' * 200, b"&a [*a]", b"!!python/x"),
)
_TOKEN = re.compile(rb'"[^"\n]*"|-?\d+|[\[\]{}:,]')


def mutated(random: Random, seeds: Sequence[bytes]) -> bytes:
    """A seed with one to four things wrong."""
    data = bytearray(random.choice(seeds))
    for _ in range(random.choice((1, 1, 1, 2, 4))):
        data = _mutate(random, data, seeds)
    return bytes(data[: 1 << 16])


def _mutate(random: Random, data: bytearray, seeds: Sequence[bytes]) -> bytearray:
    at = random.randrange(len(data) + 1)
    match random.randrange(9):
        case 0 if data:
            data[at % len(data)] ^= 1 << random.randrange(8)
        case 1:
            del data[at : at + random.choice((1, 2, 8, 64))]
        case 2:
            del data[at:]
        case 3:
            data[at:at] = random.randbytes(random.choice((1, 4, 16)))
        case 4:
            size = random.choice((1, 2, 4, 8))
            number = random.choice(_NUMBERS) & (1 << 8 * size) - 1
            data[at : at + size] = number.to_bytes(size, random.choice(("little", "big")))
        case 5:
            other = random.choice(seeds)
            begin = random.randrange(len(other) + 1)
            data[at : at + random.randrange(64)] = other[begin : begin + random.randrange(256)]
        case 6:
            data[at:at] = data[at : at + random.randrange(128)]
        case _:
            # A token of JSON or YAML becomes another one: of the same text, or a hostile one.
            tokens = list(_TOKEN.finditer(bytes(data)))
            if tokens:
                one, other_token = random.choice(tokens), random.choice(tokens)
                word = random.choice((other_token[0], random.choice(_WORDS)))
                data[one.start() : one.end()] = word
    return data
