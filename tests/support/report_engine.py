"""A ClickHouse of the test's own process, with hitstream's tables, behind the client that reports ask for."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import chdb

import schemas

COLUMN_DEFAULTS = {"log_partition": 0, "is_bot": 0, "source": "pixel"}


class Engine:
    """An in-memory database; rows are dicts of the columns that matter."""

    def __init__(self) -> None:
        self._connection = chdb.connect(":memory:")
        for statement in ("DROP DATABASE IF EXISTS hitstream", "CREATE DATABASE hitstream", "USE hitstream"):
            self._connection.query(statement)
        for file in sorted((Path(schemas.__file__).parent / "clickhouse").glob("*.sql")):
            for statement in re.sub(r"(?m)^\s*--.*$", "", file.read_text(encoding="utf-8")).split(";\n"):
                if statement.strip():
                    self._connection.query(statement)

    def close(self) -> None:
        self._connection.close()

    def replace(self, rows: Iterable[Mapping[str, object]], parts: int = 3) -> None:
        """Make `rows` all that there is, in some insert blocks, so that no answer leans on one sorted part."""
        for table in ("events", "session_parts", "session_hours"):
            self._connection.query(f"TRUNCATE TABLE {table}")
        kept = list(rows)
        for part in range(parts):
            lines = "\n".join(json.dumps(row) for row in kept[part::parts])
            if lines:
                self._connection.query(f"INSERT INTO events SETTINGS async_insert=0 FORMAT JSONEachRow\n{lines}")

    def command(self, sql: str) -> None:
        self._connection.query(sql)

    def count_hours(self) -> None:
        """Count sessions beforehand, as the view does every ten minutes."""
        for statement in ("SYSTEM REFRESH VIEW session_hours_mv", "SYSTEM WAIT VIEW session_hours_mv"):
            self._connection.query(statement)

    def number(self, sql: str) -> int:
        return int(self._connection.query(sql, "TSV").bytes())

    def query_text(self, sql: str, fmt: str, parameters: Mapping[str, object]) -> bytes:
        return self._connection.query(sql, fmt, params={k: _bound(v) for k, v in parameters.items()}).bytes()


def _bound(value: object) -> str:
    """Return a parameter as ClickHouse reads it: escaped as in TSV, an array of strings in its own notation."""
    if isinstance(value, list):
        return "[" + ",".join("'" + item.replace("\\", "\\\\").replace("'", "\\'") + "'" for item in value) + "]"
    return str(value).replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n")
