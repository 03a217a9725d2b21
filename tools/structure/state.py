#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""No globals with state: everything hangs off a scheduler or an image, so that several live in one process.

usage: state.py ARCHIVE...      (libroom_NAME.a, as the plain gcc build makes them)

No object file has a variable that can be written to, static or not. Constants may have any scope. What is excepted
stands in EXCEPTED with the reason beside it.
"""

import re
import subprocess
import sys

EXCEPTED = {
    "crypto_gcrypt.c": "the library keeps its state per process, and so is set up once per process",
    "io_memory.c": "the disposition of a signal belongs to the process, and a handler has no argument",
    "co_overflow.c": "the disposition of a signal belongs to the process, and a handler has no argument",
}
WRITABLE = re.compile(r"^\.(data|bss|tdata|tbss)(\.(?!rel\.ro)|$)")
COMMON = "*COM*"


def variables(archive):
    """(object, name) of every variable in writable memory."""
    name = ""
    out = subprocess.run(["objdump", "-t", archive], check=True, capture_output=True, text=True).stdout
    for line in out.splitlines():
        header = re.match(r"(?:.*/)?(\S+)\.o:\s+file format", line)
        entry = re.match(r"[0-9a-f]+ (.{7}) (\S+)\s+[0-9a-f]+ (?:\.hidden )?(\S+)$", line)
        if header:
            name = header.group(1)
        elif entry and "d" not in entry.group(1) and (WRITABLE.match(entry.group(2)) or entry.group(2) == COMMON):
            yield name, entry.group(3)


def main():
    found = sorted((o, v) for archive in sys.argv[1:] for o, v in variables(archive) if o not in EXCEPTED)
    guilty = [f"{o}: {v.split('.')[0]} is a variable of the whole process" for o, v in found]
    print("\n".join(guilty) or f"{len(sys.argv) - 1} rooms keep no state of their own")
    sys.exit(1 if guilty else 0)


if __name__ == "__main__":
    main()
