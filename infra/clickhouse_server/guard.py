"""Which statements a client may run: what ClickHouse's grants cannot refuse is refused here, before the engine sees it.

Promise: no statement reads or writes a file, starts a command or opens a connection. Grants (`access`) do most of it.
They do not cover, in chDB: the function `file`, functions and table functions that connect before asking for the
grant, `INTO OUTFILE` and `FROM INFILE` (carried out by the client part, in this process), engines and `disk(...)`
given in DDL, and SQL that hides in strings. Each is refused by its name, wherever a name can call it.
Pure. Anything the lexer is not sure of is refused too.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from infra.clickhouse_server import errors, lexer
from infra.clickhouse_server.lexer import Token

# Table functions that stay on: they touch nothing but the tables and numbers of this server.
TABLE_FUNCTIONS = frozenset(
    (
        *("dictionary", "format", "generate_series", "generateRandom", "generateSeries", "input", "loop", "merge"),
        *("mergeTreeIndex", "mergeTreeProjection", "null", "numbers", "numbers_mt", "primes", "SQLStandardValues"),
        *("values", "view", "viewExplain", "viewIfPermitted", "zeros", "zeros_mt"),
    )
)
# Engines of tables and databases that stay on; the grants in `access` name the same ones.
TABLE_ENGINES = (
    *("MergeTree", "ReplacingMergeTree", "SummingMergeTree", "AggregatingMergeTree", "CollapsingMergeTree"),
    *("VersionedCollapsingMergeTree", "GraphiteMergeTree", "CoalescingMergeTree"),
    *("Memory", "Null", "Log", "TinyLog", "StripeLog", "Set", "Join", "View", "MaterializedView", "Buffer", "Merge"),
)
DATABASE_ENGINES = ("Atomic",)

# Scalar functions that reach out. `hasColumnInTable` takes a host; the AI functions call a service. They can be handed
# to a higher-order function or APPLY by bare name, so any unqualified mention is refused.
_FUNCTIONS = frozenset(("file", "hasColumnInTable"))
_AI = re.compile(r"(?:ai|AI)(?:Classify|Embed|Extract|Filter|Generate|Redact|Similarity|Translate)\w*")
# Not table functions by name everywhere, yet they configure disks or run a query given as text.
_CALLS = frozenset(("disk", "eval", "executable", "python"))
# Statements that act on the server or on its accounts. Grants refuse most; a few have no grant.
_STATEMENTS = frozenset(
    ("BACKUP", "RESTORE", "SYSTEM", "EXECUTE", "GRANT", "REVOKE", "BEGIN", "COMMIT", "ROLLBACK", "COPY")
)
# Control statements that stay on; others of the engine's class CONTROL are refused.
_CONTROL = frozenset(("SET", "USE", "KILL", "CREATE", "DROP", "DETACH", "ATTACH", "TRUNCATE", "INSERT"))


@dataclass(frozen=True)
class Denied:
    """Names that are off, in lower case: of functions that may not be called, and of engines."""

    calls: frozenset[str]
    engines: frozenset[str]

    @classmethod
    def of(cls, table_functions: Iterable[str], engines: Iterable[str]) -> Denied:
        """Return what is denied of all the names that the engine knows: all but the allowed ones."""
        allowed = {name.lower() for name in TABLE_FUNCTIONS}
        known = {name.lower() for name in (*TABLE_ENGINES, *DATABASE_ENGINES)}
        return cls(
            frozenset(name.lower() for name in (*table_functions, *_CALLS) if name.lower() not in allowed),
            frozenset(name.lower() for name in engines if name.lower() not in known),
        )


def cut(text: str) -> list[Token]:
    """Return the tokens of one statement without a closing `;`. Raises ServerError 62, also for several statements."""
    try:
        cut_tokens = list(lexer.tokens(text))
    except lexer.LexError as error:
        raise errors.syntax(f"Syntax error: {error}") from None
    while cut_tokens and cut_tokens[-1].text == ";" and cut_tokens[-1].kind == "symbol":
        cut_tokens.pop()
    if any(token.text == ";" and token.kind == "symbol" for token in cut_tokens):
        raise errors.syntax("Syntax error (Multi-statements are not allowed)")
    if not cut_tokens:
        raise errors.syntax("Syntax error: Empty query")
    return cut_tokens


def check(statement: Sequence[Token], denied: Denied) -> None:
    """Raise ServerError 497 if the statement could reach outside the server's own tables."""
    if statement[0].is_word(*_STATEMENTS):
        raise errors.denied(f"{statement[0].text.upper()} is off in the embedded ClickHouse")
    check_names(statement, denied)
    for token, after, third in zip(statement, [*statement[1:], None], [*statement[2:], None, None], strict=False):
        if after is None:
            break
        if (token.is_word("INTO") and after.is_word("OUTFILE")) or (token.is_word("FROM") and after.is_word("INFILE")):
            raise errors.denied(f"{token.text.upper()} {after.text.upper()} is off in the embedded ClickHouse")
        if token.is_word("ENGINE"):
            named = third if after.text == "=" else after
            if named is not None and named.is_identifier and named.text.lower() in denied.engines:
                raise errors.denied(f"engine {named.text} is off in the embedded ClickHouse")
    if statement[0].is_word("CREATE", "ATTACH", "REPLACE", "ALTER"):
        _check_definition(statement)


