"""Several partitions taken over by one worker: their sessions are read together, each goes on where it was."""

from support.worker_box import Box, Log, hits, three_partitions

from schemas.errors import RetryError


def successor_of(first):
    """A box that is assigned another one's partitions, with their last batches loaded."""
    box = Box([], clickhouse=first.clickhouse)
    box.logs = []
    for log in first.logs:
        again = Log([], log.registered, box.calls)
        again.partition, again.records = log.partition, log.records
        box.logs.append(again)
    return box


def read_places(box, fail=()):
    """Write down for which partitions sessions are read, and fail in the middle as `fail` says."""
    read, whole, failures = [], box.store.all_sessions, list(fail)

    def all_sessions(places):
        read.append([place.partition for place in places])
        for row in whole(places):
            yield row
            if failures:
                raise failures.pop()

    box.store.all_sessions = all_sessions
    return read


def test_sessions_of_all_partitions_that_are_taken_over_are_read_together():
    first = three_partitions(Box(hits(6)))
    first.step(2)
    box = successor_of(first)
    read = read_places(box)
    box.step(9)
    assert read == [[0, 1, 2]]
    rows = box.clickhouse.rows("events")
    assert len(rows) == 18
    assert len({row["session_id"] for row in rows}) == 3, "each visitor's session goes on"


def test_a_reading_that_fails_midway_is_done_again_and_counts_nothing_twice():
    first = three_partitions(Box(hits(6)))
    first.step(2)
    box = successor_of(first)
    read = read_places(box, [RetryError("broken off"), RetryError("again")])
    box.step(12)
    assert read == [[0, 1, 2]] * 3
    assert box.worker.counters.retries == 6
    assert [len(worker._state) for worker in box.worker._partitions.values()] == [1, 1, 1]
    assert len({row["session_id"] for row in box.clickhouse.rows("events")}) == 3


def test_a_partition_that_is_late_to_find_where_it_goes_on_holds_up_no_other():
    first = three_partitions(Box(hits(6)))
    first.step(2)
    box = successor_of(first)
    box.logs[1].fail["fetch"] = [RetryError("not yet")]
    read = read_places(box)
    box.step(9)
    assert read == [[0, 2], [1]]
    assert len(box.clickhouse.rows("events")) == 18


def test_a_partition_that_is_lost_while_it_waits_for_its_sessions_is_given_up():
    first = three_partitions(Box(hits(6)))
    first.step(2)
    box = successor_of(first)
    read = read_places(box, [RetryError("broken off")])
    box.step()
    box.logs[0].over = True
    box.step(9)
    assert read == [[0, 1, 2], [1, 2]]
    assert box.worker.counters.fenced == 1
    assert len(box.clickhouse.rows("events")) == 15
