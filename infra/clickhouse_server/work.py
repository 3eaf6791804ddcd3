"""One request's statement on one connection. Runs in a worker thread; the event loop only waits for it.

Invariants: a statement reaches the engine only through `guard`. Settings of a request end with it: its connection is
closed, or, in a session, set back. The query id stands in `system.processes` as `Settings['log_comment']` unless the
client sets a log_comment of its own, because chDB draws its own query ids.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from uuid import uuid4

from infra.clickhouse_server import errors, guard, lexer, statement
from infra.clickhouse_server.engine import Connection, Engine, Insert, Result, Stream
from infra.clickhouse_server.request import Request
from infra.clickhouse_server.sessions import Session
from infra.clickhouse_server.statement import InsertHead

# An answer up to this size is complete before its status goes out, so an error in it gets its own status.
FIRST_BYTES = 1024 * 1024


@dataclass
class Summary:
    """What X-ClickHouse-Summary reports."""

    read_rows: int = 0
    read_bytes: int = 0
    written_rows: int = 0
    written_bytes: int = 0
    result_rows: int = 0
    result_bytes: int = 0

    def add_read(self, result: Result, size: int) -> None:
        """Count one result of a query, or one part of it, of `size` bytes."""
        self.read_rows += result.storage_rows_read()
        self.read_bytes += result.storage_bytes_read()
        self.result_rows += result.rows_read()
        self.result_bytes += size

    def add_written(self, result: Result) -> None:
        """Count what an INSERT wrote."""
        self.written_rows += result.rows_written()
        self.written_bytes += result.bytes_written()

    def header(self, elapsed_ns: int) -> str:
        """Return the header's JSON; numbers are strings, as ClickHouse has them."""
        counts = {**vars(self), "total_rows_to_read": self.read_rows, "elapsed_ns": elapsed_ns}
        return json.dumps({name: str(value) for name, value in counts.items()}, separators=(",", ":"))


@dataclass(frozen=True)
class First:
    """The beginning of an answer: its bytes, whether more follow, and the format they are in."""

    data: bytes
    more: bool
    format: str


