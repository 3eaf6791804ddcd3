"""Migrations: the numbered `.sql` files of `schemas/clickhouse`, each applied once, statement by statement.

Promise: after `migrate` every file is applied and recorded in `<database>.migrations`. A crash between two statements
heals itself: statements are idempotent (IF NOT EXISTS), a file is recorded after its last one, and the next run begins
it again. A file that was changed after it was applied is an error that names it, before anything is applied.

With the name of a ClickHouse cluster the same files make its replicated and distributed tables (`cluster_ddl.py`). A
host that joined later has no tables: then all files are applied again, on every host. Tables made for the one are never
taken for the other.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import schemas
from infra.clickhouse_server.lexer import LexError, quote, split_statements
from infra.cluster_ddl import LOCAL, clustered, everywhere
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
_ENGINE = "SELECT engine FROM system.tables WHERE database = {database:String} AND name = 'migrations'"
_HOSTS = "SELECT count() FROM system.clusters WHERE cluster = {cluster:String}"
_HOSTS_WITH_TABLES = """
SELECT count() FROM clusterAllReplicas({cluster}, system.tables) WHERE database = {database} AND name = {table}"""


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


def migrate(client: Client, directory: Path = DIRECTORY, cluster: str = "") -> list[str]:
    """Create the client's database and apply what is not applied yet; return the names of the files applied now.

    `cluster` names a cluster of the server's `remote_servers`; "": a single server. Raises FatalError for a changed,
    doubled or unreadable file, for tables of the other kind, and what the client raises.
    """
    migrations = read(directory)
    if not _DATABASE.fullmatch(client.database):
        raise FatalError(f"{client.database!r} is no name for a database")
    on_cluster = f" ON CLUSTER {quote(cluster)}" if cluster else ""
    client.command(f"CREATE DATABASE IF NOT EXISTS {client.database}{on_cluster}", database="")
    _check_kind(client, cluster)
    client.command(everywhere(_TABLE, cluster) if cluster else _TABLE)
    rows = client.query("SELECT number, argMax(sha256, applied_at) FROM migrations GROUP BY number")
    applied = {int(number): str(sha256) for number, sha256 in rows}
    for migration in migrations:
        if applied.get(migration.number, migration.sha256) != migration.sha256:
            raise FatalError(f"{migration.name} was changed after it was applied; put the change into a new file")
    again = bool(cluster and applied) and not _is_on_every_host(client, cluster)
    fresh = [migration for migration in migrations if again or migration.number not in applied]
    for migration in fresh:
        for statement in migration.statements:
            for command in clustered(statement, cluster, client.database) if cluster else [statement]:
                client.command(command)
        values = f"({migration.number}, '{migration.name}', '{migration.sha256}')"
        client.command(f"INSERT INTO migrations (number, name, sha256) VALUES {values}")  # noqa: S608  a checked file name
    return [migration.name for migration in fresh]


def _check_kind(client: Client, cluster: str) -> None:
    """Raise FatalError where the database holds tables of a single server, and a cluster is meant, or the reverse."""
    rows = client.query(_ENGINE, {"database": client.database})
    if rows and str(rows[0][0]).startswith("Replicated") != bool(cluster):
        made, wanted = ("a cluster", "a single server") if not cluster else ("a single server", "a cluster")
        raise FatalError(
            f"the tables of database {client.database} were made for {made}, but HITSTREAM_CLICKHOUSE_CLUSTER is "
            f"{quote(cluster)}, which asks for {wanted}: correct the setting, or begin with an empty database"
        )


def _is_on_every_host(client: Client, cluster: str) -> bool:
    """Return whether each host of the cluster has the table `events`; a host that joined later has not."""
    hosts = int(client.query(_HOSTS, {"cluster": cluster})[0][0])
    names = {"cluster": quote(cluster), "database": quote(client.database), "table": quote(f"events{LOCAL}")}
    return int(client.query(_HOSTS_WITH_TABLES.format(**names))[0][0]) >= hosts


def set_durability(client: Client, *, power_loss: bool, cluster: str = "") -> list[str]:
    """Make inserts survive power loss (fsync before the answer), or a killed process only; return the tables changed.

    ClickHouse has this as a setting of each table, and of each replica; views' targets are tables too.
    """
    on_cluster = f" ON CLUSTER {quote(cluster)}" if cluster else ""
    rows = client.query(
        "SELECT name, create_table_query LIKE '%fsync_after_insert = 1%' FROM system.tables "
        "WHERE database = {database:String} AND engine LIKE '%MergeTree' ORDER BY name",
        {"database": client.database},
    )
    changed = [str(name) for name, durable in rows if bool(durable) != power_loss]
    for name in changed:
        client.command(
            f"ALTER TABLE `{name}`{on_cluster} MODIFY SETTING fsync_after_insert = {int(power_loss)}, "
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
