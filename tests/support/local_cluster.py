"""The clustered DDL in the real engine: a program that runs it over clusters whose shards are all this process.

`python -m support.local_cluster ONE_DIRECTORY` prints one JSON object. There is no Keeper here, so `ON CLUSTER` and
`Replicated` are taken out before a statement runs; as they stand, all statements are parsed. On the cluster `two` both
shards are the same local tables: reading shows every row twice, and the engine treats it as really distributed.
"""

import json
import re
import sys
from pathlib import Path

import chdb

from consumers import clickhouse_store
from consumers.clickhouse_store import ClickHouseStore
from infra.cluster_ddl import WINDOW_S, clustered
from infra.migrate import DIRECTORY, read

SHARD = "<shard><replica><host>127.0.0.1</host><port>9000</port></replica></shard>"
CONFIG = """<clickhouse><tcp_port>9000</tcp_port><remote_servers><one>{0}</one><two>{0}{0}</two></remote_servers>
</clickhouse>"""
REPLICATED = re.compile(r"Replicated(\w+)\('[^']+', '[^']+'(?:, (\w+))?\)")
COLUMNS = (
    "site, event_name, event_id, source, ts, received_at, visitor_id, session_id, session_start, "
    "spool_id, spool_seq, log_partition, log_offset"
)
AT = "'2026-01-01 00:00:00'"
ROWS = (
    f"('a', 'Purchase', 'x', 'pixel', {AT}, {AT}, 1, 1, {AT}, 1, 1, 3, 0), "
    f"('a', 'Purchase', 'x', 'server', {AT}, {AT}, 1, 1, {AT}, 1, 2, 3, 1), "
    f"('a', 'PageView', '', 'pixel', '2026-01-01 00:01:00', {AT}, 1, 1, {AT}, 1, 3, 3, 2)"
)
INSERT = (
    f"INSERT INTO events ({COLUMNS}) SETTINGS async_insert = 0, distributed_foreground_insert = 1, "
    "deduplicate_blocks_in_dependent_materialized_views = 1, insert_deduplication_token = 'hits:3:0-2' VALUES "
)
TABLES = ("events_local", "events", "counted_events", "uncounted_events", "sessions", "counted_sessions")


def as_single(statement, cluster):
    """A statement without what needs a Keeper."""
    statement = statement.replace(f" ON CLUSTER '{cluster}'", "")
    statement = REPLICATED.sub(lambda match: match[1] + (f"({match[2]})" if match[2] else ""), statement)
    seconds = f", replicated_deduplication_window_seconds = {WINDOW_S}"
    return statement.replace(seconds, "").replace(" replicated_dedup", " non_replicated_dedup")


def main(directory):
    config = Path(directory, "config.xml")
    config.write_text(CONFIG.format(SHARD))
    engine = chdb.connect(f"{directory}/data?config-file={config}")

    def query(sql):
        return str(engine.query(sql, "TSV")).strip()

    found = {"parsed": 0}
    for cluster in ("one", "two"):
        query(f"CREATE DATABASE {cluster}_db")
        query(f"USE {cluster}_db")
        for migration in read(DIRECTORY):
            for statement in migration.statements:
                for command in clustered(statement, cluster, f"{cluster}_db"):
                    found["parsed"] += bool(query(f"EXPLAIN AST {command}"))
                    query(as_single(command, cluster))
        query(INSERT + ROWS)
        query(INSERT + ROWS)
        counts = {name: int(query(f"SELECT count() FROM {name}")) for name in TABLES}
        events = {name: int(query(f"SELECT sum(events) FROM {name}")) for name in ("sessions", "counted_sessions")}
        found[cluster] = {"rows": counts, "events": events}
    found["view"] = query("SELECT as_select FROM system.tables WHERE name = 'session_parts_mv' AND database = 'one_db'")
    found["subquery"] = subquery(query)
    found["store"] = {cluster: of_the_store(query, cluster) for cluster in ("one", "two")}
    found["filled"] = {cluster: filled(query, cluster) for cluster in ("one", "two")}
    engine.close()
    print(json.dumps(found))


def filled(query, cluster):
    """The statements that fill a table from another once more, and what a session holds then."""
    query(f"USE {cluster}_db")
    rows = "SELECT count() FROM session_parts_local"
    before = int(query(rows))
    for migration in read(DIRECTORY):
        for statement in migration.statements:
            if statement.startswith("INSERT"):
                (command,) = clustered(statement, cluster, f"{cluster}_db")
                query(command)
    purchases = query("SELECT purchases, length(conversions) FROM session_parts_local FINAL").split("\t")
    return {"new_rows": int(query(rows)) - before, "purchases": purchases}


def subquery(query):
    """What a sharded table in a subquery of ours does in each mode."""
    sql = (
        "SELECT count() FROM two_db.events WHERE log_partition = 3 AND session_id IN "
        "(SELECT session_id FROM two_db.events WHERE visitor_id != 0) SETTINGS distributed_product_mode = "
    )
    answers = {"global": query(sql + "'global'")}
    try:
        query(sql + "'deny'")
    except RuntimeError as error:
        answers["deny"] = str(error)
    return answers


def of_the_store(query, cluster):
    """What a worker's store gets there: parts of the fullest partition, a partition's sessions, and sums to compare.

    Last a number is taken off a sum, in the shard that the events are said to lie in.
    """

    def asked(text):
        return re.sub(r"\{(\w+):[\w()]+\}", lambda match: place[match[1]], text)

    query(f"USE {cluster}_db")
    parts = query(ClickHouseStore(None, cluster).count_parts.replace("{database:String}", f"'{cluster}_db'"))
    text = clickhouse_store._SESSIONS + clickhouse_store._OF_PARTITIONS
    place = {"ids": "9", "since": "0", "partitions": "[3]", "befores": "[9]", "ended_after": "[1]"}
    place |= {"partition": "3", "first": "0", "last": "2"}
    sessions = query(asked(text))
    product = " SETTINGS distributed_product_mode = 'global'"
    counted, held = (
        query(asked(one) + product).split("\t")
        for one in (clickhouse_store._COUNTED_SESSIONS, clickhouse_store._HELD_SESSIONS)
    )
    shard = int(held.pop())
    query(
        "INSERT INTO session_parts (site, visitor_id, session_id, session_start, first_ts, last_ts, events) SETTINGS "
        f"distributed_foreground_insert = 1, insert_shard_id = {shard} "
        f"VALUES ('a', 1, 1, {AT}, {AT}, {AT}, {2**64 - 1})"
    )
    left = query("SELECT count(), sum(events) FROM sessions").split("\t")
    return {
        "parts": int(parts),
        "sessions": sessions.count("\n") + 1,
        "counted": counted,
        "held": held,
        "is_shard": 1 <= shard <= (2 if cluster == "two" else 1),
        "left": left,
    }


if __name__ == "__main__":
    main(sys.argv[1])
