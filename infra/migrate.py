"""Migrations: the numbered `.sql` files of `schemas/clickhouse`, each applied once, statement by statement.

Promise: after `migrate` every file is applied and recorded in `<database>.migrations`. A crash between two statements
heals itself: statements are idempotent (IF NOT EXISTS), a file is recorded after its last one, and the next run begins
it again. A file that was changed after it was applied is an error that names it, before anything is applied.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import schemas
from infra.clickhouse_server.lexer import LexError, split_statements
from schemas.errors import FatalError

DIRECTORY = Path(schemas.__file__).parent / "clickhouse"
_FILE = re.compile(r"(\d{4})_[a-z0-9_]+\.sql")
_DATABASE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
_TABLE = """
CREATE TABLE IF NOT EXISTS migrations
(
    number     UInt32,
    name       String,
    sha256     String,
    applied_at DateTime64(3, 'UTC') DEFAULT now64(3)
)
ENGINE = ReplacingMergeTree(applied_at)
ORDER BY number"""


class Client(Protocol):
    """What migrations need of ClickHouse; `consumers.clickhouse_client.ClickHouse` has it."""

    @property
    def database(self) -> str:
        """The database that statements run in."""

    def command(self, sql: str, *, database: str | None = None) -> None:
        """Run a statement in the client's database, or in another, or in none ("")."""

    def query(self, sql: str, parameters: Mapping[str, Any] | None = None) -> Sequence[Sequence[Any]]:
        """Return the rows of a query."""


class Migration(NamedTuple):
    """One file: its number, file name, content hash and statements."""

    number: int
    name: str
    sha256: str
    statements: tuple[str, ...]


def migrate(client: Client, directory: Path = DIRECTORY) -> list[str]:
    """Create the client's database and apply what is not applied yet; return the names of the files applied now.

    Raises FatalError for a changed, doubled or unreadable file, and what the client raises.
    """
    migrations = read(directory)
    if not _DATABASE.fullmatch(client.database):
        raise FatalError(f"{client.database!r} is no name for a database")
    client.command(f"CREATE DATABASE IF NOT EXISTS {client.database}", database="")
    client.command(_TABLE)
    rows = client.query("SELECT number, argMax(sha256, applied_at) FROM migrations GROUP BY number")
    applied = {int(number): str(sha256) for number, sha256 in rows}
    for migration in migrations:
        if applied.get(migration.number, migration.sha256) != migration.sha256:
            raise FatalError(f"{migration.name} was changed after it was applied; put the change into a new file")
    fresh = [migration for migration in migrations if migration.number not in applied]
    for migration in fresh:
        for statement in migration.statements:
            client.command(statement)
        values = f"({migration.number}, '{migration.name}', '{migration.sha256}')"
        client.command(f"INSERT INTO migrations (number, name, sha256) VALUES {values}")  # noqa: S608  a checked file name
    return [migration.name for migration in fresh]


def set_durability(client: Client, *, power_loss: bool) -> list[str]:
    """Make inserts survive power loss (fsync before the answer), or a killed process only; return the tables changed.

    ClickHouse has this as a setting of each table; views' targets are tables too.
    """
    rows = client.query(
        "SELECT name, create_table_query LIKE '%fsync_after_insert = 1%' FROM system.tables "
        "WHERE database = {database:String} AND engine LIKE '%MergeTree' ORDER BY name",
        {"database": client.database},
    )
    changed = [str(name) for name, durable in rows if bool(durable) != power_loss]
    for name in changed:
        client.command(
            f"ALTER TABLE `{name}` MODIFY SETTING fsync_after_insert = {int(power_loss)}, "
            f"fsync_part_directory = {int(power_loss)}"
        )
    return changed


def read(directory: Path) -> list[Migration]:
    """Return the migrations of a directory in the order of their numbers. Raises FatalError."""
    found: dict[int, Migration] = {}
    for path in sorted(directory.glob("*.sql")):
        match = _FILE.fullmatch(path.name)
        if match is None:
            raise FatalError(f"{path}: a migration is named like 0001_events.sql")
        number = int(match.group(1))
        if number in found:
            raise FatalError(f"{path.name} and {found[number].name} have the same number")
        content = path.read_bytes()
        try:
            statements = tuple(split_statements(content.decode()))
        except (LexError, UnicodeDecodeError) as error:
            raise FatalError(f"{path.name}: {error}") from None
        found[number] = Migration(number, path.name, hashlib.sha256(content).hexdigest(), statements)
    if not found:
        raise FatalError(f"no migrations in {directory}")
    return list(found.values())
