"""What a request's text asks for: an INSERT whose data follows, or one statement with its output format. Pure.

The text is the URL's query, a line feed, then the body, as in ClickHouse. Where the data of an INSERT starts follows
ParserInsertQuery.cpp: right after VALUES; after `FORMAT name`, blanks and one line feed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from infra.clickhouse_server import errors, lexer
from infra.clickhouse_server.lexer import Token

FORMAT_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}")

# Formats whose parts, each written by itself, join to the same bytes as the whole: chDB streams part by part.
STREAMED_FORMATS = frozenset(
    (
        *("native", "tabseparated", "tsv", "tabseparatedraw", "tsvraw", "csv", "rowbinary", "msgpack", "lineasstring"),
        *("jsoneachrow", "jsoncompacteachrow", "jsonlines", "ndjson", "jsonstringseachrow", "rawblob", "raw"),
    )
)
CONTENT_TYPES = {
    "csv": "text/csv; charset=UTF-8; header=absent",
    "csvwithnames": "text/csv; charset=UTF-8; header=present",
    "json": "application/json; charset=UTF-8",
    "jsoncompact": "application/json; charset=UTF-8",
    "jsonstrings": "application/json; charset=UTF-8",
    "jsoncolumns": "application/json; charset=UTF-8",
    "jsoneachrow": "application/x-ndjson; charset=UTF-8",
    "jsoncompacteachrow": "application/x-ndjson; charset=UTF-8",
    "native": "application/octet-stream",
    "rowbinary": "application/octet-stream",
    "rowbinarywithnames": "application/octet-stream",
    "rowbinarywithnamesandtypes": "application/octet-stream",
    "parquet": "application/octet-stream",
    "arrow": "application/octet-stream",
    "arrowstream": "application/octet-stream",
    "tabseparated": "text/tab-separated-values; charset=UTF-8",
    "tsv": "text/tab-separated-values; charset=UTF-8",
    "xml": "application/xml; charset=UTF-8",
}


@dataclass(frozen=True)
class InsertHead:
    """An INSERT with data: its tokens, the text before FORMAT or VALUES, the input format, where the data starts.

    `input_call` is the place (start, end) of `input(…)` in `head` when the data goes through a SELECT, and `structure`
    what it names.
    """

    tokens: tuple[Token, ...]
    head: str
    input_format: str
    data_start: int
    input_call: tuple[int, int] | None = None
    structure: str = ""


def insert_head(text: str) -> InsertHead | None:
    """Return the INSERT that the text begins with if data follows it, else None. Reads no further than the data.

    Raises ServerError 62 for an INSERT whose beginning cannot be cut.
    """
    seen: list[Token] = []
    depth = 0
    selects = False
    try:
        for token in lexer.tokens(text):
            seen.append(token)
            if not seen[0].is_word("INSERT"):
                return None
            if token.kind == "symbol":
                depth += (token.text in "([{") - (token.text in ")]}")
            if depth == 0 and token.is_word("SELECT", "WITH"):
                selects = True
            if depth == 0 and token.is_word("VALUES") and not selects:
                return InsertHead(tuple(seen[:-1]), text[: token.start], "Values", token.end)
            if depth == 0 and len(seen) > 1 and seen[-2].is_word("FORMAT") and token.is_identifier:
                found = _with_format(text, seen, selects=selects)
                if found is not None:
                    return found
    except lexer.LexError as error:
        raise errors.syntax(f"Syntax error: {error}") from None
    return None


def _with_format(text: str, seen: Sequence[Token], *, selects: bool) -> InsertHead | None:
    """Return the INSERT that ends with `FORMAT name`; None if its SELECT does not read the data."""
    head = text[: seen[-2].start]
    before, name = tuple(seen[:-2]), seen[-1]
    call: tuple[int, int] | None = None
    structure = ""
    if selects:
        for index, token in enumerate(before[:-1]):
            if token.is_word("INPUT") and before[index + 1].text == "(":
                argument, close = before[index + 2], before[index + 3 : index + 4]
                if argument.kind != "string" or not close or close[0].text != ")":
                    raise errors.not_implemented(
                        "input(…) takes its structure as one string in the embedded ClickHouse"
                    )
                call = (token.start, close[0].end)
                structure = lexer.unquote(argument.text)
        if call is None:
            return None
    if not FORMAT_NAME.fullmatch(name.text):
        raise errors.ServerError(73, "UNKNOWN_FORMAT", f"Unknown format {name.text}")
    return InsertHead(before, head, name.text, _data_start(text, name.end), call, structure)


def _data_start(text: str, end: int) -> int:
    """Return where the data after `FORMAT name` starts: blanks go, then one line end."""
    while end < len(text) and text[end] in " \t\f":
        end += 1
    if text[end : end + 1] == "\r":
        end += 1
    if text[end : end + 1] == "\n":
        end += 1
    return end


def output_format(statement: Sequence[Token], default: str) -> str:
    """Return the format the answer will have: the statement's own FORMAT, else `default`."""
    depth = 0
    for index in range(len(statement) - 1, 0, -1):
        token = statement[index]
        if token.kind == "symbol":
            depth += (token.text in ")]}") - (token.text in "([{")
        if depth == 0 and statement[index - 1].is_word("FORMAT") and token.is_identifier:
            follows = statement[index + 1 : index + 2]
            if not follows or follows[0].is_word("SETTINGS"):
                return token.text
    return default


def streams(statement: Sequence[Token], name: str) -> bool:
    """Whether the answer may be sent part by part: a SELECT in a format whose parts join, without totals."""
    selects = statement[0].is_word("SELECT", "WITH", "FROM") or statement[0].text == "("
    return selects and name.lower() in STREAMED_FORMATS and not any(token.is_word("TOTALS") for token in statement)


def in_reserve(statement: Sequence[Token]) -> bool:
    """Whether the statement looks after others (KILL, system.processes) and so must run when the server is full."""
    return statement[0].is_word("KILL") or any(token.is_identifier and token.text == "processes" for token in statement)
