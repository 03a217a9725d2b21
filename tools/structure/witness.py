#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The witness `struct co *co` is handed down and never got otherwise.

usage: witness.py SRC

A function that may yield takes the witness as its first parameter. The compiler makes a caller have one; this check
finds the ways to get one without being given it, so that only a coroutine's entry is the root of what may yield:

  * In every room but co and io, `struct co *` stands only as the first parameter of a function, a function pointer or a
    function type: no member, variable, array, result, cast, other parameter or typedef.
  * There, the name of that parameter is used only as the first argument of a call whose callee takes the witness
    (`(void)co;` is fine too): it is not stored through a `void *`, compared, or passed elsewhere.
  * There, a call of something that takes the witness passes exactly the caller's own.
  * co and io may hold witnesses, but no header of theirs that another room includes returns one or takes one later than
    first.
"""

import re
import sys
from pathlib import Path

import csource

KEEPERS = {"co", "io"}  # the rooms that may hold a witness
STATEMENTS = {"return", "else", "do", "case"}  # what stands before an expression rather than being its type


def is_witness_type(tokens, i):
    """Whether `struct co` starts here."""
    return tokens[i].text == "struct" and i + 1 < len(tokens) and tokens[i + 1].text == "co"


def after_type(tokens, i):
    """Index of what follows `struct co`, its stars and qualifiers; and the number of stars."""
    i, stars = i + 2, 0
    while i < len(tokens) and tokens[i].text in ("*", "const", "volatile", "restrict"):
        stars += tokens[i].text == "*"
        i += 1
    return i, stars


def before_type(tokens, i):
    """Index of what stands before `struct co` and its qualifiers."""
    i -= 1
    while i >= 0 and tokens[i].text in ("const", "volatile"):
        i -= 1
    return i


def is_cast(source, opening):
    """Whether `(struct co *)` casts, rather than declares a parameter without a name."""
    before, tokens = opening - 1, source.tokens
    if before < 0:
        return False
    if tokens[before].text == ")":
        group = source.pairs.get(before, before)
        return tokens[group + 1].text != "*"  # `(*f)(struct co *)` declares
    return tokens[before].kind != "name" or tokens[before].text in csource.KEYWORDS


def parameter_name(source, i):
    """The name of the parameter whose type starts at i: "" if it has none, None if it is no first parameter."""
    tokens = source.tokens
    opening = before_type(tokens, i)
    at, stars = after_type(tokens, i)
    if opening < 0 or tokens[opening].text != "(" or stars != 1:
        return None
    if tokens[at].text in (",", ")"):
        return None if tokens[at].text == ")" and is_cast(source, opening) else ""
    following = at + 1 + (tokens[at + 1].text == "ATTR_UNUSED")
    named = tokens[at].kind == "name" and tokens[following].text in (",", ")")
    return tokens[at].text if named else None


def pointers(source, start, end):
    """(name, whether it takes the witness) of each function pointer, or array of them, that is declared there."""
    tokens = source.tokens
    for i in range(start, end - 2):
        if tokens[i].text == "co_entry" and tokens[i + 1].text == "*" and tokens[i + 2].kind == "name":
            yield tokens[i + 2].text, True
        before = tokens[i - 1] if i else None
        typed = before and (before.text == "*" or before.kind == "name" and before.text not in STATEMENTS)
        if typed and tokens[i].text == "(" and tokens[i + 1].text == "*" and i in source.pairs:
            close = source.pairs[i]
            names = [t.text for t in tokens[i:close] if t.kind == "name" and t.text not in csource.KEYWORDS]
            if names and tokens[close + 1].text == "(":
                first = close + 2 + (tokens[close + 2].text == "const")
                yield names[0], is_witness_type(tokens, first) and parameter_name(source, first) is not None


class Callees:
    """What the whole tree declares: which names take the witness. What is static in a file is known there only."""

    def __init__(self, sources):
        self.takers, self.tables, self.macros = set(), set(), set()
        self.statics = {source.name: {} for source in sources}
        self.pointers = {True: set(), False: set()}
        for source in sources:
            self.read(source)

    def read(self, source):
        for function in source.functions:
            first = function.first + (source.tokens[function.first].text in ("const", "volatile"))
            takes = is_witness_type(source.tokens, first) and parameter_name(source, first) is not None
            if function.static:
                self.statics[source.name][function.name] = takes
            elif takes:
                self.takers.add(function.name)
        for name, takes in pointers(source, 0, len(source.tokens)):
            self.pointers[takes].add(name)
        for i, token in enumerate(source.tokens[:-2]):  # (*const NAME[])(
            if token.kind == "name" and source.tokens[i + 1].text == "[" and token.text in self.pointers[True]:
                self.tables.add(token.text)
        for directive in source.directives:
            found = re.match(r"\s*#\s*define\s+(\w+)\(", directive.text)
            if found:
                self.macros.add(found.group(1))

    def takes(self, function, file):
        """Whether the function of that name, as the file sees it, takes the witness."""
        return self.statics.get(file, {}).get(function, function in self.takers)

    def take(self, name, file, member, local):
        """Whether a call of the name needs a witness. local: the pointers that the calling function declares."""
        if not member:
            return local.get(name, self.takes(name, file) or name in self.tables)
        return name in self.pointers[True] and name not in self.pointers[False]

    def may_take(self, name, file, member, local):
        if not member:
            return local.get(name, self.takes(name, file) or name in self.tables or name in self.macros)
        return name in self.pointers[True]


def check_types(source):
    """Where `struct co` stands that it must not, outside co and io."""
    tokens = source.tokens
    for i, token in enumerate(tokens):
        if not is_witness_type(tokens, i):
            continue
        at, stars = after_type(tokens, i)
        if stars == 0 and tokens[at].text == ";" and (i == 0 or tokens[i - 1].text in (";", "}")):
            continue  # `struct co;`
        if parameter_name(source, i) is None:
            yield f"{source.name}:{token.line}: `struct co` other than as the first parameter"
    for directive in source.directives:
        if re.search(r"\bstruct\s+co\b", directive.text):
            yield f"{source.name}:{directive.line}: `struct co` in a macro"


def check_body(source, function, callees):
    """How a function uses its witness, and what it passes to those that take one."""
    tokens = source.tokens
    own = None
    if is_witness_type(tokens, function.first):
        own = parameter_name(source, function.first) or None
    local = dict(pointers(source, function.first, function.end))
    for i in range(function.body, function.end):
        token = tokens[i]
        if token.kind != "name":
            continue
        where = f"{source.name}:{token.line}: {function.name}"
        if token.text == own and not is_other_co(tokens, i):
            yield from check_use(source, i, where, callees, local)
        opening = call_at(source, i)
        if opening and callees.take(token.text, source.name, is_member(tokens, i), local):
            if own is None:
                yield f"{where} calls {token.text}, which takes a witness, and has none"
            elif tokens[opening + 1].text != own or tokens[opening + 2].text not in (",", ")"):
                yield f"{where} calls {token.text} with another witness than its own"


def call_at(source, i):
    """Index of the parenthesis that opens the arguments, if the name at i is called: `f(`, `(*f)(` or `f[n](`."""
    tokens = source.tokens
    after = i + 1
    if tokens[after].text == "[":
        after = source.pairs.get(after, after) + 1
    elif tokens[after].text == ")" and tokens[i - 1].text == "*" and tokens[i - 2].text == "(":
        after += 1
    if tokens[after].text != "(" or tokens[after + 1].text in ("struct", "const", "void"):  # the last: a declaration
        return None
    return after


def is_member(tokens, i):
    return tokens[i - 1].text in (".", "->")


def is_other_co(tokens, i):
    """Whether the name is a member, the struct's tag, or a parameter of a function pointer that is declared here."""
    before = tokens[i - 2].text, tokens[i - 1].text
    return is_member(tokens, i) or before[1] == "struct" or before == ("co", "*")


