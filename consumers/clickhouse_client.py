"""ClickHouse over HTTP with clickhouse-connect: the only file that imports it.

Promise: an insert is one block under one deduplication token, sent once. Whoever repeats it adds nothing, in the table
and in the targets of its views; what a kill of the server left is to be looked at. Every failure is a `RetryError`
(it may work later, unchanged) or a `FatalError`. Inserts are synchronous (`async_insert=0` goes with every statement).
One `ClickHouse` serves several threads; it connects at its first use and again after a failure.

On a cluster an insert is answered when a majority of its shard's replicas hold it, one such insert at a time in a table
(a second one is a RetryError), and with `exact` a query sees every insert that was answered, whatever replica it meets.
"""

from __future__ import annotations

import math
import re
import struct
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any, NamedTuple, TypeVar, cast
from urllib.parse import unquote, urlsplit
from uuid import uuid4

import clickhouse_connect
import lz4.frame  # type: ignore[import-untyped]  # lz4 ships no types
import msgspec
from clickhouse_connect.datatypes.base import ClickHouseType
from clickhouse_connect.datatypes.registry import get_from_name
from clickhouse_connect.datatypes.string import String
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError, OperationalError
from clickhouse_connect.driver.insert import InsertContext
from clickhouse_connect.driver.transform import NativeTransform
from urllib3 import BaseHTTPResponse
from urllib3.exceptions import HTTPError

from consumers.rows import Columns, numbered
from schemas.errors import FatalError, RetryError

CONNECT_TIMEOUT_S = 10.0
QUERY_END_POLL_S = 0.2
ERROR_CHARS_MAX = 300
STREAM_BYTES = 1 << 20
JSON_LINES = "JSONCompactEachRow"
LOOPBACK = ("127.0.0.1", "localhost", "::1")  # packing costs more than it saves there
WORDS = "LowCardinality(String)"
SENT_AS_TEXT = ("IPv6", "Decimal(")  # the server reads their text faster than Python makes their bytes
SETTINGS = {"async_insert": 0}
INSERT_SETTINGS = {
    "deduplicate_blocks_in_dependent_materialized_views": 1,
    "insert_deduplicate": 1,
    "optimize_on_insert": 0,  # merges sum up what the views write; doing it in the insert as well costs a third more
    "max_partitions_per_insert_block": 0,  # late events may touch many months; a refusal would last for ever
    "throw_on_max_partitions_per_insert_block": 0,
}
CLUSTER_SETTINGS = {
    # The subqueries of ours that read a sharded table mean all of it; without this the server refuses them.
    "distributed_product_mode": "global",
    "skip_unavailable_shards": 0,
}
EXACT_SETTINGS = {
    "distributed_foreground_insert": 1,  # the answer comes from the shard, not from a queue before it
    "insert_quorum": "auto",
    "insert_quorum_parallel": 0,  # the next one could not be read in sequential consistency
    "select_sequential_consistency": 1,
}
CLUSTER_TIMEOUT_SHARE = 0.5  # the server gives up waiting for replicas before we give up waiting for it

# ErrorCodes.cpp: what passes without anyone changing the statement. Every other number is fatal.
_RETRY_CODES = frozenset(
    (
        *(23, 24, 74, 75, 159, 160, 164, 198, 202, 203, 209, 210, 216, 225, 236, 241, 242, 243, 252, 265, 279, 285),
        *(286, 289, 290, 298, 305, 319, 364, 373, 394, 415, 425, 439, 473, 499, 574, 636, 722, 745, 999, 1000, 1001),
        1002,
    )
)
_RETRY_STATUS = re.compile(r"HTTP status (?:408|429|5\d\d)")
T = TypeVar("T")


class TableTypes(NamedTuple):
    """A table's columns that can be inserted, by name, and which of them have a default other than their type's."""

    types: Mapping[str, str]
    with_default: frozenset[str] = frozenset()


