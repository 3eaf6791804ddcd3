"""Migrations: each file once, resumed after a crash, changed ones refused."""

from contextlib import closing
from uuid import uuid4

import pytest
from support.clickhouse import embedded

from consumers.clickhouse_client import ClickHouse
from infra.clickhouse_server.lexer import LexError, split_statements
from infra.migrate import DIRECTORY, migrate, read, set_durability
from infra.reports import ReportOptions, run
from schemas.errors import FatalError, RetryError

# Of each migration that was published, how its digest begins. An installation that applied it knows it, and does not
# start when the file of that number is another one.
PUBLISHED = {
    "0001_events.sql": "c73b978d89584bba",
    "0002_counted_events.sql": "5cd237b6d29897e4",
    "0003_batch_rules.sql": "a556cdaca0ef0673",
    "0004_email_opens.sql": "e173995fcf74a642",
    "0005_report_layout.sql": "241e898b4c92bd99",
    "0006_session_hours.sql": "314df78f1a7bc490",
    "0007_fewer_merges.sql": "5ecec1dbda95ece7",
    "0008_merges_of_alike.sql": "2f0a2d36fab60c90",
    "0009_pages_of_sessions.sql": "98850d01a8f0e333",
    "0010_view_read_anew.sql": "84cef6cf4d11f61d",
    "0011_small_parts_compact.sql": "8bdeb11c386e2d55",
    "0012_larger_blocks.sql": "c56b517e4d134c88",
    "0013_purchases_of_sessions.sql": "95148336dba5775c",
}


class Recording:
    """A client that remembers what ran, and breaks at the statement number `fail_at`."""

    def __init__(self, client, fail_at=None):
        self.database = client.database
        self.ran = []
        self._client = client
        self._fail_at = fail_at

    def command(self, sql, *, database=None):
        if len(self.ran) == self._fail_at:
            raise RetryError("the server went away")
        self.ran.append(sql)
        self._client.command(sql, database=database)

    def query(self, sql, parameters=None):
        return self._client.query(sql, parameters)


def before(number, directory):
    """A directory with the migrations before that one."""
    for migration in read(DIRECTORY):
        if migration.number < number:
            (directory / migration.name).write_bytes((DIRECTORY / migration.name).read_bytes())
    return directory


@pytest.fixture
def client(clickhouse_url):
    """A client of a database that is not there yet."""
    made = ClickHouse(clickhouse_url, database=f"test_{uuid4().hex[:12]}")
    yield made
    made.command(f"DROP DATABASE IF EXISTS {made.database} SYNC", database="")
    made.close()


def test_the_real_files_are_applied_once_and_make_the_contracts_tables(client):
    names = [migration.name for migration in read(DIRECTORY)]
    assert migrate(client) == names
    assert migrate(client) == []
    tables = {row[0] for row in client.query("SELECT name FROM system.tables WHERE database = currentDatabase()")}
    assert {"events", "sessions", "batches", "rejected", "ad_spend", "migrations"} <= tables
    assert [row[0] for row in client.query("SELECT name FROM migrations ORDER BY number")] == names


def test_published_migrations_stay_as_they_were():
    digests = {migration.name: migration.sha256[:16] for migration in read(DIRECTORY)}
    assert digests.items() >= PUBLISHED.items()


def test_an_installation_with_compact_parts_gets_the_tables_of_a_fresh_one(client, tmp_path):
    migrate(client, before(12, tmp_path))
    assert "min_bytes_for_wide_part" in made(client, "events")
    assert migrate(client) == [migration.name for migration in read(DIRECTORY) if migration.number >= 12]
    found = made(client, "events")
    assert "min_bytes_for_wide_part" not in found
    assert "`ts` DateTime64(3, 'UTC') COMMENT 'event time, by the rule of ts_source' CODEC(T64, ZSTD(5))" in found
    for column in ("url_path", "url_query", "items", "value", "props"):
        assert f"`{column}` " in found
        definition = found.partition(f"`{column}` ")[2].partition(", `")[0]
        assert definition.endswith("CODEC(ZSTD(5)) SETTINGS (min_compress_block_size = 196608)")


def made(client, table):
    """The statement that would make a table as it is."""
    sql = "SELECT create_table_query FROM system.tables WHERE database = currentDatabase() AND name = {table:String}"
    return client.query(sql, {"table": table})[0][0]


def test_a_batch_repeated_after_a_restart_of_the_engine_that_migrated_adds_nothing(tmp_path):
    """An engine names a changed view's blocks otherwise until it restarts; migrations leave none in that state."""
    row = {"site": ["shop"], "visitor_id": [1], "session_id": [2]}
    counts = []
    for _ in range(2):
        with embedded(tmp_path) as server, closing(ClickHouse(server.url)) as client:
            migrate(client)
            client.insert("events", row, token="hits:0:0-0")
            counts += client.query("SELECT (SELECT count() FROM events), (SELECT sum(events) FROM session_parts)")
    assert counts == [(1, 1), (1, 1)]


