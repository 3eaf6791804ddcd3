"""The cluster form of the migrations: golden engines, statements refused, and the real engine over local shards."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from consumers.clickhouse_client import ClickHouse, cluster_settings
from consumers.clickhouse_store import ClickHouseStore
from infra.cluster_ddl import WINDOW_S, clustered, everywhere
from infra.migrate import _TABLE, DIRECTORY, migrate, read, set_durability
from schemas.errors import FatalError
from schemas.settings import load
from schemas.settings_error import SettingsError

PATH = "'/clickhouse/tables/{shard}/{database}/{table}', '{replica}'"
WINDOW = f"replicated_deduplication_window = 100000, replicated_deduplication_window_seconds = {WINDOW_S}"
SPEND_KEY = "cityHash64(site, day, channel, utm_source, utm_medium, utm_campaign, currency)"
SESSION_KEY = "cityHash64(site, session_start, visitor_id, session_id)"
TABLES = {  # name: (replicated engine, sharding key)
    "events": (f"ReplicatedMergeTree({PATH})", "log_partition"),
    "session_parts": (f"ReplicatedAggregatingMergeTree({PATH})", SESSION_KEY),
    "batches": (f"ReplicatedMergeTree({PATH})", "log_partition"),
    "rejected": (f"ReplicatedMergeTree({PATH})", "log_partition"),
    "ad_spend": (f"ReplicatedReplacingMergeTree({PATH}, imported_at)", SPEND_KEY),
}


def statements(cluster="c", database="d"):
    for migration in read(DIRECTORY):
        for statement in migration.statements:
            yield statement, clustered(statement, cluster, database)


def test_every_table_is_replicated_in_its_shard_and_distributed_over_all():
    made = {one.split()[5]: (one, tuple(many)) for one, many in statements() if one.startswith("CREATE TABLE")}
    assert made.keys() >= TABLES.keys()
    for name, (one, (local, over)) in made.items():
        engine, key = TABLES.get(name, (None, None))
        assert local.startswith(f"CREATE TABLE IF NOT EXISTS {name}_local ON CLUSTER 'c'\n(")
        assert f"ENGINE = {engine}\n" in local if engine else "ENGINE = Replicated" in local
        assert local.endswith(f"SETTINGS {WINDOW}")
        assert "non_replicated" not in local
        columns = slice(one.index("("), one.index("\nENGINE"))
        assert one[columns] in local  # the columns are untouched
        start = f"CREATE TABLE IF NOT EXISTS {name} ON CLUSTER 'c' AS {name}_local ENGINE = Distributed("
        assert over.startswith(f"{start}'c', 'd', '{name}_local', {key or ''}")


def test_every_statement_runs_on_the_whole_cluster_and_no_view_reads_one_shard():
    for one, many in statements():
        if one.startswith("INSERT"):
            assert many == [f"{one}, parallel_distributed_insert_select = 2"]
            continue
        assert all(" ON CLUSTER 'c'" in text for text in many)
        if one.startswith(("CREATE VIEW", "CREATE OR REPLACE VIEW")):
            assert many[0].replace(" ON CLUSTER 'c'", "").replace("GLOBAL ", "") == one
            assert many[0].count("IN (SELECT") == many[0].count("GLOBAL IN (SELECT") + many[0].count(
                "GLOBAL NOT IN (SELECT"
            )
            assert "_local" not in many[0]


def test_the_materialized_view_stays_in_its_shard():
    view, counts = [many[0] for one, many in statements() if one.startswith("CREATE MATERIALIZED VIEW")]
    assert "session_parts_mv ON CLUSTER 'c' TO session_parts_local AS" in view
    assert "\nFROM events_local AS events\n" in view
    assert "session_hours_mv ON CLUSTER 'c' REFRESH EVERY 10 MINUTE APPEND TO session_hours AS" in counts
    assert "_local" not in counts, "what is refreshed reads and writes all shards"
    (changed,) = clustered("ALTER TABLE v MODIFY QUERY SELECT ts FROM events WHERE ts > 0", "c", "d")
    assert changed == "ALTER TABLE v ON CLUSTER 'c' MODIFY QUERY SELECT ts FROM events_local AS events WHERE ts > 0"


def test_a_view_is_renamed_on_every_host():
    assert clustered("RENAME TABLE IF EXISTS v TO w", "c", "d") == ["RENAME TABLE IF EXISTS v TO w ON CLUSTER 'c'"]


def test_the_table_of_migrations_is_whole_on_every_host():
    text = everywhere(_TABLE, "c")
    path = "'/clickhouse/tables/everywhere/{database}/{table}', '{shard}-{replica}'"
    assert f"ENGINE = ReplicatedReplacingMergeTree({path}, applied_at)\n" in text
    assert "migrations ON CLUSTER 'c'\n" in text


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("ALTER TABLE t ADD COLUMN IF NOT EXISTS a UInt8 AFTER b", ["t_local ON CLUSTER 'c'", "t ON CLUSTER 'c'"]),
        ("ALTER TABLE t ADD INDEX i (f(a, b)) TYPE set(8), MODIFY SETTING x = 1", ["t_local ON CLUSTER 'c'"]),
    ],
)
def test_a_column_is_altered_in_both_tables_an_index_in_the_local_one(statement, expected):
    assert clustered(statement, "c", "d") == [statement.replace(" t ", f" {name} ") for name in expected]


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("DROP TABLE IF EXISTS t", "no form for a cluster"),
        ("CREATE TABLE t (x UInt8) ENGINE = MergeTree ORDER BY x", "no form for a cluster"),
        ("CREATE TABLE IF NOT EXISTS t AS u", "name \\(columns\\)"),
        ("CREATE TABLE IF NOT EXISTS t (x UInt8) ENGINE = Memory ORDER BY x", "only MergeTree"),
        ("CREATE TABLE IF NOT EXISTS t (x UInt8) ENGINE = ReplicatedMergeTree ORDER BY x", "only MergeTree"),
        ("CREATE TABLE IF NOT EXISTS t (x UInt8) ENGINE = MergeTree", "ORDER BY"),
        ("CREATE TABLE IF NOT EXISTS t (x UInt8 ENGINE = MergeTree", "not closed"),
        ("CREATE MATERIALIZED VIEW IF NOT EXISTS v ENGINE = MergeTree AS SELECT 1 FROM t", "target table"),
        ("CREATE MATERIALIZED VIEW IF NOT EXISTS v TO t AS SELECT 1 FROM (SELECT 1)", "not subqueries"),
        ("ALTER TABLE t ADD COLUMN a UInt8, ADD INDEX i a TYPE set(8)", "not both"),
        ("CREATE VIEW IF NOT EXISTS v AS SELECT 'open", "not closed"),
        ("INSERT INTO t SELECT x FROM u", "is filled from one"),
        ("INSERT INTO t VALUES (1) SETTINGS insert_deduplicate = 0", "is filled from one"),
        ("INSERT INTO t SELECT max(x) FROM u GROUP BY y SETTINGS insert_deduplicate = 0", "is filled from one"),
    ],
)
def test_what_has_no_form_for_a_cluster_is_refused(statement, message):
    with pytest.raises(FatalError, match=message):
        clustered(statement, "c", "d")


def test_the_engine_takes_every_statement_and_the_views_hold_over_distributed_tables(tmp_path):
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": f"{root}:{root / 'tests'}"}
    command = [sys.executable, "-W", "error", "-m", "support.local_cluster", str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout)
    assert found["parsed"] == 2 * sum(len(many) for _, many in statements())
    rows = {"events_local": 3, "events": 3, "counted_events": 2, "uncounted_events": 1}
    one_session = {"sessions": 1, "counted_sessions": 1}
    # An insert repeated under its token through the Distributed table adds nothing, not in the view's target either.
    assert found["one"] == {"rows": {**rows, **one_session}, "events": {"sessions": 3, "counted_sessions": 2}}
    # A session's rows lie in one shard; here they lie in both, and each tells of it.
    assert found["two"] == {
        "rows": {**rows, "events": 6, "counted_events": 4, "sessions": 2, "counted_sessions": 1},
        "events": {"sessions": 6, "counted_sessions": 4},
    }
    assert "FROM one_db.events_local AS events WHERE visitor_id != 0" in found["view"]  # what the store edits
    assert found["subquery"]["global"] == "6"  # as cluster_settings asks for
    assert "Code: 288" in found["subquery"]["deny"]
    alike = {"parts": 1, "sessions": 1, "is_shard": True}
    one = {"counted": ["1", "3", "0", "2"], "held": ["a", "1", "1", "3", "0", "2"], "left": ["1", "2"]}
    two = {"counted": ["1", "6", "0", "4"], "held": ["a", "1", "1", "6", "0", "4"], "left": ["2", "4"]}
    assert found["store"] == {"one": alike | one, "two": alike | two}
    # Each shard has filled its own table from its own, at once; a session's purchases are a set.
    assert found["filled"] == {
        "one": {"new_rows": 1, "purchases": ["2", "2"]},
        "two": {"new_rows": 2, "purchases": ["2", "2"]},
    }


class Cluster:
    """Remembers commands; its tables are as `engine` says, and `hosts` of two hosts have them."""

    database = "hitstream"

    def __init__(self, engine="", hosts=2, applied=()):
        self.ran = []
        self.engine, self.hosts, self.applied = engine, hosts, applied

    def command(self, sql, *, database=None):
        self.ran.append(sql.strip())

    def query(self, sql, parameters=None):
        if "SELECT engine" in sql:
            return [(self.engine,)] if self.engine else []
        if "FROM system.clusters" in sql:
            return [(2,)]
        if "clusterAllReplicas('c', system.tables)" in sql:
            return [(self.hosts,)]
        if "FROM migrations" in sql:
            return list(self.applied)
        return [("events_local", 0)]


APPLIED = [(migration.number, migration.sha256) for migration in read(DIRECTORY)]
NAMES = [migration.name for migration in read(DIRECTORY)]


def test_migrating_a_cluster_runs_its_form_once_and_again_where_a_host_has_no_tables():
    fresh = Cluster()
    assert migrate(fresh, cluster="c") == NAMES
    assert fresh.ran[0] == "CREATE DATABASE IF NOT EXISTS hitstream ON CLUSTER 'c'"
    expected = [text for _, many in statements(database="hitstream") for text in many]
    assert [text for text in fresh.ran if "INTO migrations" not in text][2:] == expected
    assert migrate(Cluster("ReplicatedReplacingMergeTree", applied=APPLIED), cluster="c") == []
    assert migrate(Cluster("ReplicatedReplacingMergeTree", hosts=1, applied=APPLIED), cluster="c") == NAMES


def test_a_single_server_gets_the_files_as_they_are():
    single = Cluster()
    migrate(single)
    ran = [text for text in single.ran if "INTO migrations" not in text]
    assert ran == ["CREATE DATABASE IF NOT EXISTS hitstream", _TABLE.strip(), *(one for one, _ in statements())]


@pytest.mark.parametrize(
    ("engine", "cluster", "made"),
    [("ReplacingMergeTree", "c", "a single server"), ("ReplicatedReplacingMergeTree", "", "a cluster")],
)
def test_tables_of_the_other_kind_are_not_touched(engine, cluster, made):
    client = Cluster(engine, applied=APPLIED)
    with pytest.raises(FatalError, match=f"were made for {made}"):
        migrate(client, cluster=cluster)
    assert len(client.ran) == 1


def test_durability_is_set_on_every_replica():
    client = Cluster()
    set_durability(client, power_loss=True, cluster="c")
    assert client.ran[0].startswith("ALTER TABLE `events_local` ON CLUSTER 'c' MODIFY SETTING fsync_after_insert = 1")


def test_who_loads_waits_for_a_quorum_and_reports_do_not():
    exact = cluster_settings(120.0, exact=True)
    assert (exact["insert_quorum"], exact["insert_quorum_parallel"]) == ("auto", 0)
    assert (exact["select_sequential_consistency"], exact["distributed_foreground_insert"]) == (1, 1)
    assert exact["insert_quorum_timeout"] < 120_000  # the server answers before the client gives up
    report = cluster_settings(120.0, exact=False)
    assert report["distributed_product_mode"] == "global"
    assert not {"insert_quorum", "select_sequential_consistency"} & report.keys()


def test_the_settings_are_known_to_the_engine_and_a_single_server_gets_none(clickhouse_url, fresh_database):
    names = list(cluster_settings(120.0, exact=True))
    client = ClickHouse(clickhouse_url, database=fresh_database)
    known = client.query("SELECT name FROM system.settings WHERE name IN {names:Array(String)}", {"names": names})
    assert {row[0] for row in known} == set(names)
    assert client._settings() == {"async_insert": 0, "database": fresh_database}
    client.close()


def test_sessions_are_mended_from_every_shard_and_in_that_of_their_events():
    class Client(Cluster):
        def query(self, sql, parameters=None):
            if "as_select" in sql:
                return [("SELECT 1 FROM hitstream.events_local AS events WHERE visitor_id != 0",)]
            if "FROM session_parts" in sql:
                return [(7, 2, 0, 0)]
            return [("shop", 5, 7, 1, 0, 0, 2)] if len(self.ran) == 0 else [("shop", 5, 7, 2, 0, 0, 2)]

        def query_columns(self, sql):
            self.ran.append(sql)
            return {"site": ["shop"], "visitor_id": [5], "session_id": [7], "events": [1]}

        def insert(self, table, columns, *, token, shard):
            self.ran.append((table, columns["events"], token, shard))

    class Batch:
        partition, first, last, token = 3, 0, 2, "hits:3:0-2"

    client = Client()
    ClickHouseStore(client, "c")._mend_sessions(Batch())
    assert client.ran == [
        (
            "SELECT 1 FROM hitstream.events AS events WHERE visitor_id != 0 "
            "AND (site, visitor_id, session_id) IN (('shop',5,7))"
        ),
        ("session_parts", [2**64 - 1], "hits:3:0-2:sessions-0", 2),
    ]


def test_a_clusters_name_cannot_carry_sql():
    with pytest.raises(SettingsError, match="clickhouse_cluster"):
        load(clickhouse_cluster="c'; DROP TABLE events --")