class Work:
    """The statement of `request`. Close it in any case; one thread at a time."""

    def __init__(self, engine: Engine, request: Request, session: Session | None) -> None:
        self._engine = engine
        self._request = request
        self._session = session
        self._connection: Connection | None = None
        self._restore: list[str] = []
        self._stream: Stream | None = None
        self._insert: Insert | None = None
        self._through: tuple[str, str] | None = None  # temporary table and statement of an INSERT … SELECT … input()
        self.summary = Summary()

    def run(self, text: bytes) -> First:
        """Run a statement whose text is complete. Raises ServerError."""
        tokens = guard.cut(text.decode("latin-1"))
        guard.check(tokens, self._engine.denied)
        guard.check_parameters(tokens, self._request.parameters, self._engine.denied)
        connection = self._open()
        found = connection.classify(text)
        if found.statements > 1:
            raise errors.syntax("Syntax error (Multi-statements are not allowed)")
        guard.check_class(tokens, text.decode("latin-1"), found.query_class)
        if not guard.only_reads(tokens, found.query_class):
            self._refuse_readonly()
        name = statement.output_format(tokens, self._request.default_format)
        if not self._request.wait_end and statement.streams(tokens, name):
            self._stream = connection.stream(text, name, self._request.parameters)
            data = b"".join(self._parts(FIRST_BYTES))
            return First(data, self._stream is not None, name)
        result = connection.query(text, name, self._request.parameters)
        data = result.bytes()
        if result.rows_written():
            self.summary.add_written(result)
        self.summary.add_read(result, len(data))
        return First(data, more=False, format=name)

    def more(self) -> bytes | None:
        """Return the next part of the answer, None at its end. Raises ServerError."""
        return next(self._parts(1), None)

    def _parts(self, size: int) -> Iterator[bytes]:
        """Yield parts until they are `size` bytes together."""
        while size > 0 and self._stream is not None:
            part = self._stream.next()
            if part is None:
                self._stream = None
                return
            data = part.bytes()
            self.summary.add_read(part, len(data))
            size -= len(data)
            yield data

    def begin_insert(self, head: InsertHead) -> None:
        """Start an INSERT whose data follows. Raises ServerError."""
        guard.check(head.tokens, self._engine.denied)
        guard.check_parameters(head.tokens, self._request.parameters, self._engine.denied)
        connection = self._open()
        self._refuse_readonly()
        text = head.head.encode("latin-1")
        if self._request.parameters:
            connection.set({f"param_{name}": value for name, value in self._request.parameters.items()})
        if head.input_call is None:
            self._insert = connection.insert(text, head.input_format)
            return
        table = f"_input_{uuid4().hex}"
        start, end = head.input_call
        self._create_temporary(table, head.structure.encode("latin-1").decode("utf-8", "replace"))
        self._through = (table, head.head[:start] + table + head.head[end:])
        self._insert = connection.insert(f"INSERT INTO {table}".encode(), head.input_format)

    def append(self, data: bytes) -> None:
        """Add data to the INSERT. Raises ServerError."""
        assert self._insert is not None
        self._insert.append(data)

    def check_values(self, data: bytes) -> None:
        """Raise ServerError if the rows of a VALUES insert name what is off."""
        guard.check_values(data, self._engine.denied)

    def finish_insert(self) -> None:
        """Write the rows. Raises ServerError."""
        assert self._insert is not None
        assert self._connection is not None
        result = self._insert.finish()
        if self._through is not None:
            table, text = self._through
            try:
                result = self._connection.query(text.encode("latin-1"), "Null", self._request.parameters)
            finally:
                self._connection.query(f"DROP TEMPORARY TABLE IF EXISTS {table}")
        self.summary.add_written(result)

    def add_table(self, name: str, structure: str, input_format: str, data: bytes) -> None:
        """Make the temporary table of an external one, as a multipart request brings it. Raises ServerError."""
        if not name.isidentifier() or not name.isascii() or not statement.FORMAT_NAME.fullmatch(input_format):
            raise errors.bad(f"external table {name!r} in format {input_format!r}: no such name")
        if input_format.lower() == "values":
            self.check_values(data)
        self._create_temporary(name, structure)
        self._restore.append(f"DROP TEMPORARY TABLE IF EXISTS `{name}`")
        insert = self._open().insert(f"INSERT INTO `{name}`".encode(), input_format)
        insert.append(data)
        insert.finish()

    def _create_temporary(self, name: str, structure: str) -> None:
        text = f"CREATE TEMPORARY TABLE `{name}` ({structure}) ENGINE = Memory"
        tokens = guard.cut(text.encode().decode("latin-1"))
        guard.check(tokens, self._engine.denied)
        depth = 0
        for token in tokens[4:-3]:
            depth += (token.text == "(") - (token.text == ")") if token.kind == "symbol" else 0
            if depth == 0 and token is not tokens[-4]:
                raise errors.syntax("Syntax error in the structure of a table")
        self._open().query(text)

    def close(self) -> None:
        """End what still runs and give the connection back. Never raises for the engine's sake."""
        try:
            if self._stream is not None:
                self._stream.close()
            if self._insert is not None:
                self._insert.cancel()
            if self._session is not None and self._connection is not None:
                for text in reversed(self._restore):
                    self._connection.query(text)
        except (errors.ServerError, RuntimeError):
            self._drop_session()
        finally:
            if self._session is None and self._connection is not None:
                self._connection.close()
            self._connection = None

    def _drop_session(self) -> None:
        """Close a session's connection: it loses its state rather than keep another request's."""
        if self._session is not None and self._session.connection is not None:
            self._session.connection.close()
            self._session.connection = None

    def _refuse_readonly(self) -> None:
        if self._request.readonly:
            raise errors.ServerError(
                *(164, "READONLY", "default: Cannot execute query in readonly mode. For queries over HTTP, method GET"),
            )

    def _open(self) -> Connection:
        """Return the connection, with the request's database and settings applied the first time."""
        if self._connection is not None:
            return self._connection
        session = self._session
        if session is not None and session.connection is not None:
            self._connection = session.connection
        else:
            self._connection = self._engine.connect()
            if session is not None:
                session.connection = self._connection
        settings = {"log_comment": self._request.query_id, **self._request.settings}
        readonly = settings.pop("readonly", "").replace("0", "") or ("2" if self._request.readonly else "")
        if session is not None:
            self._remember([name for name in settings if name != "log_comment"])
        if self._request.database:
            self._connection.query("USE `" + self._request.database.replace("\\", "\\\\").replace("`", "\\`") + "`")
        self._connection.set(settings)
        if session is None and readonly:
            self._connection.set({"readonly": readonly})
        elif readonly and not self._request.readonly:
            # The session would stay read-only for good; for GET the class of the statement decides.
            raise errors.not_implemented("readonly within a session is not in the embedded server; use GET")
        return self._connection

    def _remember(self, names: list[str]) -> None:
        """Note how to set the session's connection back to what it is now."""
        assert self._connection is not None
        if self._request.database:
            current = self._connection.query("SELECT currentDatabase() FORMAT JSONCompactEachRow").bytes()
            self._restore.append("USE `" + json.loads(current)[0].replace("`", "\\`") + "`")
        if not names:
            return
        sql = "SELECT name, value, changed FROM system.settings WHERE has({names:Array(String)}, name)"
        wanted = "[" + ",".join(lexer.quote(name) for name in names) + "]"
        rows = self._connection.query(sql, "JSONCompactEachRow", {"names": wanted}).bytes()
        for row in rows.splitlines():
            name, value, changed = json.loads(row)
            self._restore.append(f"SET {name} = {lexer.quote(value) if changed else 'DEFAULT'}")
