"""The worker's lag, the times of its calls, and how they are exposed."""

import pytest

from consumers.batch import Batch
from consumers.batch_pace import BatchLimits
from consumers.inserts import Inserts
from consumers.log_reader.port import FencedError, Record, Registered
from consumers.metrics import WorkerCounters
from consumers.pressure import Gauge
from consumers.progress import WATCH_EVERY_S, Progress, ProgressMetrics, TimedClient
from consumers.worker import PartitionWorker, WorkerRules
from schemas.errors import RetryError
from schemas.session import SessionRule


class Partition:
    def __init__(self, records, age_s=0.0):
        self.answer = records, age_s
        self.asked = 0

    def unloaded(self, now_s):
        self.asked += 1
        if isinstance(self.answer[0], Exception):
            raise self.answer[0]
        return self.answer


def test_lag_is_summed_and_the_oldest_batch_counts():
    progress = Progress()
    progress.watch([Partition(5, 0.5), Partition(7, 3.0)], 1000.0)
    assert (progress.lag_records, progress.batch_age_s, progress.partitions) == (12, 3.0, 2)
    progress.watch([], 1000.0 + WATCH_EVERY_S)
    assert (progress.lag_records, progress.batch_age_s, progress.partitions) == (0, 0.0, 0)


def test_partitions_are_asked_seldom_and_a_clock_set_back_stops_nothing():
    progress, partition = Progress(), Partition(1)
    for now_s in (1000.0, 1000.1, 1001.9, 1002.0, 1002.1, 5.0, 5.1):
        progress.watch([partition], now_s)
    assert partition.asked == 3


@pytest.mark.parametrize("error", [RetryError("down"), FencedError("gone")])
def test_what_cannot_be_asked_keeps_the_last_values(error):
    progress = Progress()
    progress.watch([Partition(5)], 1000.0)
    behind = Partition(9)
    progress.watch([Partition(error), behind], 1010.0)
    assert progress.lag_records == 5
    assert behind.asked == 0  # one that does not answer costs a time-out; the others wait for the next look


class Log:
    topic, partition = "hits", 0

    def __init__(self, registered=None, end=20, position=10):
        self.registered, self._end, self._position = registered, end, position

    def end(self):
        return self._end

    def position(self):
        return self._position


@pytest.mark.parametrize(
    ("registered", "recovered", "batch", "records", "expected"),
    [
        (None, True, None, [], (10, 0.0)),  # nothing at hand: what the log has ahead
        (None, True, None, [Record(4, b"", b"")], (16, 2.0)),  # gathered since 98 s
        (None, True, Batch("hits", 0, 3, 9, 95_000, []), [], (17, 5.0)),
        (Registered(3, 9, 95_000), False, None, [], (17, 5.0)),  # not recovered yet
        (Registered(3, 9, 95_000), True, None, [], (10, 0.0)),  # loaded
    ],
)
def test_a_partition_counts_what_is_not_loaded(registered, recovered, batch, records, expected):
    rules = WorkerRules(None, SessionRule(), 1000, BatchLimits(10, 1000, 1.0, 0.0, 600), 1000)
    own = {"gauge": Gauge(None), "inserts": Inserts()}
    worker = PartitionWorker(Log(registered), None, rules, lambda: 100.0, WorkerCounters(), **own)
    worker._before = 10 if recovered else None
    worker._batch, worker._records, worker._since_s = batch, records, 98.0
    assert worker.unloaded(100.0) == expected


class Client:
    def query(self, sql, parameters=None):
        return [(sql, parameters)]

    def query_columns(self, sql):
        return {"sql": [sql]}

    def insert(self, table, columns, *, token, shard):
        raise RetryError(f"{table} {columns} {token} {shard}")


def test_every_call_is_passed_on_and_timed_failed_ones_too():
    clock = iter([0.0, 0.2, 10.0, 10.03, 20.0, 520.0, 600.0, 600.025])
    timed = TimedClient(Client(), lambda: next(clock))
    assert timed.query("SELECT", {"a": 1}) == [("SELECT", {"a": 1})]
    assert timed.query_columns("SELECT") == {"sql": ["SELECT"]}
    with pytest.raises(RetryError, match=r"^events \{\} token 2$"):
        timed.insert("events", {}, token="token", shard=2)
    timed.query("SELECT")
    families = {family.name: family for family in ProgressMetrics(Progress(), timed).collect()}
    samples = families["hitstream_worker_clickhouse_seconds"].samples
    got = {(s.name.rpartition("_")[2], s.labels["call"], s.labels.get("le")): s.value for s in samples}
    assert got["bucket", "insert", "120.0"] == 0  # longer than the longest bucket
    assert got["bucket", "insert", "+Inf"] == got["count", "insert", None] == 1
    assert got["sum", "insert", None] == 500.0
    buckets = [got["bucket", "query", bound] for bound in ("0.025", "0.05", "0.1", "0.25")]
    assert buckets == [1, 2, 2, 3]  # bounds are included
    assert families.keys() >= {"hitstream_worker_lag_records", "hitstream_worker_cache_hits"}
