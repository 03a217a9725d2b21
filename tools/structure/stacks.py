#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Coroutine stacks are small: what the compiler says about frames and calls must fit.

usage: stacks.py SRC FOLDER...      (folders with the .ci files of gcc's -fcallgraph-info=su)

  * No frame is larger than FRAME_BYTES, or of a size that is known only when it runs.
  * Recursion only where RECURSION says why it is bounded.
  * From each function that takes the witness, the deepest chain of calls stays below PATH_BYTES.

A call through a pointer may reach whatever is assigned somewhere to a member or table of that name, or, for a plain
variable, whatever function is handed around. That is how a request descends through the nodes of a graph: ENTRIES says
how often a chain enters a room this way, POINTER_CALLS how many such calls it has in all. What the C library does is
not in the graph: each call of it counts LEAF_BYTES.
"""

import re
import sys
from functools import cache
from pathlib import Path

import csource
import witness

FRAME_BYTES = 4 << 10
PATH_BYTES = 40 << 10  # of 64: the rest is margin for signal frames and for what is not seen here
POINTER_CALLS = 6  # the request's table, then format, filter, filter, file, and the engine below
ENTRIES = {"qcow2": 1, "filter": 2, "file": 1, "nbd": 1}  # a format lies over filters and a file, never over a format
LEAF_BYTES = 2 << 10
SPAWN = re.compile(r"co_main|cli_in_coroutine|\w+_spawn")  # what they are given runs on a stack of its own
LOOP = "co_sched_run"  # what leads to it runs on no coroutine's stack

RECURSION = {  # function: why its depth is bounded
    "tree_print": "what it prints was made by describe.c, four levels deep",
    "answer_part_print": "what it prints came as a line of JSON, whose levels json_line.c bounds",
}

NODE = re.compile(r'node: \{ title: "([^"]+)" label: "[^\\"]+\\n([^\\"]+):\d+:\d+\\n(\d+) bytes \(([^)]*)\)')
EDGE = re.compile(r'edge: \{ sourcename: "([^"]+)" targetname: "([^"]+)"(?: label: "([^"]*)")?')
CALLEE = re.compile(r"\(?\*?\s*(?:\w+(?:\[[^\]]*\])?\s*(?:->|\.)\s*)*(\w+)\)?(\[[^\]]*\])?\s*\((co\b\s*[,)])?")


def short(title):
    """The name of a function without the file that a static one carries."""
    return title.rsplit(":", 1)[-1].split(".")[0]


def callee(texts, i):
    """What is called with the argument at i, if it is one."""
    depth = 0
    while i > 0 and depth >= 0 and texts[i] not in (";", "{"):
        i -= 1
        depth += (texts[i] == ")") - (texts[i] == "(")
    return texts[i - 1] if texts[i] == "(" else ""


def in_file(title, file):
    """Whether the function is static in the file."""
    return title.rsplit(":", 1)[0].endswith("/" + file)


class Pointers:
    """Which functions a pointer may point to, by its name."""

    def __init__(self, sources):
        self.texts = {s.name: s.text.split("\n") for s in sources}
        self.callees = witness.Callees(sources)
        self.members, self.handed = {}, set()  # of (function, file that names it)
        for source in sources:
            self.read(source)

    def read(self, source):
        texts = [t.text for t in source.tokens] + [""] * 4
        for i, text in enumerate(texts[:-4]):
            if text == "." and texts[i + 2] == "=":
                self.add(texts[i + 1], source, [texts[i + 3 + (texts[i + 3] == "&")]])
            elif text == "]" and texts[i + 1 : i + 3] == ["=", "{"] or texts[i : i + 4] == ["]", ")", "(", "struct"]:
                self.read_table(source, texts, i)
            elif texts[i - 1] in ("(", ",", "=", "{") and texts[i + 1] in (",", ")", ";", "}"):
                designated = texts[i - 1] == "=" and (texts[i - 3] == "." or texts[i - 2] == "]")
                if not designated and not SPAWN.fullmatch(callee(texts, i)):
                    self.handed.add((text, source.name))

    def add(self, member, source, functions):
        self.members.setdefault(member, set()).update((f, source.name) for f in functions)

    def read_table(self, source, texts, i):
        """`name[] = {...}`, or `(*name[])(struct co ...) = {...}`."""
        name = texts[source.pairs.get(i, i) - 1]
        while i < len(texts) and texts[i] not in ("{", ";"):
            i += 1
        if texts[i] == "{":
            self.add(name, source, texts[i : source.pairs.get(i, i)])

    def reach(self, place):
        """(function, file that names it) of all that a call may reach. place: FILE:LINE:COLUMN of the call."""
        path, line, column = place.rsplit(":", 2)
        lines = next((t for name, t in self.texts.items() if path.endswith("/" + name)), None)
        found = CALLEE.match(lines[int(line) - 1][int(column) - 1 :].expandtabs(1)) if lines else None
        yields = bool(found and found.group(3))
        named = self.members.get(found.group(1), self.handed) if found else self.handed
        return {(f, file) for f, file in named if self.callees.takes(f, file) == yields}


class Graph:
    def __init__(self, pointers):
        self.pointers = pointers
        self.frame, self.kind, self.room = {}, {}, {}
        self.calls, self.jumps = {}, {}  # function -> what it calls, and from where it calls through pointers
        self.titles = {}  # name -> titles

    def read(self, path):
        text = path.read_text()
        for title, source, size, kind in NODE.findall(text):
            self.frame[title], self.kind[title] = int(size), kind
            self.room[title] = next((room for room in ENTRIES if f"/{room}/" in source), None)
            self.titles.setdefault(short(title), set()).add(title)
        for source, target, place in EDGE.findall(text):
            if target == "__indirect_call":
                self.jumps.setdefault(source, set()).add(place)
            else:
                self.calls.setdefault(source, set()).add(target)

    def ours(self, function):
        return sorted(t for t in self.calls.get(function, ()) if t in self.frame)

    def calls_out(self, function):
        return any(t not in self.frame for t in self.calls.get(function, ()))

    def reached(self, function):
        named = set().union(*(self.pointers.reach(place) for place in self.jumps.get(function, ())))
        titles = {t for f, file in named for t in self.titles.get(f, ()) if ":" not in t or in_file(t, file)}
        return sorted(titles - self.outside())

    @cache
    def outside(self):
        """The functions that lead to the scheduler's loop, itself among them."""
        found, more = set(), {LOOP}
        while more:
            found |= more
            more = {f for f, called in self.calls.items() if called & more} - found
        return found

    def takers(self):
        """The functions that take the witness."""
        callees = self.pointers.callees
        files = {f: next((s for s in callees.statics if in_file(f, s)), "") for f in self.frame}
        return [f for f, file in files.items() if callees.takes(short(f), file)]


def circles(graph):
    """Sets of functions that call each other in a circle (Tarjan's components that are more than one function)."""
    index, low, on_path, path, found = {}, {}, set(), [], []

    def visit(f):
        index[f] = low[f] = len(index)
        path.append(f)
        on_path.add(f)
        for callee in graph.ours(f):
            if callee not in index:
                visit(callee)
                low[f] = min(low[f], low[callee])
            elif callee in on_path:
                low[f] = min(low[f], index[callee])
        if low[f] == index[f]:
            members = path[path.index(f) :]
            del path[path.index(f) :]
            on_path.difference_update(members)
            if len(members) > 1 or f in graph.ours(f):
                found.append(members)

    for function in sorted(graph.frame):
        if function not in index:
            visit(function)
    return found


class Budget:
    """How many calls through pointers a chain may still make, in all and into which rooms."""

    def __init__(self, left=POINTER_CALLS, entries=tuple(sorted(ENTRIES.items()))):
        self.key = left, entries

    def after(self, room):
        """What is left after such a call into the room; None if it may not be made."""
        left, entries = self.key
        counts = dict(entries)
        if left == 0 or counts.get(room) == 0:
            return None
        if room in counts:
            counts[room] -= 1
        return Budget(left - 1, tuple(sorted(counts.items())))


def deepest(graph, function, budget, known, running=frozenset()):
    """(bytes, chain) of the deepest chain of calls from here."""
    key = function, budget.key
    if key not in known:
        running = running | {key}
        below = [(f, budget) for f in graph.ours(function)]
        below += [(f, budget.after(graph.room[f])) for f in graph.reached(function)]
        best = (LEAF_BYTES if graph.calls_out(function) else 0, [])
        for f, left in below:
            if left and (f, left.key) not in running:  # a circle is reported elsewhere
                best = max(best, deepest(graph, f, left, known, running))
        known[key] = (best[0] + graph.frame[function], [function] + best[1])
    return known[key]


def chains(graph):
    """The deepest chain from every function that takes the witness, deepest first."""
    known = {}
    return sorted((deepest(graph, f, Budget(), known) for f in graph.takers()), reverse=True)


def check(graph):
    for function, size in sorted(graph.frame.items()):
        if size > FRAME_BYTES:
            yield f"{short(function)}: a frame of {size} bytes, more than {FRAME_BYTES}"
        if "dynamic" in graph.kind[function] and "bounded" not in graph.kind[function]:
            yield f"{short(function)}: a frame without a bound"
    for names in sorted(sorted(map(short, members)) for members in circles(graph)):
        if not any(n in RECURSION for n in names):
            yield f"{', '.join(names)}: recursion that is not listed as bounded"
    for size, chain in chains(graph)[:1]:
        if size > PATH_BYTES:
            yield f"{' > '.join(map(short, chain))}: {size} bytes of stack, more than {PATH_BYTES}"


def main():
    graph = Graph(Pointers(csource.load_tree(Path(sys.argv[1]))))
    for folder in sys.argv[2:]:
        for path in sorted(Path(folder).glob("*.ci")):
            if path.with_suffix(".o").exists():  # else it is left over from a file that is gone
                graph.read(path)
    if not graph.frame:
        sys.exit("no call graph: was it built by gcc, without a compiler cache (CCACHE_DISABLE=1)?")
    guilty = list(check(graph))
    print("\n".join(guilty) or f"{len(graph.frame)} functions")
    for size, chain in chains(graph)[:1]:
        print(f"deepest: {size} {' > '.join(map(short, chain))}")
    for size, function in sorted(((s, f) for f, s in graph.frame.items()), reverse=True)[:5]:
        print(f"largest frame: {size} {short(function)}")
    sys.exit(1 if guilty else 0)


if __name__ == "__main__":
    main()
