"""When the worker loads, and what it does meanwhile: batches under way, and how ClickHouse keeps up."""

from concurrent.futures import Future

import msgspec
import pytest
from support.simulated_hits import hit, records
from support.worker_box import RULES, Box, hits, three_partitions

from consumers.batch_pace import BatchLimits
from consumers.worker import Worker
from schemas.errors import FatalError, RetryError


class Slow:
    """Inserts that end when the test says so."""

    def __init__(self, at_once_max=9):
        self.under_way = []
        self.at_once_max = at_once_max
        self.waits = []

    def has_room(self):
        return len(self.under_way) < self.at_once_max

    def start(self, load, batch, loaded):
        if not self.has_room():
            return None
        future = Future()
        self.under_way.append((future, load, batch, loaded))
        return future

    def wait(self, timeout_s):
        self.waits.append(timeout_s)
        return bool(self.under_way)

    def end(self, error=None):
        future, load, batch, loaded = self.under_way.pop(0)
        if error:
            future.set_exception(error)
        else:
            load(batch, loaded)
            future.set_result(0.1)

    def places(self):
        return [(batch.partition, batch.first, batch.last) for _, _, batch, _ in self.under_way]


def slow_box(box, at_once_max=9):
    inserts = Slow(at_once_max)
    box.worker = Worker(box, box.store, RULES, lambda: box.now_s, inserts=inserts)
    return inserts


def test_partitions_load_side_by_side_and_no_batch_is_registered_before_the_last_one_is_in():
    box = three_partitions(Box(hits(6)))
    inserts = slow_box(box)
    box.step(9)
    assert inserts.places() == [(0, 0, 2), (1, 0, 2), (2, 0, 2)]
    assert box.calls == [("register", 0, 2)] * 3
    inserts.end()
    box.step(2)
    assert inserts.places() == [(1, 0, 2), (2, 0, 2), (0, 3, 5)]
    while inserts.under_way:
        inserts.end()
        box.step(2)
    assert len(box.clickhouse.rows("events")) == 18
    assert box.worker.counters.batches == 6


def test_the_next_batch_gathers_while_one_is_loaded():
    box = Box(hits(3))
    inserts = slow_box(box)
    box.step(2)
    box.log.records = records(hits(5))
    assert not box.step(3), "there is nothing to do but wait"
    assert box.log.next == 5
    inserts.end()
    box.step(2, after_s=0.1)
    assert inserts.places() == [(0, 3, 4)], "its age counts from when it was read"


def test_an_insert_that_fails_on_its_way_is_repeated_with_the_same_rows():
    box = Box(hits(5))
    inserts = slow_box(box)
    box.step(2)
    inserts.end(RetryError("gone"))
    box.step(1)
    assert box.worker.counters.retries == 1
    box.step(1)
    assert inserts.places() == [(0, 0, 2)]
    inserts.end()
    box.step(2)
    inserts.end()
    box.step(1)
    assert box.rows() == [0, 1, 2, 3, 4]
    assert box.calls == [("register", 0, 2), ("heal", 0, 2), ("register", 3, 4), ("load", 3, 4)]


def test_a_batch_whose_turn_it_is_not_waits_with_its_rows():
    box = three_partitions(Box(hits(6)))
    inserts = slow_box(box, at_once_max=1)
    box.step(5)
    assert inserts.places() == [(0, 0, 2)]
    for _ in range(6):
        inserts.end()
        box.step(3)
    assert len(box.clickhouse.rows("events")) == 18


def test_what_is_not_full_gathers_on_until_its_load_can_begin():
    box = three_partitions(Box(hits(3)))
    inserts = slow_box(box, at_once_max=1)
    for log in box.logs[1:]:
        log.few, log.records = 2, log.records[:2]
    box.step(9)
    assert inserts.places() == [(0, 0, 2)]
    assert box.calls == [("register", 0, 2)], "two of three, for longer than a batch gathers"
    box.logs[1].records += records([hit(seq, spool=2, visitor=1) for seq in range(3)])[2:]
    inserts.end()
    box.step(1)
    assert inserts.places() == [(1, 0, 2)]
    inserts.end()
    box.step(1)
    assert inserts.places() == [(2, 0, 1)]


def test_who_has_waited_longest_loads_next():
    box = three_partitions(Box())
    for number, log in enumerate(box.logs):
        log.records = records([hit(seq, spool=number + 1) for seq in range(9)])
    inserts = slow_box(box, at_once_max=1)
    box.step(3)
    order = []
    for _ in range(9):
        order += [partition for partition, _, _ in inserts.places()]
        inserts.end()
        box.step(1)
    assert order == [0, 1, 2] * 3


def test_a_fatal_error_of_an_insert_ends_the_worker():
    box = Box(hits(3))
    inserts = slow_box(box)
    box.step(2)
    inserts.end(FatalError("no table"))
    with pytest.raises(FatalError, match="no table"):
        box.step()


def test_batches_gather_longer_while_parts_are_many():
    limits = BatchLimits(rows_max=100, bytes_max=1 << 20, age_s_min=0.5, age_s_max=2.0, parts_max=100)
    box = Box(hits(2), rules=msgspec.structs.replace(RULES, batch=limits))
    box.clickhouse.parts = 99
    box.step()
    box.step(5, after_s=0.45)
    assert box.calls == [], "1.8 s old"
    box.step(1, after_s=0.45)
    assert box.calls == [("register", 0, 1), ("load", 0, 1)]
    box.log.records, box.clickhouse.parts = records(hits(4)), 100
    box.step(20)
    assert len(box.calls) == 2
    box.clickhouse.parts = 1
    box.step(1)
    assert box.calls[2:] == [("register", 2, 3), ("load", 2, 3)]


def test_where_few_batches_are_taken_each_partition_has_its_turn():
    limits = BatchLimits(rows_max=1, bytes_max=1 << 20, age_s_min=0.0, age_s_max=2.0, parts_max=100)
    box = three_partitions(Box(hits(6), rules=msgspec.structs.replace(RULES, batch=limits)))
    box.clickhouse.parts = 99  # room for one between two counts
    box.step(7)
    loaded = [row["log_partition"] for row in box.clickhouse.rows("events")]
    assert sorted(set(loaded)) == [0, 1, 2]
    assert len(loaded) == 6
