"""What a worker counts, in plain ints, and how Prometheus reads it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from consumers.batch import Batch, Loaded

_PLAIN = {
    "batches": "Batches loaded.",
    "inserted": "Rows inserted into events.",
    "duplicates": "Client duplicates: counted, not kept.",
    "filtered": "Replays dropped, because their hit has a row.",
    "resent": "Transport duplicates dropped.",
    "recovered": "Registered batches taken up again after a start.",
    "lookups": "Visitors whose earlier sessions were read from events.",
    "retries": "Steps that have to be tried again.",
    "fenced": "Partitions lost to another worker.",
    "expired": "Records that the topic's retention deleted before they were read, and that a setting gave up.",
}


@dataclass
class WorkerCounters:
    """Counts of one worker process since its start."""

    batches: int = 0
    inserted: int = 0
    duplicates: int = 0
    filtered: int = 0
    resent: int = 0
    recovered: int = 0
    lookups: int = 0
    retries: int = 0
    fenced: int = 0
    expired: int = 0
    rejected: Counter[str] = field(default_factory=Counter)

    def count(self, batch: Batch, loaded: Loaded) -> None:
        """Add a loaded batch."""
        del batch
        self.batches += 1
        self.inserted += len(loaded.events)
        self.duplicates += sum(row.duplicate for row in loaded.counts)
        self.filtered += sum(row.filtered for row in loaded.counts)
        self.resent += sum(row.resent for row in loaded.counts)
        self.rejected.update(row.rejection.reason.value for row in loaded.rejected)


class WorkerMetrics(Collector):
    """The counters as `hitstream_worker_*`; rejections by their closed reason."""

    def __init__(self, counters: WorkerCounters) -> None:
        self._counters = counters

    def collect(self) -> Iterator[Metric]:
        """Yield every family."""
        for name, text in _PLAIN.items():
            yield CounterMetricFamily(f"hitstream_worker_{name}", text, value=getattr(self._counters, name))
        rejected = CounterMetricFamily("hitstream_worker_rejected", "Hits rejected, by reason.", labels=["reason"])
        for reason, count in self._counters.rejected.items():
            rejected.add_metric([reason], count)
        yield rejected
