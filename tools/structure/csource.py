# SPDX-License-Identifier: MIT
"""Just enough of C to check the rules of the house: tokens, functions and their parameters.

No preprocessor runs: directives are kept apart by line, macros are taken as written. That is the right view for rules
about what people write, and it needs no compiler.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path

TOKEN = re.compile(
    r"""
      (?P<comment> /\*.*?\*/ | //[^\n]* )
    | (?P<directive> (?:(?<=\n)|\A)[ \t]*\#(?:\\\n|/\*.*?\*/|[^\n])* )
    | (?P<string> "(?:\\.|[^"\\\n])*" | '(?:\\.|[^'\\\n])*' )
    | (?P<name> [A-Za-z_]\w* )
    | (?P<number> \.?\d(?:[eEpP][+-]|[\w.])* )
    | (?P<mark> -> | \+\+ | -- | << | >> | <= | >= | == | != | && | \|\| | \.\.\. | [^\s\w] )
    """,
    re.S | re.X,
)
KEYWORDS = set(
    "if else for while do switch case default return goto break continue sizeof _Alignof _Static_assert static_assert "
    "typeof __typeof__ __attribute__ _Generic _Atomic asm __asm__ const volatile restrict struct union enum typedef "
    "static extern inline register void int char short long unsigned signed float double _Bool bool".split()
)
CLOSING = {"(": ")", "[": "]", "{": "}"}


@dataclass
class Token:
    kind: str
    text: str
    line: int


@dataclass
class Function:
    name: str
    static: bool
    line: int  # of its name
    first: int  # index of the first token of its parameters, after the parenthesis
    last: int  # index of the closing parenthesis
    body: int  # index of the opening brace, or -1 for a declaration
    end: int  # index of the closing brace, or of what ends the declaration
    end_line: int


@dataclass
class Source:
    path: Path
    name: str  # relative to the tree that is checked
    text: str
    tokens: list = field(default_factory=list)
    directives: list = field(default_factory=list)
    pairs: dict = field(default_factory=dict)  # index of an opening bracket -> of its closing one, and back
    functions: list = field(default_factory=list)

    @property
    def room(self):
        return self.name.split("/")[0] if "/" in self.name else ""

    def includes(self):
        """(line, path) of every #include "path"."""
        for directive in self.directives:
            found = re.match(r'\s*#\s*include\s+"([^"]+)"', directive.text)
            if found:
                yield directive.line, found.group(1)

    def texts(self, start, end):
        return [t.text for t in self.tokens[start:end]]


def load(path, top):
    text = path.read_text()
    source = Source(path, path.relative_to(top).as_posix(), text)
    line, at = 1, 0
    for match in TOKEN.finditer(text):
        line += text.count("\n", at, match.start())
        at = match.start()
        if match.lastgroup == "directive":
            source.directives.append(Token("directive", match.group(), line))
        elif match.lastgroup != "comment":
            source.tokens.append(Token(match.lastgroup, match.group(), line))
    pair(source)
    source.functions = list(find_functions(source))
    return source


def load_tree(top):
    """Every C file below top, in a stable order."""
    return [load(path, top) for path in sorted(top.rglob("*.[ch]"))]


def pair(source):
    """Both arms of an #if may open what one brace closes; then the outermost bracket wins, and nothing breaks."""
    open_ones = []
    for i, token in enumerate(source.tokens):
        if token.text in CLOSING and token.kind == "mark":
            open_ones.append(i)
        elif token.text in CLOSING.values() and token.kind == "mark":
            if open_ones and CLOSING[source.tokens[open_ones[-1]].text] == token.text:
                start = open_ones.pop()
                source.pairs[start], source.pairs[i] = i, start


def find_functions(source):
    """Functions at file level, declared or defined, in their order; no function pointers."""
    tokens, i = source.tokens, 0
    start = 0  # of the declaration that we are in
    while i < len(tokens):
        text = tokens[i].text
        if text == ";":
            start = i = i + 1
        elif text == "{":
            end = source.pairs.get(i, len(tokens) - 1)
            i = end + 1
            if is_type_body(source, start, end):  # a struct goes on: `} name;`
                continue
            start = i
        elif text == "(":
            end = source.pairs.get(i, len(tokens) - 1)
            found = function_at(source, start, i, end)
            if found and not any(t.text in ("typedef", "=") for t in tokens[start:i]):
                yield found
                i = start = found.end + 1
            else:
                i = end + 1
        else:
            i += 1


def is_type_body(source, start, end):
    following = source.tokens[end + 1].text if end + 1 < len(source.tokens) else ""
    heads = {"struct", "union", "enum", "="}
    return bool(heads & set(source.texts(start, source.pairs.get(end, start)))) and following != ""


def function_at(source, start, opening, closing):
    """The function whose parameters stand between the two, or None: then it is an attribute or a pointer. start: where
    the declaration begins."""
    tokens = source.tokens
    name = tokens[opening - 1] if opening else None
    if not name or name.kind != "name" or name.text in KEYWORDS or name.text.startswith("ATTR_"):
        return None
    at = closing + 1
    while at < len(tokens) and (tokens[at].kind == "name" or tokens[at].text == "("):  # attributes
        at = source.pairs.get(at, at) + 1
    if at >= len(tokens) or tokens[at].text not in (";", "{"):
        return None
    body = at if tokens[at].text == "{" else -1
    end = source.pairs.get(at, len(tokens) - 1) if body >= 0 else at
    static = source.path.suffix == ".c" and any(t.text == "static" for t in tokens[start:opening])
    return Function(name.text, static, name.line, opening + 1, closing, body, end, tokens[end].line)
