# SPDX-License-Identifier: Apache-2.0
"""`make -j4` of a C program: usage `building.py SOURCES`; the program is `total`."""

import subprocess
import sys
from pathlib import Path

MAKEFILE = """\
OBJECTS := $(patsubst %.c,%.o,$(wildcard *.c))
total: $(OBJECTS)
\t$(CC) -o $@ $^
%.o: %.c parts.h
\t$(CC) -O1 -c -o $@ $<
"""


def write_sources(count: int) -> None:
    parts = range(count)
    Path("parts.h").write_text("".join(f"int part{each}(void);\n" for each in parts))
    for each in parts:
        text = f'#include "parts.h"\nint part{each}(void) {{ return {each}; }}\n'
        Path(f"part{each}.c").write_text(text)
    terms = " + ".join(f"part{each}()" for each in parts)
    Path("main.c").write_text(
        f'#include "parts.h"\n#include <stdio.h>\nint main(void) {{ printf("%d\\n", {terms}); }}\n'
    )
    Path("Makefile").write_text(MAKEFILE)


if __name__ == "__main__":
    sources = int(sys.argv[1])
    write_sources(sources)
    subprocess.run(["make", "-j4"], check=True)
    result = subprocess.run(["./total"], capture_output=True, check=True)
    assert int(result.stdout) == sum(range(sources))
