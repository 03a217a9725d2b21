#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Help and manual pages agree on which options there are, and the program on that they exist.

usage: manual.py CORRAL DOCS

Every command that `corral --help` lists has a page, and every option of its --help stands in it, and the other way round.
"""

import re
import subprocess
import sys
from pathlib import Path

OPTION = re.compile(r"(?<![\w-])(--?[a-zA-Z0-9][\w-]*)")


def help_of(corral, *command):
    return subprocess.run([corral, *command, "--help"], check=True, capture_output=True, text=True, timeout=20).stdout


def commands(corral):
    listed = help_of(corral).partition("Commands:\n")[2].partition("\n\n")[0]
    return [line.split()[0] for line in listed.splitlines()]


def helped(text):
    """Of lines that begin with options: those up to the two spaces that part them from what they do."""
    found = set()
    for line in text.splitlines():
        if re.match(r" {2,10}-", line):
            found |= set(OPTION.findall(re.split(r" {2,}", line.strip())[0]))
    return found


def documented(text):
    """Of lines of the page's section OPTIONS that begin with them, as scdoc marks them: *-f*, *--format* _FORMAT_."""
    found = set()
    for line in text.splitlines():
        if line.startswith("*-"):
            found |= set(OPTION.findall(line.replace("\\", "")))
    return found


def compare(command, corral, docs):
    page = docs / f"corral-{command}.1.scd"
    if not page.exists():
        yield f"{command}: no page {page.name}"
        return
    in_help, in_page = helped(help_of(corral, command)), documented(page.read_text())
    for option in sorted(in_help - in_page):
        yield f"{command}: {option} is in --help, but not in {page.name}"
    for option in sorted(in_page - in_help):
        yield f"{command}: {option} is in {page.name}, but not in --help"


def accepted(command, corral):
    """Whether the program knows what its help says."""
    for option in sorted(helped(help_of(corral, command))):
        said = subprocess.run([corral, command, option], capture_output=True, text=True, timeout=20,
                              stdin=subprocess.DEVNULL).stderr
        if re.search(r"unrecognized|unknown option", said):
            yield f"{command}: {option} is in --help, but unknown: {said.strip()}"


def main():
    corral, docs = sys.argv[1], Path(sys.argv[2])
    all_commands = commands(corral)
    wrong = [text for command in all_commands for check in (compare(command, corral, docs),
                                                              accepted(command, corral)) for text in check]
    print("\n".join(wrong) or f"{len(all_commands)} commands: help and manual agree")
    sys.exit(1 if wrong or not all_commands else 0)


if __name__ == "__main__":
    main()
