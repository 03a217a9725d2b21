#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What a formatter can't see.

usage: style.py TOP [FOLDER...]

Of every file of ours in the folders (of C, Python, shell, Meson): it names its licence in the first line (the second
after a `#!`), no line ends in blanks, the file ends with one newline. C has at most 600 lines a file and 70 a function,
and starts with a comment that says what the file is for.
"""

import sys
from pathlib import Path

import csource

FILE_LINES = 600
FUNCTION_LINES = 70
LICENCE = "SPDX-License-Identifier: MIT"
OURS = {".c", ".h", ".S", ".py", ".sh", ".build"}


def is_ours(path):
    return path.suffix in OURS or path.name in ("Makefile", "meson_options.txt")


def check_text(name, text):
    lines = text.split("\n")
    first = lines[1] if lines[0].startswith("#!") and len(lines) > 1 else lines[0]
    if LICENCE not in first:
        yield f"{name}:1: no `{LICENCE}` in the first line"
    if text.endswith("\n\n") or not text.endswith("\n"):
        yield f"{name}:{len(lines)}: a file ends with one newline"
    for number, line in enumerate(lines, 1):
        if line != line.rstrip():
            yield f"{name}:{number}: blanks at the end of the line"


def check_c(source):
    lines = source.text.split("\n")
    if len(lines) - 1 > FILE_LINES:
        yield f"{source.name}:{len(lines) - 1}: more than {FILE_LINES} lines"
    if len(lines) > 1 and not lines[1].startswith("/*"):
        yield f"{source.name}:2: no comment that says what the file is for"
    for function in source.functions:
        length = function.end_line - function.line + 1
        if function.body >= 0 and length > FUNCTION_LINES:
            yield f"{source.name}:{function.line}: {function.name} has {length} lines, more than {FUNCTION_LINES}"


def main():
    top = Path(sys.argv[1])
    folders = [top / f for f in sys.argv[2:]] or [top]
    files = sorted(p for folder in folders for p in folder.rglob("*") if p.is_file() and is_ours(p))
    guilty = []
    for path in files:
        guilty += check_text(path.relative_to(top).as_posix(), path.read_text())
        if path.suffix in (".c", ".h"):
            guilty += check_c(csource.load(path, top))
    print("\n".join(guilty) or f"{len(files)} files")
    sys.exit(1 if guilty else 0)


if __name__ == "__main__":
    main()
