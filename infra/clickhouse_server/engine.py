"""chDB behind one small interface: the only file that imports it. One process owns a data directory.

Invariants: the first connection carries the configuration and lives as long as the engine, because an engine whose last
connection closes starts again without its grants. Settings are SET on a connection made for one request (or one
session), so they cannot leak. The owner's lock is taken before the engine starts and falls with the process, also on
kill -9. Database `default` is a plain one: chDB's own overlays the file system, which grants refuse as a whole.
"""

from __future__ import annotations

import fcntl
import os
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from infra.clickhouse_server import access, errors, lexer, write_errors
from infra.clickhouse_server.guard import Denied

LOCK_WAIT_S = 30.0
_LOCK_POLL_S = 0.05
_MERGES_POLL_S = 1.0
TASKS = Path("/proc/self/task")
MERGE_THREADS = "MergeMut"  # how the names of the engine's threads begin that merge and mutate parts


class EngineError(Exception):
    """The engine cannot start: chDB is missing, the directory is taken or unusable. The message says what to do."""


class Result(Protocol):
    """What chDB returns for a query, or for one part of a streamed one."""

    def bytes(self) -> bytes: ...  # noqa: D102  chDB's own
    def rows_read(self) -> int: ...  # noqa: D102  chDB's own: rows of the result, written rows for an INSERT
    def storage_rows_read(self) -> int: ...  # noqa: D102  chDB's own
    def storage_bytes_read(self) -> int: ...  # noqa: D102  chDB's own
    def rows_written(self) -> int: ...  # noqa: D102  chDB's own
    def bytes_written(self) -> int: ...  # noqa: D102  chDB's own


class Statement(NamedTuple):
    """What the engine's parser says of a text: its class by name, and how many it holds (0: it is no SQL)."""

    query_class: str
    statements: int


class Connection:
    """One chDB connection: its settings, current database and temporary tables. One thread at a time."""

    def __init__(self, raw: Any) -> None:  # noqa: ANN401  chDB is untyped
        self._raw = raw

    def query(
        self, sql: str | bytes, output_format: str = "TabSeparated", parameters: Mapping[str, str] | None = None
    ) -> Result:
        """Run one statement and return its whole result. Raises ServerError."""
        try:
            result: Result = self._raw.query(sql, output_format, params=dict(parameters or {}))
        except RuntimeError as error:
            raise errors.from_engine(error) from None
        return result

    def stream(self, sql: bytes, output_format: str, parameters: Mapping[str, str]) -> Stream:
        """Start a SELECT and return its result in parts; formats whose parts do not join are the caller's matter."""
        try:
            return Stream(self._raw, self._raw.send_query(sql, output_format, params=dict(parameters)))
        except RuntimeError as error:
            raise errors.from_engine(error) from None

    def insert(self, head: bytes, input_format: str) -> Insert:
        """Start an INSERT whose data follows; `head` ends before FORMAT or VALUES. Raises ServerError."""
        try:
            before = self._raw.query(write_errors.COUNTS, "TabSeparated").bytes()
            return Insert(self._raw, self._raw.send_insert(head, input_format), before)
        except RuntimeError as error:
            raise errors.from_engine(error) from None

    def classify(self, sql: bytes) -> Statement:
        """Return what the engine's own parser takes the text for, without running it."""
        found = self._raw.classify_query(sql)
        return Statement(str(found["query_class"]).rpartition(".")[2], int(found["statement_count"]))

    def set(self, settings: Mapping[str, str]) -> None:
        """SET settings on this connection; names are checked to be identifiers. Raises ServerError."""
        if not settings:
            return
        for name in settings:
            if not name.replace("_", "a").replace(".", "a").isalnum() or not name.isascii():
                raise errors.ServerError(115, "UNKNOWN_SETTING", f"Unknown setting '{name}'")
        self.query("SET " + ", ".join(f"{name} = {lexer.quote(value)}" for name, value in settings.items()))

    def close(self) -> None:
        """Close the connection; a second time does nothing."""
        if self._raw is not None:
            self._raw.close()
            self._raw = None


class Stream:
    """A running SELECT; `next` returns its parts and None at the end. Close it in any case."""

    def __init__(self, raw: Any, handle: Any) -> None:  # noqa: ANN401  chDB is untyped
        self._raw, self._handle = raw, handle

    def next(self) -> Result | None:
        """Return the next part of the result, None after the last. Raises ServerError."""
        try:
            part: Result = self._raw.streaming_fetch_result(self._handle)
            if not part.bytes() and part.rows_read() == 0:
                self._handle = None
                return None
        except RuntimeError as error:
            self._handle = None
            raise errors.from_engine(error) from None
        return part

    def close(self) -> None:
        """Cancel what still runs."""
        if self._handle is not None:
            self._raw.streaming_cancel_query(self._handle)
            self._handle = None


