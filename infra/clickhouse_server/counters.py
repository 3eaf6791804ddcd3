"""What the embedded server counts, in plain integers; the event loop alone changes them.

`collect()` returns rows of (metric name, kind, help, label names, {label values: value}); `CountersCollector` makes
Prometheus' families of them when it is scraped, from another thread.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

Row = tuple[str, str, str, tuple[str, ...], dict[tuple[str, ...], float]]


@dataclass
class Counters:
    """Counts since the process began; `running` and `sessions` are now."""

    queries: int = 0
    inserts: int = 0
    errors: Counter[str] = field(default_factory=Counter)  # by ClickHouse's error name
    refused: Counter[str] = field(default_factory=Counter)  # by reason: origin, host, fetch_site
    running: int = 0
    sessions: int = 0
    bytes_in: int = 0  # unpacked
    bytes_out: int = 0  # as sent

    def collect(self) -> list[Row]:
        """Return every metric once."""
        one: tuple[str, ...] = ()
        prefix = "hitstream_clickhouse_"
        return [
            (prefix + "queries", "counter", "Statements begun that are no INSERT with data.", one, {one: self.queries}),
            (prefix + "inserts", "counter", "INSERTs with data begun.", one, {one: self.inserts}),
            (
                *(prefix + "errors", "counter", "Requests that ended in an error, by ClickHouse's name.", ("name",)),
                {(name,): count for name, count in self.errors.copy().items()},
            ),
            (
                *(prefix + "refused", "counter", "Requests refused before a login, by reason.", ("reason",)),
                {(reason,): count for reason, count in self.refused.copy().items()},
            ),
            (prefix + "running", "gauge", "Statements running now.", one, {one: self.running}),
            (prefix + "sessions", "gauge", "HTTP sessions open now.", one, {one: self.sessions}),
            (prefix + "in_bytes", "counter", "Request body bytes, unpacked.", one, {one: self.bytes_in}),
            (prefix + "out_bytes", "counter", "Answer body bytes, as sent.", one, {one: self.bytes_out}),
        ]


class CountersCollector(Collector):
    """The counters as `hitstream_clickhouse_*`."""

    def __init__(self, counters: Counters) -> None:
        self._counters = counters

    def collect(self) -> Iterator[Metric]:
        """Yield every family."""
        for name, kind, text, labels, values in self._counters.collect():
            family = (CounterMetricFamily if kind == "counter" else GaugeMetricFamily)(name, text, labels=labels)
            for key, value in values.items():
                family.add_metric(list(key), value)
            yield family