class _Words(String, registered=False):
    """LowCardinality(String), as most columns of events are: the values are numbered by compiled code."""

    def _build_lc_dictionary(self, column: Sequence[Any], _ctx: InsertContext) -> tuple[list[Any], list[int]]:
        return numbered(column)


class ClickHouse:
    """One database of a ClickHouse server at `url` (`http://user:password@host:port`).

    `timeout_s` is how long an answer is waited for. Nothing is sent before the first call. `cluster` is the name of
    the cluster that has the tables, "" on a single server; `exact` is for who loads and recovers, and costs a report
    waiting for replicas that are behind.
    """

    def __init__(
        self, url: str, *, database: str = "hitstream", timeout_s: float = 120.0, cluster: str = "", exact: bool = True
    ) -> None:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise FatalError(f"CLICKHOUSE_URL must be http(s)://host:port, not {url!r}")
        self._secure = parts.scheme == "https"
        self._address: dict[str, Any] = {
            "host": parts.hostname,
            "port": parts.port or (8443 if self._secure else 8123),
            "username": unquote(parts.username or "default"),
            "password": unquote(parts.password or ""),
        }
        self.database = database
        self._is_near = parts.hostname in LOOPBACK
        self._timeout_s = timeout_s
        self._cluster = cluster
        self._cluster_settings = cluster_settings(timeout_s, exact=exact) if cluster else {}
        self._client: Client | None = None
        self._types: dict[str, TableTypes] = {}
        self._guard = threading.Lock()

    def insert(
        self,
        table: str,
        columns: Columns,
        *,
        token: str,
        types: Mapping[str, str] | None = None,
        shard: int = 0,
    ) -> None:
        """Insert columns of equal length as one block under `token`. Raises RetryError or FatalError.

        `types` are ClickHouse types by column, else the table's own, asked for once. Values by type: String str or
        bytes (one kind a column), LowCardinality(String) str, numbers int or float, Decimal a Decimal (or str), IPv6
        str, DateTime64(p) an int of 10^-p seconds since 1970 UTC, Date a date or an int of days, Map a dict, Array a
        sequence, Tuple a tuple in declared order. `shard` is a shard's number in the cluster, 0: whichever the table's
        sharding key says. When no answer comes, this returns only after the server has ended the statement or
        `timeout_s` more have passed.
        """
        if not columns or not columns[next(iter(columns))]:
            return
        query_id = str(uuid4())
        settings = {
            **SETTINGS,
            **self._cluster_settings,
            **INSERT_SETTINGS,
            "insert_deduplication_token": token,
            "query_id": query_id,
            **({"insert_shard_id": shard} if shard else {}),
        }
        known = TableTypes(types) if types else self._table_types(table)
        try:
            self._call(lambda client: self._send(client, table, columns, known, settings))
        except _NoAnswerError:
            self.wait_query_end(query_id, self._timeout_s)
            raise

    def _send(
        self, client: Client, table: str, columns: Columns, known: TableTypes, settings: Mapping[str, Any]
    ) -> None:
        if missing := [name for name in columns if name not in known.types]:
            raise FatalError(f"table {table} has no column {', '.join(missing)}; is a migration missing?")
        # A column that is empty in every row is left out: what the server fills it with is the same.
        filled = [name for name, values in columns.items() if name in known.with_default or any(values)]
        names = filled or list(columns)[:1]
        as_text = {name for name in names if known.types[name].startswith(SENT_AS_TEXT)}
        column_types = [_type_of("String" if name in as_text else known.types[name]) for name in names]
        data = [_texts(columns[name]) if name in as_text else columns[name] for name in names]

        context = InsertContext(
            table, names, column_types, data=data, column_oriented=True, compression=False, block_size=len(data[0])
        )
        _, _, body = b"".join(NativeTransform.build_insert(context)).partition(b"\n")
        data.clear()  # a context is in a cycle with its own method: its columns would wait for the garbage collector
        if context.insert_exception is not None:
            raise FatalError(f"clickhouse-connect cannot send this: {context.insert_exception}")
        packed, packing = (body, None) if self._is_near else (lz4.frame.compress(body), "lz4")
        # Bytes would be sent again by the client itself when a connection breaks; whoever loads has to know of it.
        sent_once = cast("bytes", memoryview(packed))
        everything = {**settings, "database": self.database}
        client.raw_insert(table, names, sent_once, settings=everything, fmt="Native", compression=packing)

    def query(self, sql: str, parameters: Mapping[str, Any] | None = None) -> list[tuple[Any, ...]]:
        """Return the rows of a query; `{name:Type}` in it takes `parameters[name]`. Raises RetryError or FatalError."""
        result = self._call(lambda client: client.query(sql, dict(parameters or {}), settings=self._settings()))
        return [tuple(row) for row in result.result_rows]

    def read(self, sql: str, parameters: Mapping[str, Any], kind: type[T]) -> list[T]:
        """Return the rows of a query as structs or tuples of `kind`, whose fields its columns are in order.

        For many rows: one C call makes all of them from JSON. Raises RetryError or FatalError.
        """
        return _decoded(msgspec.json.Decoder(kind), self.query_text(sql, JSON_LINES, parameters))

    def stream(self, sql: str, parameters: Mapping[str, Any], kind: type[T]) -> Iterator[list[T]]:
        """Yield the rows of a query as `read` returns them, as they come: STREAM_BYTES of JSON are a list.

        Raises RetryError or FatalError, also behind the first rows.
        """
        asked = dict(parameters)
        answer = cast(
            "BaseHTTPResponse",  # of IOBase it has what is called here
            self._call(lambda client: client.raw_stream(sql, asked, settings=self._settings(), fmt=JSON_LINES)),
        )
        decoder, rest = msgspec.json.Decoder(kind), b""
        with closing(answer):
            while part := self._call(lambda _: answer.read(STREAM_BYTES)):
                lines, _, rest = (rest + part).rpartition(b"\n")
                yield _decoded(decoder, lines)
        if rest:
            _decoded(decoder, rest)
            raise RetryError(f"an answer that breaks off: {rest[-ERROR_CHARS_MAX:]!r}")

    def query_columns(self, sql: str, parameters: Mapping[str, Any] | None = None) -> dict[str, Sequence[Any]]:
        """Return the columns of a query by name; none when it has no rows. Raises RetryError or FatalError."""
        result = self._call(lambda client: client.query(sql, dict(parameters or {}), settings=self._settings()))
        columns: Sequence[Sequence[Any]] = result.result_columns or [()] * len(result.column_names)
        return dict(zip(result.column_names, columns, strict=True))

    def query_text(self, sql: str, fmt: str, parameters: Mapping[str, Any] | None = None) -> bytes:
        """Return the answer of a query in a ClickHouse format, e.g. JSONEachRow. Raises RetryError or FatalError."""
        answer = self._call(
            lambda client: client.raw_query(sql, dict(parameters or {}), settings=self._settings(), fmt=fmt)
        )
        return bytes(answer)

    def command(self, sql: str, *, database: str | None = None) -> None:
        """Run a statement that returns no rows, in `database` ("": none named). Raises RetryError or FatalError."""
        self._call(lambda client: client.command(sql, settings=self._settings(database)))

    def ping(self) -> bool:
        """Whether the server answers."""
        try:
            return bool(self._call(lambda client: client.ping()))
        except (RetryError, FatalError):
            return False

    def wait_query_end(self, query_id: str, timeout_s: float) -> bool:
        """Wait until the server runs `query_id` no longer; False when it still does, or cannot be asked.

        The embedded server shows a query's id as its log_comment, as its engine draws query ids of its own; the shard
        that an insert went to shows it as that of the initial query.
        """
        processes = f"clusterAllReplicas('{self._cluster}', system.processes)" if self._cluster else "system.processes"
        sql = (
            f"SELECT count() FROM {processes} WHERE initial_query_id = {{id:String}} OR query_id = {{id:String}} "  # noqa: S608  a checked setting
            "OR Settings['log_comment'] = {id:String}"
        )
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                running = self.query(sql, {"id": query_id})[0][0]
            except (RetryError, FatalError):
                return False
            if not running:
                return True
            if time.monotonic() >= deadline:
                return False
            time.sleep(QUERY_END_POLL_S)

    def close(self) -> None:
        """Close the connections; a later call opens new ones."""
        with self._guard:
            client, self._client = self._client, None
        if client is not None:
            client.close()

    def _settings(self, database: str | None = None) -> dict[str, Any]:
        named = self.database if database is None else database
        return {**SETTINGS, **self._cluster_settings, **({"database": named} if named else {})}

    def _table_types(self, table: str) -> TableTypes:
        found = self._types.get(table)
        if found is None:
            rows = self.query(f"DESCRIBE TABLE {table}")
            known = {name: kind for name, kind, default, *_ in rows if default not in ("ALIAS", "MATERIALIZED")}
            found = TableTypes(known, frozenset(name for name, _, default, *_ in rows if default))
            self._types[table] = found
        return found

    def _call(self, action: Callable[[Client], T]) -> T:
        try:
            return action(self._connected())
        except ClickHouseError as error:
            raise _sorted_error(error) from error
        except HTTPError as error:  # an answer that is read as it comes breaks off
            raise _NoAnswerError(f"{type(error).__name__}: {error}") from error
        except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, struct.error) as error:
            raise FatalError(f"clickhouse-connect cannot send this: {type(error).__name__}: {error}") from error

    def _connected(self) -> Client:
        with self._guard:
            if self._client is None:
                self._client = clickhouse_connect.get_client(
                    **self._address,
                    secure=self._secure,
                    connect_timeout=CONNECT_TIMEOUT_S,
                    send_receive_timeout=max(1, math.ceil(self._timeout_s)),  # it takes whole seconds
                    autogenerate_session_id=False,
                    compress="lz4",
                    query_limit=0,
                )
            return self._client


