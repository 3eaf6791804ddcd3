"""Migrations for a ClickHouse cluster, made from the single server's statements: one source, two forms.

Pure. A table `t` becomes `t_local`, replicated inside its shard, and a Distributed table `t` over all shards, so that
every statement of ours reads and writes the same names on either. What holds then:

- Rows are sharded by `log_partition` where a table has it: the rows of one log partition, their deduplication tokens
  and the view's rows made of them lie in one shard, and a batch (a run of one partition) is one block in one shard.
  Tables without it are sharded by their sorting key, whose equal rows replacing engines have to see together.
- The deduplication window is the single server's in blocks, and `WINDOW_S` in time: a replicated table forgets after
  an hour else.
- A materialized view works inside the shard, from local to local table. One that is refreshed (REFRESH … APPEND) reads
  and writes the Distributed tables, on every host: what one host has counted the others find counted.
- Views have one name on either; what is renamed is a view.
- A plain view reads the Distributed tables, and its `IN (SELECT …)` is GLOBAL, as the rows of one event id may lie in
  several shards.
- What fills a table from another (INSERT … SELECT) works inside each shard, from local to local table.
- A statement of a kind that is not known here is an error, never sent as it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from infra.clickhouse_server.lexer import LexError, Token, quote, tokens
from schemas.errors import FatalError

LOCAL = "_local"
SHARD_COLUMN = "log_partition"
WINDOW_S = 7 * 86_400  # `recovery_age_s_max` asks for half an hour; Kafka's usual retention is a week
SHARD_PATH = "/clickhouse/tables/{shard}/{database}/{table}"
SHARD_REPLICA = "{replica}"
EVERYWHERE_PATH = "/clickhouse/tables/everywhere/{database}/{table}"
EVERYWHERE_REPLICA = "{shard}-{replica}"
_WINDOW = "non_replicated_deduplication_window"


class _Edit(NamedTuple):
    """Put `text` in place of what stands at start..end."""

    start: int
    end: int
    text: str


class _Create(NamedTuple):
    """A CREATE TABLE: where its name stands, its engine's name and arguments, its columns and sorting key."""

    name: Token
    engine: Token
    arguments: tuple[int, int] | None
    columns: tuple[str, ...]
    order_by: str
    window: Token | None
    window_end: int


def clustered(statement: str, cluster: str, database: str) -> list[str]:
    """Return the statements that do on `cluster` what `statement` does on a single server. Raises FatalError."""
    try:
        words = list(tokens(statement))
    except LexError as error:
        raise FatalError(f"{error}: {_beginning(statement)}") from None
    if _begins(words, "CREATE", "TABLE", "IF", "NOT", "EXISTS"):
        return _table(statement, words, cluster, database)
    if _begins(words, "CREATE", "MATERIALIZED", "VIEW", "IF", "NOT", "EXISTS"):
        return [_materialized_view(statement, words, cluster)]
    for beginning in (("CREATE", "VIEW", "IF", "NOT", "EXISTS"), ("CREATE", "OR", "REPLACE", "VIEW")):
        if _begins(words, *beginning):
            return [_edited(statement, [_on_cluster(words[len(beginning)], cluster), *_global_in(words)])]
    if _begins(words, "RENAME", "TABLE", "IF", "EXISTS"):
        return [_edited(statement, [_on_cluster(words[-1], cluster)])]
    if _begins(words, "ALTER", "TABLE"):
        return _alter(statement, words, cluster)
    if _begins(words, "INSERT", "INTO"):
        return [_insert_select(statement, words)]
    raise FatalError(f"this statement has no form for a cluster yet, see infra/cluster_ddl.py: {_beginning(statement)}")


def everywhere(statement: str, cluster: str) -> str:
    """Return a CREATE TABLE for a small table that every host of the cluster holds whole. Raises FatalError."""
    words = list(tokens(statement))
    table = _parsed(statement, words)
    edits = [
        _on_cluster(table.name, cluster),
        *_replicated(statement, table, EVERYWHERE_PATH, EVERYWHERE_REPLICA),
    ]
    return _edited(statement, edits)


