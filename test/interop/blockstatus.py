#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Judges an NBD server's block status by the disk's content, and beside another server's.

    blockstatus.py RAW OURS THEIRS [--exact]

OURS and THEIRS are what `nbdinfo --map --json` says. Ours must tile the disk and call nothing zero that isn't. With
--exact both must call the same bytes zero; without it ours may know less (a raw file's holes, say), never nothing at all
where they know of something.
"""

import json
import sys

HOLE, ZERO = 1, 2


def zero_ranges(extents):
    """The ranges called zero, neighbours joined."""
    ranges = []
    for extent in extents:
        start, end = extent["offset"], extent["offset"] + extent["length"]
        if not extent["type"] & ZERO:
            continue
        if ranges and ranges[-1][1] == start:
            ranges[-1][1] = end
        else:
            ranges.append([start, end])
    return ranges


def tiles(extents, size):
    at = 0
    for extent in extents:
        if extent["offset"] != at or extent["length"] <= 0 or extent["type"] & ~(HOLE | ZERO):
            sys.exit(f"the map goes wrong at {at:#x}: {extent}")
        at += extent["length"]
    if at != size:
        sys.exit(f"the map ends at {at:#x}, the disk at {size:#x}")


def main():
    exact = "--exact" in sys.argv
    raw, ours, theirs = [a for a in sys.argv[1:] if a != "--exact"]
    content = open(raw, "rb").read()
    ours, theirs = json.load(open(ours)), json.load(open(theirs))
    tiles(ours, len(content))
    for start, end in zero_ranges(ours):
        if any(content[start:end]):
            sys.exit(f"{start:#x} to {end:#x} is called zero and isn't")
    mine, other = zero_ranges(ours), zero_ranges(theirs)
    if exact and mine != other:
        odd = [r for r in mine if r not in other][:2], [r for r in other if r not in mine][:2]
        sys.exit(f"zero ranges differ: ours {odd[0]}, theirs {odd[1]}")
    if other and not mine:
        sys.exit("no zero range at all, where the other server knows of some")


main()