def check_names(part: Sequence[Token], denied: Denied) -> None:
    """Raise ServerError 497 if the tokens name a function that reaches out. Part of a statement, or data of VALUES."""
    before = ""
    for index, token in enumerate(part):
        if token.is_identifier:
            follower = part[index + 1].text if index + 1 < len(part) else ""
            if follower == "(" and token.text.lower() in denied.calls:
                raise errors.denied(f"function {token.text} is off in the embedded ClickHouse")
            if follower == "(" and token.text.lower() == "format" and index + 2 < len(part):
                _check_format_call(part[index + 2 : index + 4])
            if _is_function(token.text) and (follower == "(" or before not in (".", "AS")):
                raise errors.denied(
                    f"function {token.text} is off in the embedded ClickHouse; a column is written table.{token.text}"
                )
        before = token.text.upper() if token.kind == "word" else token.text


def _is_function(name: str) -> bool:
    return name in _FUNCTIONS or _AI.fullmatch(name) is not None


def _check_format_call(arguments: Sequence[Token]) -> None:
    """`format(Values, '…')` evaluates SQL that stands in a string; an expression could spell the name."""
    first = arguments[0]
    name = lexer.unquote(first.text) if first.kind == "string" else first.text
    plain = first.kind == "string" or first.is_identifier
    if not plain or name.lower() == "values" or (len(arguments) > 1 and arguments[1].text not in (",", ".", ")")):
        raise errors.denied("format(…) takes a plain name or pattern first, and not Values, in the embedded ClickHouse")


def _check_definition(statement: Sequence[Token]) -> None:
    """Refuse a view's identifier parameter: a later query fills it in, when its value is no longer looked at."""
    for index, token in enumerate(statement[:-1]):
        if token.text == ":" and statement[index + 1].is_word("IDENTIFIER"):
            raise errors.denied("an Identifier parameter in a definition is off in the embedded ClickHouse")
    if any(token.is_word("DICTIONARY") for token in statement[:4]):
        raise errors.denied("dictionaries are off in the embedded ClickHouse")


def check_parameters(statement: Sequence[Token], parameters: Mapping[str, str], denied: Denied) -> None:
    """Raise ServerError 497 if a parameter could stand for a function's name ({x:Identifier}).

    Only parameters used so are looked at: a site may be called `file`. Where the word stands otherwise, all are.
    """
    named = set()
    for place, token in enumerate(statement):
        if token.is_word("IDENTIFIER"):
            brace, name, colon = statement[max(place - 3, 0) : place] if place >= 3 else (token,) * 3
            named |= {name.text} if (brace.text, colon.text) == ("{", ":") else set(parameters)
    for value in (parameters[name] for name in named & parameters.keys()):
        plain = value.strip().strip("`\"'")
        if _is_function(plain) or plain.lower() in denied.calls or "\\" in value:
            raise errors.denied(f"parameter value {value!r} is off in the embedded ClickHouse")


def check_class(statement: Sequence[Token], text: str, query_class: str) -> None:
    """Raise ServerError 497 for a statement that the engine's parser puts among those acting on the server itself."""
    if query_class == "MUTATING_GLOBAL":
        raise errors.denied("functions, users and named collections are off in the embedded ClickHouse")
    if query_class == "CONTROL":
        if not statement[0].is_word(*_CONTROL) or "outfile" in text.lower():
            raise errors.denied("this statement is off in the embedded ClickHouse")
        if statement[0].is_word("ATTACH") and any(token.is_word("FROM") for token in statement):
            raise errors.denied("ATTACH … FROM is off in the embedded ClickHouse")


def only_reads(statement: Sequence[Token], query_class: str) -> bool:
    """Whether a read-only request (GET) may run the statement: it reads, or changes its own session at most."""
    if query_class == "CONTROL":
        own = statement[0].is_word("SET", "USE")
        return own or (statement[0].is_word("CREATE", "DROP") and any(t.is_word("TEMPORARY") for t in statement[1:4]))
    return query_class in ("READ_ONLY", "UNKNOWN")


def check_values(data: bytes, denied: Denied) -> None:
    """Raise ServerError 497 if rows of a VALUES insert, which may hold SQL expressions, name what is off."""
    if _suspicious(denied).search(data) is None:
        return
    try:
        check_names(list(lexer.tokens(data.decode("latin-1"))), denied)
    except lexer.LexError as error:
        raise errors.syntax(f"Syntax error in VALUES: {error}") from None


def _suspicious(denied: Denied) -> re.Pattern[bytes]:
    names = sorted({*denied.calls, *(name.lower() for name in _FUNCTIONS), "format", "ai"})
    calls = "|".join(re.escape(name) for name in names)
    return re.compile(rf"(?:\b(?:{calls})|[\"`])".encode(), re.IGNORECASE)