def _table(statement: str, words: Sequence[Token], cluster: str, database: str) -> list[str]:
    table = _parsed(statement, words)
    name, local = table.name.text, table.name.text + LOCAL
    key = SHARD_COLUMN if SHARD_COLUMN in table.columns else f"cityHash64({table.order_by})"
    edits = [
        _Edit(table.name.start, table.name.end, f"{local} ON CLUSTER {quote(cluster)}"),
        *_replicated(statement, table, SHARD_PATH, SHARD_REPLICA),
    ]
    if table.window is not None:
        number = statement[table.window.end : table.window_end]
        text = f"replicated_deduplication_window{number}, replicated_deduplication_window_seconds = {WINDOW_S}"
        edits.append(_Edit(table.window.start, table.window_end, text))
    over = f"Distributed({quote(cluster)}, {quote(database)}, {quote(local)}, {key})"
    return [
        _edited(statement, edits),
        f"CREATE TABLE IF NOT EXISTS {name} ON CLUSTER {quote(cluster)} AS {local} ENGINE = {over}",
    ]


def _replicated(statement: str, table: _Create, path: str, replica: str) -> Iterator[_Edit]:
    place = f"{quote(path)}, {quote(replica)}"
    inside = statement[table.arguments[0] : table.arguments[1]] if table.arguments else ""
    end = table.arguments[1] + 1 if table.arguments else table.engine.end
    arguments = f"{place}, {inside}" if inside.strip() else place
    yield _Edit(table.engine.start, end, f"Replicated{table.engine.text}({arguments})")


def _parsed(statement: str, words: Sequence[Token]) -> _Create:
    """Read a CREATE TABLE IF NOT EXISTS name (columns) ENGINE = …MergeTree[(…)] … ORDER BY … [SETTINGS …]."""
    name, opened = words[5], words[6]
    if not name.is_identifier or opened.text != "(":
        raise FatalError(f"a table is made as `name (columns)`: {_beginning(statement)}")
    closed = _closing(words, 6)
    rest = range(closed + 1, len(words))
    engine = next((at + 2 for at in rest if words[at].is_word("ENGINE")), 0)
    if not engine or not words[engine].text.endswith("MergeTree") or words[engine].text.startswith("Replicated"):
        raise FatalError(f"only MergeTree tables have a form for a cluster: {_beginning(statement)}")
    arguments = None
    if engine + 1 < len(words) and words[engine + 1].text == "(":
        arguments = (words[engine + 1].end, words[_closing(words, engine + 1)].start)
    order = next((at + 2 for at in rest if words[at].is_word("ORDER") and words[at + 1].is_word("BY")), 0)
    if not order:
        raise FatalError(f"a table has an ORDER BY: {_beginning(statement)}")
    if words[order].text == "(":
        order_by = statement[words[order].end : words[_closing(words, order)].start]
    else:
        order_by = words[order].text
    window = next((at for at in rest if words[at].is_word(_WINDOW.upper())), 0)
    return _Create(
        name,
        words[engine],
        arguments,
        tuple(_columns(words[7:closed])),
        order_by,
        words[window] if window else None,
        words[window + 2].end if window else 0,
    )


def _columns(words: Sequence[Token]) -> Iterator[str]:
    """Yield the first word of each item of a column list; INDEX and the like are words, too."""
    depth, first = 0, True
    for word in words:
        if first:
            yield word.text
        depth += {"(": 1, ")": -1}.get(word.text, 0) if word.kind == "symbol" else 0
        first = depth == 0 and word.kind == "symbol" and word.text == ","


def _materialized_view(statement: str, words: Sequence[Token], cluster: str) -> str:
    name = words[6]
    if words[7].is_word("REFRESH"):
        return _edited(statement, [_on_cluster(name, cluster), *_global_in(words)])
    if not words[7].is_word("TO"):
        raise FatalError(f"a materialized view has a target table (TO): {_beginning(statement)}")
    target = _Edit(words[8].start, words[8].end, words[8].text + LOCAL)
    return _edited(statement, [_on_cluster(name, cluster), target, *_local_sources(statement, words)])


