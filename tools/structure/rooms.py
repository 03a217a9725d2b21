#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Rooms use each other only as src/rooms says.

usage: rooms.py SRC

  * Every folder that holds a C file is a room, every room is a folder, no two rooms use each other in a circle.
  * `#include "room/file.h"` names a room that the includer's line in src/rooms lists. What a header brings along counts
    as well: a room that reaches a third one through a second must say so.
"""

import sys
from pathlib import Path

import csource


def read_rooms(path):
    """room -> set of the rooms that it may use."""
    uses = {}
    for line in path.read_text().splitlines():
        if line.strip() and not line.startswith("#"):
            room, used, _ = (part.strip() for part in line.split(":", 2))
            uses[room] = set(used.split())
    return uses


def circle(uses):
    """Some path of rooms that ends where it begins, or None."""
    done = set()

    def visit(room, path):
        if room in path:
            return path[path.index(room) :] + [room]
        if room in done:
            return None
        for used in sorted(uses.get(room, ())):
            found = visit(used, path + [room])
            if found:
                return found
        done.add(room)
        return None

    return next(filter(None, (visit(room, []) for room in sorted(uses))), None)


def check_list(uses, sources):
    folders = {s.room for s in sources if s.room}
    for room in sorted(folders - set(uses)):
        yield f"rooms: folder {room} is not listed"
    for room in sorted(set(uses) - folders):
        yield f"rooms: room {room} has no folder with a C file"
    for room in sorted(uses):
        for used in sorted(uses[room] - set(uses)):
            yield f"rooms: {room} uses {used}, which is not listed"
    found = circle(uses)
    if found:
        yield f"rooms: a circle: {' -> '.join(found)}"


def reached(name, by_name, seen):
    """Every header that the file brings along, itself left out."""
    for _, path in by_name[name].includes():
        if path in by_name and path not in seen:
            seen.add(path)
            reached(path, by_name, seen)
    return seen


def check_includes(uses, sources):
    by_name = {s.name: s for s in sources}
    for source in sources:
        allowed = uses.get(source.room, set()) | {source.room}
        for line, path in source.includes():
            where = f"{source.name}:{line}"
            if path not in by_name:
                yield f'{where}: "{path}" is not a path from the top of the rooms'
            elif by_name[path].room not in allowed:
                yield f"{where}: room {source.room} may not use {by_name[path].room}"
            else:
                for header in sorted(reached(path, by_name, {path}) - {path}):
                    used = by_name[header].room
                    if used not in allowed:
                        yield f"{where}: room {source.room} may not use {used}, which {path} brings along"


def main():
    top = Path(sys.argv[1])
    uses = read_rooms(top / "rooms")
    sources = csource.load_tree(top)
    guilty = list(check_list(uses, sources)) + list(check_includes(uses, sources))
    print("\n".join(guilty) or f"{len(sources)} files in {len(uses)} rooms keep to src/rooms")
    sys.exit(1 if guilty else 0)


if __name__ == "__main__":
    main()