def _type_of(name: str) -> ClickHouseType:
    found = get_from_name(name)
    return _Words(found.type_def) if name == WORDS else found


def _texts(values: Sequence[object]) -> list[str]:
    return [str(value) if value else "0" for value in values]


def _decoded(decoder: msgspec.json.Decoder[T], lines: bytes) -> list[T]:
    try:
        return decoder.decode_lines(lines)
    except msgspec.DecodeError as error:  # the server writes an error that comes late behind the rows
        raise RetryError(f"an answer that breaks off: {error}: {lines[-ERROR_CHARS_MAX:]!r}") from error


def cluster_settings(timeout_s: float, *, exact: bool) -> dict[str, Any]:
    """Return what every statement carries on a cluster; see the module's promise. `timeout_s` is the client's."""
    if not exact:
        return dict(CLUSTER_SETTINGS)
    wait_s = timeout_s * CLUSTER_TIMEOUT_SHARE
    limits = {"insert_quorum_timeout": int(wait_s * 1000), "distributed_ddl_task_timeout": max(1, int(wait_s))}
    return {**CLUSTER_SETTINGS, **EXACT_SETTINGS, **limits}


class _NoAnswerError(RetryError):
    """The statement may or may not have been carried out, or may be running still."""


def _sorted_error(error: ClickHouseError) -> RetryError | FatalError:
    """Return the error as one of the two roots, by ClickHouse's number where there is one."""
    code: int | None = getattr(error, "code", None)
    text = str(error)
    if code is not None:
        return RetryError(text) if code in _RETRY_CODES else FatalError(text)
    if isinstance(error, OperationalError):
        return _NoAnswerError(text)
    return RetryError(text) if _RETRY_STATUS.search(text) else FatalError(text)
