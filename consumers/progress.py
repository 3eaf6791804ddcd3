"""How far behind a worker is, how long its calls to ClickHouse take, how its caches do; for Prometheus.

- The worker's thread writes plain values, `watch` at most every `WATCH_EVERY_S`; a scrape reads them and asks nobody.
- `TimedClient` serves several threads.
- Labels are closed sets: a call's kind, a cache's name.
"""

from __future__ import annotations

import threading
import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Protocol, TypeVar

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from consumers.clickhouse_store import Client
from consumers.enrich.caches import cache_info
from consumers.log_reader.port import FencedError
from consumers.rows import Columns
from schemas.errors import RetryError

WATCH_EVERY_S = 2.0
BUCKETS_S = (0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
CALLS = ("insert", "query")
_T = TypeVar("_T")


class Watched(Protocol):
    """What a partition's worker says of itself."""

    def unloaded(self, now_s: float) -> tuple[int, float]:
        """Return the offsets not loaded yet, and the age in seconds of the batch at work; 0 without one."""
        ...


class Progress:
    """The lag of one worker process, summed over its partitions, and the age of its oldest batch."""

    def __init__(self) -> None:
        self.lag_records = 0
        self.batch_age_s = 0.0
        self.partitions = 0
        self.parts = 0
        self._watched_s = 0.0

    def watch(self, partitions: Iterable[Watched], now_s: float, parts: int = 0) -> None:
        """Look again if it is time. What a partition cannot say now keeps the last values. `parts`: see `Gauge`."""
        self.parts = parts
        if 0 <= now_s - self._watched_s < WATCH_EVERY_S:
            return
        self._watched_s = now_s
        try:
            seen = [partition.unloaded(now_s) for partition in partitions]
        except (RetryError, FencedError):  # asking the others could take as long again
            return
        self.lag_records = sum(records for records, _ in seen)
        self.batch_age_s = max((age_s for _, age_s in seen), default=0.0)
        self.partitions = len(seen)


class TimedClient:
    """A store's client that takes the times of another one's calls, failed ones too."""

    def __init__(self, client: Client, clock_s: Callable[[], float] = time.perf_counter) -> None:
        self.seconds = dict.fromkeys(CALLS, 0.0)
        self.counts = {call: [0] * (len(BUCKETS_S) + 1) for call in CALLS}
        self._client = client
        self._clock_s = clock_s
        self._guard = threading.Lock()

    def query(self, sql: str, parameters: dict[str, Any] | None = None) -> list[tuple[Any, ...]]:
        """Return the rows of a query."""
        return self._timed("query", lambda: self._client.query(sql, parameters))

    def read(self, sql: str, parameters: dict[str, Any], kind: type[_T]) -> list[_T]:
        """Return the rows of a query as structs or tuples of a kind; the columns are its fields in order."""
        return self._timed("query", lambda: self._client.read(sql, parameters, kind))

    def stream(self, sql: str, parameters: dict[str, Any], kind: type[_T]) -> Iterator[list[_T]]:
        """Yield the rows of a query, some at a time; its time is until the last one, with what is done meanwhile."""
        began_s = self._clock_s()
        try:
            yield from self._client.stream(sql, parameters, kind)
        finally:
            self._note("query", self._clock_s() - began_s)

    def query_columns(self, sql: str) -> dict[str, Sequence[Any]]:
        """Return the columns of a query by name."""
        return self._timed("query", lambda: self._client.query_columns(sql))

    def insert(self, table: str, columns: Columns, *, token: str, shard: int = 0) -> None:
        """Insert columns of equal length as one block under a deduplication token."""
        self._timed("insert", lambda: self._client.insert(table, columns, token=token, shard=shard))

    def _timed(self, call: str, action: Callable[[], _T]) -> _T:
        began_s = self._clock_s()
        try:
            return action()
        finally:
            self._note(call, self._clock_s() - began_s)

    def _note(self, call: str, took_s: float) -> None:
        with self._guard:
            self.seconds[call] += took_s
            self.counts[call][bisect_left(BUCKETS_S, took_s)] += 1


class ProgressMetrics(Collector):
    """Exposes lag, times and caches as `hitstream_worker_*`."""

    def __init__(self, progress: Progress, client: TimedClient) -> None:
        self._progress = progress
        self._client = client

    def collect(self) -> Iterator[Metric]:
        """Yield every family."""
        progress = self._progress
        for name, text, value in (
            ("lag_records", "Records of the assigned partitions that are not loaded yet.", progress.lag_records),
            ("batch_age_seconds", "Age of the oldest batch that is formed or loaded now.", progress.batch_age_s),
            ("partitions", "Partitions assigned.", progress.partitions),
            ("parts", "Active parts of the fullest partition of a table in ClickHouse.", progress.parts),
        ):
            yield GaugeMetricFamily(f"hitstream_worker_{name}", text, value=value)
        times = HistogramMetricFamily(
            "hitstream_worker_clickhouse_seconds", "Time of calls to ClickHouse, by kind.", labels=["call"]
        )
        for call in CALLS:
            running, buckets = 0, []
            for bound, count in zip((*map(str, BUCKETS_S), "+Inf"), self._client.counts[call], strict=True):
                running += count
                buckets.append((bound, running))
            times.add_metric([call], buckets=buckets, sum_value=self._client.seconds[call])
        yield times
        yield from _caches()


def _caches() -> Iterator[Metric]:
    hits = CounterMetricFamily("hitstream_worker_cache_hits", "Answers from an enrichment cache.", labels=["cache"])
    misses = CounterMetricFamily(
        "hitstream_worker_cache_misses", "Answers an enrichment cache did not have.", labels=["cache"]
    )
    entries = GaugeMetricFamily("hitstream_worker_cache_entries", "Entries in an enrichment cache.", labels=["cache"])
    bounds = GaugeMetricFamily(
        "hitstream_worker_cache_entries_max", "Entries that an enrichment cache holds at most.", labels=["cache"]
    )
    for name, info in cache_info().items():
        bounds.add_metric([name], info.maxsize or 0)
        hits.add_metric([name], info.hits)
        misses.add_metric([name], info.misses)
        entries.add_metric([name], info.currsize)
    yield from (hits, misses, entries, bounds)
