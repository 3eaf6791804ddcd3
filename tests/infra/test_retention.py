"""Rows leave after their site's days, on the real engine; the ledger, the tokens and everything else stay."""

import time

import pytest
from support.simulated_hits import hit, records

from consumers.batch import Batch
from consumers.clickhouse_client import ClickHouse
from consumers.clickhouse_store import ClickHouseStore
from consumers.deduplicate import Marks
from consumers.pipeline import finish, prepare
from consumers.rules import Rules
from consumers.session_state import SessionState
from infra.retention import Retention, set_retention, ttl
from schemas.errors import FatalError
from schemas.limits import Limits
from schemas.session import SessionRule

DAY_MS = 86_400_000
NOW_MS = int(time.time() * 1000)
AGES = (1, 29, 32, 59, 62, 300)
KEEP = Retention({"a": 30, "b": None, "c": 30, "d": 90}, others=60, rejected=30)
STAY = {"a": (1, 29), "b": AGES, "c": (1, 29), "d": (1, 29, 32, 59, 62), "x": (1, 29, 32, 59)}
TABLES = ["events", "session_parts", "session_hours", "rejected", "ad_spend"]
OF_SITES = [name for name in TABLES if name != "rejected"]


@pytest.fixture
def client(clickhouse_url, fresh_database):
    made = ClickHouse(clickhouse_url, database=fresh_database, timeout_s=60)
    yield made
    made.close()


def loaded(store):
    """A batch with an event of every site and age, and a rejected record of each."""
    values = []
    for site in STAY:
        for age in AGES:
            at = NOW_MS - age * DAY_MS
            for params in ({"s": site}, {"s": site, "v": "wrong"}):
                values.append(hit(len(values), visitor=age, at=at, params=params))
    batch = Batch("hits", 3, 0, len(values) - 1, NOW_MS, records(values))
    rows = finish(prepare(batch.records, Marks(), Rules(Limits(), {})), SessionState(SessionRule(), 1 << 60))
    store.load(batch, rows)
    return batch, rows


def merge(client, table):
    """Merge all parts of a table; unasked, OPTIMIZE says nothing where it merged none.

    A part that all rows have left has no projection, and is merged with none that has, until it is dropped: the engine
    does so within 40 s, or meanwhile has taken from under us what we drop.
    """
    empty = "SELECT name FROM system.parts WHERE database = currentDatabase() AND active AND rows = 0 AND table = "
    for left in reversed(range(20)):
        try:
            for (part,) in client.query(f"{empty}'{table}'"):
                client.command(f"ALTER TABLE {table} DROP PART '{part}'")
            client.command(f"OPTIMIZE TABLE {table} FINAL SETTINGS optimize_throw_if_noop = 1")
            break
        except FatalError:
            if not left:
                raise
            time.sleep(0.1)


def ages(client, table, day="received_at"):
    for name in TABLES:
        merge(client, name)
    found = client.query(f"SELECT site, toUnixTimestamp64Milli({day}) FROM {table} ORDER BY site, {day} DESC")
    return {site: tuple((NOW_MS - at) // DAY_MS for name, at in found if name == site) for site in STAY}


def rejected_at_most(days):
    return {site: tuple(age for age in stay if age <= days) for site, stay in STAY.items()}


def test_rows_leave_after_their_sites_days_and_the_others_stay(client):
    store = ClickHouseStore(client)
    loaded(store)
    spend = [(site, age) for site in STAY for age in AGES]
    for site, age in spend:
        client.command(f"INSERT INTO ad_spend (site, day, channel) VALUES ('{site}', today() - {age}, 'x')")
    assert set_retention(client, KEEP) == TABLES
    assert ages(client, "events") == STAY
    assert ages(client, "sessions", "session_start") == STAY
    assert ages(client, "rejected") == rejected_at_most(30)
    left = client.query("SELECT site, count() FROM ad_spend GROUP BY site ORDER BY site")
    assert left == [(site, len(stay)) for site, stay in sorted(STAY.items())]
    assert client.query("SELECT sum(inserted), sum(rejected) FROM batches") == [(len(spend), len(spend))]


def test_the_same_retention_changes_nothing_and_none_takes_it_back(client):
    assert set_retention(client, KEEP) == TABLES
    assert set_retention(client, KEEP) == []
    assert set_retention(client, KEEP._replace(sites=KEEP.sites | {"d": 91})) == OF_SITES
    nothing = Retention({}, None, 30)
    assert set_retention(client, nothing) == OF_SITES
    assert set_retention(client, nothing) == []
    assert "TTL" not in client.query("SHOW CREATE TABLE events")[0][0]
    assert "TTL (toDate(received_at) + toIntervalDay(30))" in client.query("SHOW CREATE TABLE rejected")[0][0]


def test_what_has_left_is_neither_inserted_again_nor_missed(client):
    """A batch loaded twice, and one healed after its rows have left: counted once, and what is too old leaves again."""
    store = ClickHouseStore(client)
    batch, rows = loaded(store)
    set_retention(client, KEEP)
    assert ages(client, "events") == STAY
    store.load(batch, rows)
    assert client.query("SELECT count() FROM events") == [(sum(map(len, STAY.values())),)], "tokens outlive their rows"
    store.heal(batch, rows, is_remembered=False)
    assert ages(client, "events") == STAY
    assert ages(client, "rejected") == rejected_at_most(30)
    assert client.query("SELECT sum(inserted + rejected) FROM batches") == [(len(batch.records),)]
    assert store.counted(batch) == len(batch.records), "a start does not take it up again"
    counted = client.query("SELECT sum(events) FROM sessions")[0][0]
    assert counted == client.query("SELECT count() FROM events WHERE visitor_id != 0")[0][0]


def test_a_late_hit_beyond_its_retention_just_leaves(client):
    set_retention(client, KEEP)
    store = ClickHouseStore(client)
    batch, _ = loaded(store)
    assert ages(client, "events") == STAY
    assert store.counted(batch) == len(batch.records)


def test_rules_are_one_a_number_of_days():
    assert ttl("events", Retention({}, None, 30)) == ""
    day = "toDate(received_at) + toIntervalDay({}) + toIntervalDay(1)"
    assert ttl("events", Retention({}, 7, 30)) == day.format(7)
    assert ttl("events", Retention({"a": 30, "b": 7, "c": 30}, None, 30)) == (
        f"{day.format(7)} WHERE site IN ('b'), {day.format(30)} WHERE site IN ('a', 'c')"
    )
    assert ttl("events", Retention({"a": 7, "b": None}, 7, 30)) == (
        f"{day.format(7)} WHERE site IN ('a') OR site NOT IN ('a', 'b')"
    )
    assert ttl("rejected", Retention({"a": 30, "b": 7, "c": 90}, 40, 30)) == (
        f"{day.format(7)} WHERE site IN ('b'), {day.format(30)}"
    )


def test_on_a_cluster_every_replicas_table_gets_it():
    class Client:
        database = "hitstream"

        def __init__(self):
            self.ran = []

        def query(self, sql, parameters=None):
            return [(" TTL as asked",)] if "format" in sql else [("ReplicatedMergeTree ORDER BY x SETTINGS y = 1",)]

        def command(self, sql, *, database=None):
            self.ran.append(sql)

    client = Client()
    set_retention(client, Retention({"a": 30}, None, 30), "c")
    assert [sql.partition(" MODIFY TTL ")[0] for sql in client.ran] == [
        f"ALTER TABLE {name}_local ON CLUSTER 'c'" for name in TABLES
    ]
