"""Many small batches against a real server: parts stay bounded, and no insert is refused for them."""

from itertools import count
from time import sleep

import msgspec
import pytest
from support.simulated_hits import hit
from support.waiting import wait_until
from support.worker_box import RULES, Log

from consumers.batch_pace import BatchLimits
from consumers.clickhouse_client import ClickHouse
from consumers.clickhouse_store import ClickHouseStore
from consumers.worker import Worker

PARTS_MAX, REFUSED_FROM = 6, 12
HITS, PARTITIONS = 30, 2
LARGE_ROWS, MERGE_S = 1_000_000, 2.0
LIMITS = BatchLimits(rows_max=1, bytes_max=1 << 20, age_s_min=0.0, age_s_max=1.0, parts_max=PARTS_MAX)
REFUSAL = f"parts_to_delay_insert = {REFUSED_FROM}, parts_to_throw_insert = {REFUSED_FROM}"
FILLED = ("events", "session_parts", "batches")
OURS = "active AND database = currentDatabase()"
NO_MERGES = "max_bytes_to_merge_at_max_space_in_pool = 1, max_bytes_to_merge_at_min_space_in_pool = 1"


class Reader:
    def __init__(self):
        self.logs = [Log([hit(seq, spool=number) for seq in range(HITS)]) for number in range(PARTITIONS)]
        for number, log in enumerate(self.logs):
            log.partition = number

    def assigned(self):
        return self.logs


class Box:
    """A worker that makes a batch of each hit, on a table that merges nothing and soon refuses to take more."""

    def __init__(self, client, limits):
        self.client = client
        for table in FILLED:
            self.client.command(f"ALTER TABLE {table} MODIFY SETTING merge_selector_base = 2")
        self.client.command(f"ALTER TABLE events MODIFY SETTING {REFUSAL}, {NO_MERGES}")
        self.store = ClickHouseStore(client)
        seconds = count(2_000_000_000, 5)
        rules = msgspec.structs.replace(RULES, batch=limits)
        self.worker = Worker(Reader(), self.store, rules, lambda: next(seconds))

    def step(self):
        self.worker.step()
        return self.store.parts()

    def rows(self):
        return self.client.query("SELECT count() FROM events")[0][0]


@pytest.fixture
def client(clickhouse_url, fresh_database):
    made = ClickHouse(clickhouse_url, database=fresh_database, timeout_s=60)
    yield made
    made.close()


def test_batches_wait_where_parts_are_many_and_go_on_once_they_are_merged(client):
    box = Box(client, LIMITS)
    assert max(box.step() for _ in range(HITS)) == PARTS_MAX
    assert box.rows() == PARTS_MAX
    client.command("ALTER TABLE events RESET SETTING " + NO_MERGES.replace(" = 1", ""))
    most = []

    def is_loaded():
        most.append(box.step())
        return box.rows() == HITS * PARTITIONS

    wait_until(is_loaded)
    assert max(most) <= PARTS_MAX
    assert box.worker.counters.retries == 0


def test_without_the_limit_the_same_batches_are_refused(client):
    box = Box(client, msgspec.structs.replace(LIMITS, parts_max=1000))
    for _ in range(HITS):
        box.step()
    assert box.rows() == REFUSED_FROM
    assert box.worker.counters.retries > 0


def test_small_parts_are_merged_once_there_are_many_and_without_the_large_one(client):
    def insert(numbers):
        for number in numbers:
            client.insert("batches", {"batch_first": [number], "received_at": [2_000_000_000_000]}, token=str(number))

    def parts():
        return client.query(f"SELECT rows, level FROM system.parts WHERE {OURS} AND table = 'batches' ORDER BY rows")

    client.command(
        "INSERT INTO batches (batch_first, spool_id, received_at) "
        f"SELECT number, cityHash64(number), fromUnixTimestamp64Milli(2000000000000) FROM numbers({LARGE_ROWS})"
    )
    insert(range(15))
    sleep(MERGE_S)  # long enough for a merge that took the large one, too
    assert parts() == [(1, 0)] * 15 + [(LARGE_ROWS, 0)]
    insert(range(15, 40))
    wait_until(lambda: len(parts()) < 30)
    assert parts()[-1] == (LARGE_ROWS, 0)