def files(directory, **contents):
    for name, text in contents.items():
        (directory / f"{name[1:]}.sql").write_text(text)


def test_a_crash_between_statements_is_resumed(client, tmp_path):
    files(
        tmp_path,
        _0001_a="CREATE TABLE IF NOT EXISTS a (x UInt8) ENGINE = Memory; CREATE TABLE IF NOT EXISTS b AS a;",
        _0002_c="CREATE TABLE IF NOT EXISTS c AS a",
    )
    steps_to_second_file = 2 + 3  # database and table of migrations; two statements and a record
    for fail_at in range(steps_to_second_file + 1):
        broken = Recording(client, fail_at)
        with pytest.raises(RetryError):
            migrate(broken, tmp_path)
    assert migrate(client, tmp_path) == ["0002_c.sql"]
    assert client.query("SELECT number FROM migrations ORDER BY number") == [(1,), (2,)]


def test_a_changed_file_is_named_and_nothing_runs(client, tmp_path):
    files(tmp_path, _0001_a="CREATE TABLE IF NOT EXISTS a (x UInt8) ENGINE = Memory")
    migrate(client, tmp_path)
    files(tmp_path, _0001_a="CREATE TABLE IF NOT EXISTS a (y UInt8) ENGINE = Memory", _0002_b="CREATE TABLE b AS a")
    with pytest.raises(FatalError, match=r"0001_a\.sql was changed"):
        migrate(client, tmp_path)
    assert client.query("EXISTS TABLE b") == [(0,)]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ({"_1_a": "SELECT 1"}, "is named like"),
        ({"_0001_a": "SELECT 1", "_0001_b": "SELECT 1"}, "same number"),
        ({"_0001_a": "SELECT 'open"}, "not closed"),
        ({}, "no migrations"),
    ],
)
def test_unusable_directories_are_refused(tmp_path, names, message):
    files(tmp_path, **names)
    with pytest.raises(FatalError, match=message):
        read(tmp_path)


def test_a_databases_name_is_checked(tmp_path):
    class Named:
        database = "a; DROP DATABASE b"

    files(tmp_path, _0001_a="SELECT 1")
    with pytest.raises(FatalError, match="no name for a database"):
        migrate(Named(), tmp_path)


def test_durability_is_set_on_every_table_that_is_inserted_into(client):
    migrate(client)
    changed = set_durability(client, power_loss=True)
    assert {"events", "batches", "rejected", "session_parts"} <= set(changed)
    assert set_durability(client, power_loss=True) == []
    assert "fsync_after_insert = 1" in client.query("SHOW CREATE TABLE session_parts")[0][0]
    client.insert("events", {"site": ["a"], "received_at": [0]}, token="durable")
    assert set_durability(client, power_loss=False) == changed


@pytest.mark.parametrize(
    ("script", "statements"),
    [
        ("SELECT 1; SELECT 2;", ["SELECT 1", "SELECT 2"]),
        ("SELECT ';', 'it''s; ok', 'a\\'; b'; SELECT 2", ["SELECT ';', 'it''s; ok', 'a\\'; b'", "SELECT 2"]),
        ("-- a; b\nSELECT 1 -- c; d\n, 2; /* e; /* f; */ g; */ SELECT 3", ["SELECT 1 -- c; d\n, 2", "SELECT 3"]),
        ('SELECT `a;b`, "c;d";;; ', ['SELECT `a;b`, "c;d"']),
        ("# x; y\nSELECT 1", ["SELECT 1"]),
        ("-- nur Kommentar: größer;\n", []),
        ("", []),
    ],
)
def test_scripts_are_cut_outside_strings_and_comments(script, statements):
    assert split_statements(script) == statements


@pytest.mark.parametrize("script", ["SELECT 'a", "SELECT `a", "/* a", "SELECT $$a;b$$", "SELECT 1\u00a0;", "SELECT \0"])
def test_scripts_that_cannot_be_cut_for_certain_are_refused(script):
    with pytest.raises(LexError):
        split_statements(script)