def check_use(source, i, where, callees, local):
    tokens = source.tokens
    if tokens[i - 1].text == ")" and tokens[i - 2].text == "void" and tokens[i + 1].text == ";":
        return
    if tokens[i - 1].text != "(" or tokens[i + 1].text not in (",", ")"):
        yield f"{where} uses its witness other than as a first argument"
        return
    at = i - 2
    if tokens[at].text == ")":  # (*f)(co): the name stands inside
        at -= 1
    elif tokens[at].text == "]":  # table[n](co)
        at = source.pairs.get(at, at) - 1
    callee = tokens[at]
    named = callee.kind == "name" and callee.text not in csource.KEYWORDS
    if not named or not callees.may_take(callee.text, source.name, is_member(tokens, at), local):
        yield f"{where} passes its witness to {callee.text}, which does not take one"


def check_keeper_header(source):
    """What a header of co or io that others include must not hand out."""
    tokens = source.tokens
    start = 0
    for function in source.functions:
        while start < function.first and function.line != tokens[start].line:
            start += 1
        line = [t.text for t in tokens[start : function.first]]
        where = f"{source.name}:{function.line}: {function.name}"
        if "struct" in line and "co" == line[line.index("struct") + 1]:
            yield f"{where} returns a witness"
        for i in range(function.first, function.last):
            if is_witness_type(tokens, i) and parameter_name(source, i) is None:
                yield f"{where} takes a witness later than first"


def check(sources):
    callees = Callees(sources)
    shown = {path for s in sources if s.room not in KEEPERS for _, path in s.includes()}
    for source in sources:
        if source.room in KEEPERS:
            if source.name in shown:
                yield from check_keeper_header(source)
            continue
        yield from check_types(source)
        for function in source.functions:
            if function.body >= 0:
                yield from check_body(source, function, callees)


def main():
    sources = csource.load_tree(Path(sys.argv[1]))
    guilty = list(check(sources))
    checked = sum(f.body >= 0 for s in sources if s.room not in KEEPERS for f in s.functions)
    print("\n".join(guilty) or f"{checked} functions outside co and io come by their witness honestly")
    sys.exit(1 if guilty else 0)


if __name__ == "__main__":
    main()
