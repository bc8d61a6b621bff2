# SPDX-License-Identifier: Apache-2.0
"""`python -m tests.fuzz [--inputs N] [--seed S] [TARGET...]`: damaged input for every decoder.

Each decoder may refuse with its documented error (a ValueError). Anything else, an input that takes
more than seconds, or the end of the process is a finding: the input is kept in build/fuzz/, and the
line that is printed runs it again. Exit status: 0 without findings, 1 with, 2 for wrong words.
"""

import argparse
import faulthandler
import os
import secrets
import subprocess
import sys
import time
from pathlib import Path
from random import Random

from tests.fuzz.mutation import mutated
from tests.fuzz.targets import ROOT, TARGETS

FINDINGS = ROOT / "build" / "fuzz"
SLOW_S = 5.0
PROGRESS_S = 5.0


def attack(name: str, seed: int, inputs: int) -> None:
    """Give a decoder so many inputs.

    Raises:
        AssertionError: it took one badly, or an input took too long.
    """
    target = TARGETS[name]
    seeds = target.seeds()
    assert seeds and all(seeds), f"{name}: no real input to start from"
    refused = 0
    current = _kept(name)
    kept = os.open(current, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o644)
    began_s = told_s = time.monotonic()
    for number in range(inputs):
        # An input depends on its number alone, so that one can be made again without the others.
        data = mutated(Random(f"{seed}:{name}:{number}"), seeds)
        os.ftruncate(kept, len(data))
        os.pwrite(kept, data, 0)
        before_s = time.monotonic()
        try:
            target.run(data)
        except ValueError:
            refused += 1
        except Exception as error:
            raise AssertionError(f"{name}, input {number}: {error!r}; kept in {current}") from error
        now_s = time.monotonic()
        assert now_s - before_s < SLOW_S, f"{name}, input {number}: too slow; kept in {current}"
        if now_s - told_s > PROGRESS_S:
            told_s = now_s
            rate = (number + 1) / (now_s - began_s)
            print(f"{name}: {number + 1:,} of {inputs:,}, {rate:,.0f}/s", flush=True)
    os.close(kept)
    current.unlink()
    took_s = time.monotonic() - began_s
    print(
        f"{name}: {inputs:,} inputs in {took_s:.0f} s, {refused:,} refused, no finding", flush=True
    )


def _kept(name: str) -> Path:
    FINDINGS.mkdir(parents=True, exist_ok=True)
    return FINDINGS / f"{name.replace(': ', '-')}.{os.getpid()}"


def main() -> int:
    """Attack the targets, each in a process of its own: a decoder may take that with it."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("target", nargs="*", help=f"of: {', '.join(TARGETS)}; none: all")
    parser.add_argument("--inputs", type=int, default=1_000_000, help="of all targets together")
    parser.add_argument("--seed", type=int, help="to make the same inputs again")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    for name in chosen.target:
        if name not in TARGETS:
            parser.error(f'"{name}" is no target; there are {", ".join(TARGETS)}')
    seed = secrets.randbits(32) if chosen.seed is None else chosen.seed
    names = chosen.target or list(TARGETS)
    each = max(1, chosen.inputs // len(names))
    if chosen.here:
        faulthandler.enable()
        try:
            attack(names[0], seed, chosen.inputs)
        except AssertionError as error:
            print(f"FINDING: {error}", flush=True)
            return 1
        return 0
    status = 0
    for name in names:
        words = ["--here", "--seed", str(seed), "--inputs", str(each), name]
        command = [sys.executable, "-m", "tests.fuzz", *words]
        ended = subprocess.run(command, cwd=ROOT)
        if ended.returncode:
            status = 1
            again = " ".join(f"'{word}'" if " " in word else word for word in words[1:])
            print(f"FINDING: {name} ended with {ended.returncode}; again:")
            print(f"  python -m tests.fuzz {again}", flush=True)
    return status


if __name__ == "__main__":
    sys.exit(main())