def test_the_report_layout_keeps_the_rows_that_are_there(client, tmp_path):
    """Rows loaded before the layout are found after it, and so are their bots, with server events and without."""
    migrate(client, before(5, tmp_path))
    columns = {
        "site": ["a", "a", "b"],
        "visitor_id": [1, 1, 1],
        "session_id": [5, 6, 5],
        "is_bot": [1, 0, 0],
        "ts": [1_767_225_600_123, 1_767_225_600_123, 0],
        "received_at": [1_767_225_600_124, 1_767_225_600_124, 0],
        "title": ["größer", "", "x"],
        "log_offset": [2**40, 3, 0],
    }
    client.insert("events", columns, token="before")
    query = f"SELECT {', '.join(columns)} FROM events ORDER BY site, session_id"
    loaded = client.query(query)
    bots = "SELECT site, visitor_id, session_id FROM bot_sessions ORDER BY ALL"
    assert client.query(bots) == [("a", 1, 5)]

    names = migrate(client)
    assert names[0] == "0005_report_layout.sql"
    assert client.query(query) == loaded
    assert client.query(bots) == [("a", 1, 5)]
    late = {key: values[:1] for key, values in columns.items()} | {"session_id": [6], "source": ["server"]}
    client.insert("events", late | {"event_id": ["x"]}, token="after")
    assert client.query(bots) == [("a", 1, 5), ("a", 1, 6)]
    assert client.query("SELECT count() FROM events") == [(4,)]
    codecs = client.query("SELECT argMax(default_compression_codec, max_block_number) FROM system.parts WHERE active "
                          "AND database = currentDatabase() AND table = 'events'")  # fmt: skip
    assert codecs == [("ZSTD(3)",)]


def test_sessions_counted_before_their_pages_were_columns_keep_them_and_go_on(client, tmp_path):
    """Also where events of one time stand on both sides: the former are first, as their offsets are smaller."""
    migrate(client, before(9, tmp_path))
    at_ms = 1_767_225_600_000

    def insert(first, pages):
        client.insert("events", {
            "site": ["a"] * 2, "visitor_id": [1] * 2, "session_id": [5] * 2, "session_start": [at_ms] * 2,
            "ts": [at_ms, at_ms + 60_000], "received_at": [at_ms] * 2, "event_name": ["PageView"] * 2,
            "log_offset": [first, first + 1], "url_host": ["a.example"] * 2, "url_path": pages,
            "ref_host": ["r.example"] * 2,
        }, token=str(first))  # fmt: skip

    names = "events, first_ts, duration_s, is_bounce, entry_host, entry_path, entry_ref_host, exit_path"
    query = f"SELECT {names} FROM sessions"
    insert(0, ["/entry", "/middle"])
    counted = client.query(query)
    assert counted[0][4:] == ("a.example", "/entry", "r.example", "/middle")
    migrate(client)
    assert client.query(query) == counted
    insert(2, ["/later", "/exit"])
    both = [(4, *counted[0][1:7], "/exit")]
    assert client.query(query) == both
    client.command("OPTIMIZE TABLE session_parts FINAL")
    assert client.query(query) == both
    assert client.query("SELECT count() FROM session_parts") == [(1,)]


def test_purchases_from_before_sessions_kept_them_are_listed_and_so_are_those_that_came_between(client, tmp_path):
    migrate(client, before(13, tmp_path))
    columns = {
        "site": ["a", "a", "b", "a"], "visitor_id": [1, 1, 1, 0], "session_id": [5, 5, 6, 0],
        "ts": [1_767_225_600_123, 1_767_225_600_124, 0, 0], "received_at": [0] * 4, "log_offset": [0, 1, 2, 3],
        "event_name": ["Purchase"] * 4, "order_id": ["x", "x", "", ""], "currency": ["EUR"] * 4, "value": ["9.99"] * 4,
    }  # fmt: skip
    client.insert("events", columns, token="before")
    of_sessions = "SELECT * EXCEPT (entry_path) FROM sessions ORDER BY site"
    sessions = client.query(of_sessions)
    rows = "SELECT DISTINCT site, visitor_id, session_id, ts, log_offset, order_id, currency, value FROM "
    expected = client.query(f"{rows} events WHERE visitor_id != 0 ORDER BY log_offset")
    assert len(expected) == 3

    def check():
        assert client.query(f"{rows} listed_purchases ORDER BY log_offset") == expected
        assert client.query(of_sessions) == sessions
        by_site = {site: run("attribution", client, ReportOptions(site=site)) for site in "ab"}
        assert {site: [row["conversions"] for row in found] for site, found in by_site.items()} == {"a": [1], "b": [1]}

    (migration,) = [migration for migration in read(DIRECTORY) if migration.number == 13]
    for statement in migration.statements:
        if not statement.startswith("INSERT"):  # as with an insert that the former view took, and that ended after it
            client.command(statement)
    check()
    assert migrate(client)[0] == migration.name
    check()
    client.command("INSERT INTO session_parts SELECT * FROM session_parts WHERE purchases = 0")
    check()
    client.command("OPTIMIZE TABLE session_parts FINAL")
    assert client.query("SELECT site, purchases, length(conversions) FROM session_parts") == [("a", 2, 2), ("b", 1, 1)]
    check()
