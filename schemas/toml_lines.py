"""Which line of a TOML text says something: for messages. Pure.

tomllib knows the line of a syntax error only. What a line contributes is found with tomllib itself: a statement is what
stands between two beginnings of the text that both parse, so the one that brought a value is found by halving.
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from typing import Any

LINES_MAX = 100_000  # of a longer text no line is named


def line_of(text: str, loc: Sequence[str | int]) -> int:
    """Return the line, from 1, of the statement that brought what `loc` names; 0 when the text does not have it.

    `loc` are names of tables and keys, and places in lists. Of what is missing, it is the innermost table's.
    """
    lines = text.splitlines(keepends=True)
    if len(lines) > LINES_MAX or _parsed(lines) is None:
        return 0
    for length in range(len(loc), 0, -1):
        if _has(_parsed(lines), loc[:length]):
            return _first_with(lines, loc[:length])
    return 0


def _first_with(lines: list[str], loc: Sequence[str | int]) -> int:
    """Return the line where the first statement begins after which `loc` is there."""
    without, with_it = 0, len(lines)  # beginnings that parse
    while True:
        middle = (without + with_it) // 2
        between = [*range(middle, without, -1), *range(middle + 1, with_it)]
        found = next((length for length in between if _parsed(lines[:length]) is not None), None)
        if found is None:
            return without + 1
        if _has(_parsed(lines[:found]), loc):
            with_it = found
        else:
            without = found


def _parsed(lines: Sequence[str]) -> object:
    try:
        return tomllib.loads("".join(lines))
    except tomllib.TOMLDecodeError:
        return None


def _has(value: Any, loc: Sequence[str | int]) -> bool:  # noqa: ANN401  whatever TOML holds
    for part in loc:
        in_table = isinstance(value, dict) and part in value
        in_list = isinstance(value, list) and isinstance(part, int) and part < len(value)
        if not (in_table or in_list):
            return False
        value = value[part]
    return True