def _local_sources(statement: str, words: Sequence[Token]) -> list[_Edit]:
    sources = [words[at + 1] for at, word in enumerate(words) if word.is_word("FROM", "JOIN")]
    if not sources or not all(source.is_identifier for source in sources):
        raise FatalError(f"a materialized view reads tables, not subqueries: {_beginning(statement)}")
    return [_Edit(item.start, item.end, f"{item.text}{LOCAL} AS {item.text}") for item in sources]


def _alter(statement: str, words: Sequence[Token], cluster: str) -> list[str]:
    """Return the local table's ALTER; columns stand in the Distributed table, too, and change there last.

    A materialized view's query (MODIFY QUERY) is changed as it is made: inside the shard.
    """
    name, kinds, depth, first = words[2], set(), 0, True
    if words[3].is_word("MODIFY") and words[4].is_word("QUERY"):
        return [_edited(statement, [_on_cluster(name, cluster), *_local_sources(statement, words)])]
    for at in range(3, len(words) - 1):
        if first:
            kinds.add(words[at + 1].is_word("COLUMN"))
        depth += {"(": 1, ")": -1}.get(words[at].text, 0) if words[at].kind == "symbol" else 0
        first = depth == 0 and words[at].kind == "symbol" and words[at].text == ","
    if len(kinds) != 1:
        raise FatalError(f"one ALTER changes columns, or other things, not both: {_beginning(statement)}")
    tables = [name.text + LOCAL, name.text] if kinds == {True} else [name.text + LOCAL]
    return [
        _edited(statement, [_Edit(name.start, name.end, f"{table} ON CLUSTER {quote(cluster)}")]) for table in tables
    ]


def _insert_select(statement: str, words: Sequence[Token]) -> str:
    """Return the statement over Distributed tables; each shard takes it for its local ones, on one replica."""
    kinds = [word.text for word in words if word.is_word("SELECT", "FROM", "JOIN", "GROUP", "ORDER", "LIMIT", "UNION")]
    if kinds != ["SELECT", "FROM"] or not any(word.is_word("SETTINGS") for word in words):
        raise FatalError(f"a table is filled from one other as it is, with SETTINGS: {_beginning(statement)}")
    return f"{statement}, parallel_distributed_insert_select = 2"


def _global_in(words: Sequence[Token]) -> Iterator[_Edit]:
    for at, word in enumerate(words[:-2]):
        subquery = words[at + 1].text == "(" and words[at + 2].is_word("SELECT", "WITH")
        if word.is_word("IN") and subquery and not words[at - 1].is_word("GLOBAL"):
            start = words[at - 1].start if words[at - 1].is_word("NOT") else word.start
            yield _Edit(start, start, "GLOBAL ")


def _on_cluster(name: Token, cluster: str) -> _Edit:
    return _Edit(name.end, name.end, f" ON CLUSTER {quote(cluster)}")


def _begins(words: Sequence[Token], *expected: str) -> bool:
    # Every kind has a name and something after it.
    return len(words) > len(expected) + 1 and all(
        word.is_word(text) for word, text in zip(words, expected, strict=False)
    )


def _closing(words: Sequence[Token], opened: int) -> int:
    depth = 0
    for at in range(opened, len(words)):
        if words[at].kind == "symbol":
            depth += {"(": 1, ")": -1}.get(words[at].text, 0)
            if depth == 0:
                return at
    raise FatalError("a parenthesis is not closed")


def _edited(statement: str, edits: Sequence[_Edit]) -> str:
    for edit in sorted(edits, reverse=True):
        statement = statement[: edit.start] + edit.text + statement[edit.end :]
    return statement


def _beginning(statement: str) -> str:
    return " ".join(statement.split())[:80]
