"""SQL tokens as ClickHouse's own lexer cuts them, for splitting scripts, finding an INSERT's data and guarding queries.

Promise: text that this lexer accepts is cut where the engine cuts it; text of which that is not sure (bytes past ASCII
outside quotes, dollar quotes, a backslash in a quoted name, NUL, an open quote) raises `LexError` instead of guessing.
Pure. Works on latin-1 decoded bytes, so that an index into the text is an index into the bytes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

# Lexer.cpp of ClickHouse: `--` always opens a comment, `#` only before a blank or `!`; block comments nest.
_TOKEN = re.compile(
    r"""(?P<blank>[ \t\r\n\f\v]+)
      | (?P<comment>--[^\n]*|\#[ !][^\n]*)
      | (?P<block>/\*)
      | (?P<string>'[^'\\]*(?:(?:\\.|'')[^'\\]*)*')
      | (?P<name>"[^"\\]*(?:(?:\\.|"")[^"\\]*)*"|`[^`\\]*(?:(?:\\.|``)[^`\\]*)*`)
      | (?P<word>[A-Za-z0-9_][A-Za-z0-9_$]*)
      | (?P<symbol>.)""",
    re.VERBOSE | re.DOTALL,
)
_BLOCK_EDGE = re.compile(r"/\*|\*/")
_ESCAPES = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "0": "\0", "a": "\a", "v": "\v", "e": "\x1b"}
_ESCAPE = re.compile(r"\\(x[0-9A-Fa-f]{2}|.)|''", re.DOTALL)


class LexError(ValueError):
    """The text cannot be cut with certainty; the message says where and why."""


class Token(NamedTuple):
    """One token. `kind` is string, name (quoted), word or symbol; `text` is unquoted for a name, raw else."""

    kind: str
    text: str
    start: int
    end: int

    @property
    def is_identifier(self) -> bool:
        """Whether the token can be the name of a function, table, column or format."""
        return self.kind in ("word", "name")

    def is_word(self, *words: str) -> bool:
        """Whether the token is one of these bare words, in any case."""
        return self.kind == "word" and self.text.upper() in words


def tokens(text: str, start: int = 0) -> Iterator[Token]:
    """Yield the tokens of `text` from `start`, blanks and comments left out, lazily. Raises LexError."""
    position = start
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:  # pragma: no cover  `symbol` takes any character
            raise LexError(f"no token at position {position + 1}")
        kind = str(match.lastgroup)
        raw = match.group()
        if kind == "block":
            position = _block_end(text, position)
            continue
        if kind not in ("blank", "comment"):
            yield _token(kind, raw, position, match.end())
        position = match.end()


def _token(kind: str, raw: str, start: int, end: int) -> Token:
    where = f"at position {start + 1}"
    if kind == "symbol":
        if raw in "'\"`":
            raise LexError(f"quote {raw} {where} is not closed")
        if not " " < raw <= "~":
            raise LexError(f"character {raw!r} {where} stands outside quotes")
        if raw == "$":
            raise LexError(f"dollar quotes are not accepted, {where}")
    if "\0" in raw:
        raise LexError(f"NUL in the text {where}")
    if kind == "name":
        if "\\" in raw:
            raise LexError(f"a backslash in a quoted name is not accepted, {where}")
        return Token(kind, raw[1:-1].replace(raw[0] * 2, raw[0]), start, end)
    return Token(kind, raw, start, end)


def _block_end(text: str, start: int) -> int:
    depth = 0
    for edge in _BLOCK_EDGE.finditer(text, start):
        depth += 1 if edge.group() == "/*" else -1
        if depth == 0:
            return edge.end()
    raise LexError(f"comment at position {start + 1} is not closed")


def unquote(raw: str) -> str:
    """Return the value of a string literal token, quotes and escapes taken away."""

    def plain(match: re.Match[str]) -> str:
        escaped = match.group(1)
        if escaped is None:
            return "'"
        if len(escaped) == 3:
            return chr(int(escaped[1:], 16))
        return _ESCAPES.get(escaped, escaped)

    return _ESCAPE.sub(plain, raw[1:-1])


def quote(value: str) -> str:
    """Return `value` as a ClickHouse string literal."""
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def split_statements(script: str) -> list[str]:
    """Return the statements of a script, cut at `;` outside quotes and comments; empty ones are left out.

    Comments inside a statement stay; those before its first token go. Raises LexError.
    """
    statements = []
    first: Token | None = None
    last: Token | None = None
    for token in tokens(script):
        if token.text == ";" and token.kind == "symbol":
            if first is not None and last is not None:
                statements.append(script[first.start : last.end])
            first = last = None
        else:
            first = first or token
            last = token
    if first is not None and last is not None:
        statements.append(script[first.start : last.end])
    return statements