class Insert:
    """A running INSERT; nothing is in the table before `finish`. `before` is the answer to `write_errors.COUNTS`."""

    def __init__(self, raw: Any, handle: Any, before: bytes) -> None:  # noqa: ANN401  chDB is untyped
        self._raw, self._handle = raw, handle
        self._before = before

    def append(self, data: bytes) -> None:
        """Add bytes of the input format. Raises ServerError."""
        try:
            self._raw.insert_append(self._handle, data)
        except RuntimeError as error:
            raise errors.from_engine(error) from None

    def finish(self) -> Result:
        """Write the rows and return the counts. Raises ServerError."""
        try:
            result: Result = self._raw.insert_done(self._handle)
            if self._raw.query(write_errors.COUNTS, "TabSeparated").bytes() == self._before:
                return result
            notes = self._raw.query(write_errors.NOTES, "TabSeparated").bytes()
        except RuntimeError as error:
            raise errors.from_engine(error) from None
        finally:
            self._handle = None
        met = write_errors.error_met(self._before, notes)
        if met:
            raise met
        return result

    def cancel(self) -> None:
        """Drop what was appended; after `finish` this does nothing."""
        if self._handle is not None:
            self._raw.insert_cancel(self._handle)
            self._handle = None


class Engine:
    """The engine of one data directory. `connect` is safe from any thread.

    Raises EngineError; also, without a wait, once `cancelled` says so while the directory is another's.
    """

    def __init__(self, directory: Path, cancelled: Callable[[], bool] = lambda: False) -> None:
        self._directory = directory
        self._lock = _lock(directory, cancelled)
        try:
            config = access.write_configuration(directory / "config")
            _forget_empty_default(directory / "metadata")
            self._connect, self._address = _chdb(), f"{directory.absolute()}?config-file={config.absolute()}"
            self._first = self.connect()
            self._open_default()
            self.version = self._text("SELECT version()")
            self.timezone = self._text("SELECT timezone()")
            self.denied = Denied.of(
                self._text("SELECT name FROM system.table_functions").split("\n"),
                self._text(
                    "SELECT name FROM system.table_engines UNION DISTINCT SELECT name FROM system.database_engines"
                ).split("\n"),
            )
            self._closing = threading.Event()
            threading.Thread(target=_let_merges_wait, args=(self._closing,), name="merges", daemon=True).start()
        except BaseException:
            self._lock.close()
            raise

    def connect(self) -> Connection:
        """Return a new connection; it starts from the profile's settings and database `default`."""
        try:
            return Connection(self._connect(self._address))
        except RuntimeError as error:
            raise EngineError(f"the engine on {self._directory} does not start: {error}") from error

    def _text(self, sql: str) -> str:
        return self._first.query(sql).bytes().decode().rstrip("\n")

    def _open_default(self) -> None:
        self._first.query("DETACH DATABASE default")
        if (self._directory / "metadata" / "default.sql").exists():
            self._first.query("ATTACH DATABASE default")
        else:
            self._first.query("CREATE DATABASE default ENGINE = Atomic")

    def close(self) -> None:
        """Close the engine, then give the directory up. All other connections must be closed."""
        self._closing.set()
        self._first.close()
        self._lock.close()


def _forget_empty_default(metadata: Path) -> None:
    """Delete the definition of a `default` that never had a table.

    Such a database has no directory of its own yet, and chDB 26.9 then cannot attach it again ("Cannot find UUID
    mapping"). It is made anew, as empty as it was.
    """
    if not (metadata / "default").exists():
        (metadata / "default.sql").unlink(missing_ok=True)


def _let_merges_wait(closing: threading.Event) -> None:
    """Give merges what nobody else wants of the CPUs, until `closing`: inserts and queries go first.

    More than by any nice value: Linux takes a CPU that runs nothing but such a thread for a free one. The engine starts
    threads for merges when there is something to merge, and what these start is to be as all else.
    """
    known: set[Path] = set()
    while not closing.wait(_MERGES_POLL_S):
        tasks = set(TASKS.iterdir())
        for task in tasks - known:
            with suppress(OSError):  # it has ended
                if (task / "comm").read_text().startswith(MERGE_THREADS):
                    os.sched_setscheduler(int(task.name), os.SCHED_IDLE | os.SCHED_RESET_ON_FORK, os.sched_param(0))
                    known.add(task)
        known &= tasks


def _chdb() -> Any:  # noqa: ANN401  chDB is untyped
    try:
        chdb = import_module("chdb._chdb")  # late: the engine is an extra, and loading it takes a second
    except ImportError as error:
        raise EngineError(
            f"the embedded ClickHouse needs chDB ({error}): pip install 'hitstream[embedded]', or set CLICKHOUSE_URL"
        ) from None
    # A stop is this process's to decide: chDB's handlers would end it without closing the tables.
    chdb.set_signal_handlers_enabled(False)
    return chdb.connect


def _lock(directory: Path, cancelled: Callable[[], bool]) -> Any:  # noqa: ANN401  an open file
    """Take the directory's lock, waiting for a process that is just ending. Raises EngineError."""
    if any(sign in str(directory.absolute()) for sign in "?&%#"):
        raise EngineError(f"the engine cannot use a directory with one of ?&%# in its name: {directory}")
    directory.mkdir(parents=True, exist_ok=True)
    file = (directory / "owner.lock").open("a+")
    deadline = time.monotonic() + LOCK_WAIT_S
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            if cancelled() or time.monotonic() > deadline:
                file.seek(0)
                owner = file.read().strip() or "unknown"
                file.close()
                raise EngineError(
                    f"{directory} belongs to a running engine (process {owner}); waited {LOCK_WAIT_S:.0f} s"
                ) from None
            time.sleep(_LOCK_POLL_S)
        else:
            file.truncate(0)
            file.write(f"{os.getpid()}\n")
            file.flush()
            return file
