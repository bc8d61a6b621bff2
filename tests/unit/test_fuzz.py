# SPDX-License-Identifier: Apache-2.0
"""A short run of every decoder's fuzzing; `make fuzz` is the long one."""

import secrets

import pytest

from tests.fuzz.__main__ import attack
from tests.fuzz.targets import TARGETS

INPUTS = 600


@pytest.mark.parametrize("name", TARGETS)
def test_damaged_input_is_refused_by_a_documented_error(name: str) -> None:
    seed = secrets.randbits(32)
    print(f"seed {seed}")
    attack(name, seed, INPUTS)


@pytest.mark.parametrize("name", TARGETS)
def test_real_input_is_taken(name: str) -> None:
    target = TARGETS[name]
    for data in target.seeds():
        target.run(data)
