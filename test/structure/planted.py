#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Proves that a structure check can fail: runs it on small trees with planted violations.

usage: planted.py CHECK      (rooms, witness, blocking, state, stacks, style)

A case is a file planted/CHECK/NAME.txt with the files of its tree, each after a line `== path` (`== path * 100` repeats
the text), and, after `== expected`, what the check must say, line by line: no more, no less. With nothing expected the
check must be content.
"""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
CHECKS = HERE.parent.parent / "tools" / "structure"
GCC = ["gcc", "-std=gnu11", "-O2", "-fPIE", "-D_GNU_SOURCE", "-D_FORTIFY_SOURCE=2", "-fcallgraph-info=su", "-w"]


def unpack(case, top):
    """Writes the tree; returns the lines that the check is expected to say."""
    expected = []
    for section in re.split(r"^== ", case.read_text(), flags=re.M)[1:]:
        header, text = section.split("\n", 1)
        path, _, times = header.partition(" * ")
        if path == "expected":
            expected = text.splitlines()
        else:
            (top / path).parent.mkdir(parents=True, exist_ok=True)
            (top / path).write_text(text * int(times or 1))
    return expected


def compile_rooms(top):
    """Each folder to libROOM.a.p/*.o and libROOM.a, named as the build names them."""
    archives = []
    for room in sorted(p for p in top.iterdir() if p.is_dir()):
        objects = top / f"libroom_{room.name}.a.p"
        objects.mkdir()
        for source in sorted(room.glob("*.c")):
            out = objects / f"{room.name}_{source.name}.o"
            subprocess.run(GCC + ["-I", top, "-c", source, "-o", out], check=True, cwd=top)
        archive = top / f"libroom_{room.name}.a"
        subprocess.run(["ar", "rcs", archive, *sorted(objects.glob("*.o"))], check=True)
        archives.append(archive)
    return archives


def arguments(check, top):
    if check in ("blocking", "state"):
        return compile_rooms(top)
    if check == "stacks":
        return [top, *(f"{archive}.p" for archive in compile_rooms(top))]
    return [top]


def says(check, top):
    """The exit status and the lines of complaint."""
    command = [sys.executable, "-B", CHECKS / f"{check}.py", *arguments(check, top)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.stderr:
        sys.exit(done.stderr)
    lines = [line for line in done.stdout.splitlines() if not re.match(r"(deepest|largest frame): ", line)]
    return done.returncode, [re.sub(r"\d+ bytes", "N bytes", line) for line in lines]  # they vary with the compiler


def try_case(check, case):
    with tempfile.TemporaryDirectory() as folder:
        expected = unpack(case, Path(folder))
        status, lines = says(check, Path(folder))
    right = status == 1 and lines == expected if expected else status == 0
    if not right:
        print(f"{case.name}: exit status {status}, and it said\n  " + "\n  ".join(lines))
        print("expected\n  " + "\n  ".join(expected or ["(nothing)"]))
    return right


def main():
    check = sys.argv[1]
    cases = sorted((HERE / "planted" / check).glob("*.txt"))
    wrong = [case.name for case in cases if not try_case(check, case)]
    print(f"{check}: {len(cases)} planted trees, {len(wrong)} judged wrongly")
    sys.exit(1 if wrong or not cases else 0)


main()
