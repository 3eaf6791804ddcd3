"""The collector's metrics for Prometheus: names and meanings, read from `Counters` when scraped.

Promise: scraping costs the hot path nothing, and no label ever holds a path or anything a client chose; a site stands
in one only where the settings define it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import accumulate

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from ingest.counters import GROUP_BUCKETS, HANDLING_NS

COUNTERS = {
    "hits_kept": ("hitstream_collector_hits", "Hits appended to a spool."),
    "hit_bytes": ("hitstream_collector_hit_bytes", "Bytes of JSON appended to a spool."),
    "syncs": ("hitstream_collector_fdatasyncs", "fdatasync calls before answers (sync = disk)."),
    "segments": ("hitstream_collector_segments", "Spool segments begun."),
    "connections_opened": ("hitstream_collector_connections_opened", "Connections accepted."),
    "visitors_minted": ("hitstream_collector_visitors_minted", "Visitor ids made."),
}
LABELLED = {
    "answers": ("hitstream_collector_answers", "Answers handed to the kernel, by HTTP status.", "status"),
    "refused": ("hitstream_collector_refused", "Requests and connections refused, by reason.", "reason"),
    "server_rejected": ("hitstream_collector_server_rejected", "Server events rejected, by reason.", "reason"),
    "verdicts": (
        "hitstream_collector_verdicts",
        "Hits by consent verdict, whether kept, dropped or refused.",
        "verdict",
    ),
}
DROPPED = "dropped"
NS = 1_000_000_000


class CollectorMetrics(Collector):
    """Exposes the summed counts of collector processes; `read` returns one `Counters.as_dict()` sum."""

    def __init__(self, read: Callable[[], Mapping[str, int]]) -> None:
        self._read = read

    def describe(self) -> Iterator[Metric]:
        """Return the families without counts, so that registering does not read."""
        return families({})

    def collect(self) -> Iterator[Metric]:
        """Return all families as they stand now."""
        return families(self._read())


def families(counts: Mapping[str, int]) -> Iterator[Metric]:
    """Yield the metric families of flat counts (`Counters.as_dict`)."""
    for key, (name, text) in COUNTERS.items():
        yield CounterMetricFamily(name, text, value=counts.get(key, 0))
    yield GaugeMetricFamily(
        "hitstream_collector_connections_open", "Connections open now.", value=counts.get("connections_open", 0)
    )
    for prefix, (name, text, label) in LABELLED.items():
        family = CounterMetricFamily(name, text, labels=[label])
        for key, count in sorted(counts.items()):
            kind, _, value = key.partition(".")
            if kind == prefix:
                family.add_metric([value], count)
        yield family
    yield _dropped(counts)
    yield _histogram(
        "hitstream_collector_group_hits",
        "Hits appended with one write.",
        [counts.get(f"group_sizes.{place}", 0) for place in range(len(GROUP_BUCKETS) + 1)],
        GROUP_BUCKETS,
        counts.get("hits_kept", 0),
    )
    yield _histogram(
        "hitstream_collector_handling_seconds",
        "From a request's last bytes read to its answer handed to the kernel, at most.",
        [counts.get(f"handling.{place}", 0) for place in range(len(HANDLING_NS) + 1)],
        [bound / NS for bound in HANDLING_NS],
        counts.get("handling_ns", 0) / NS,
    )


def _dropped(counts: Mapping[str, int]) -> Metric:
    text = "Denied hits that a site's setting drops, by verdict and defined site."
    family = CounterMetricFamily("hitstream_collector_dropped", text, labels=["verdict", "site"])
    for key, count in sorted(counts.items()):
        kind, _, value = key.partition(".")
        if kind == DROPPED:
            verdict, _, site = value.partition(".")
            family.add_metric([verdict, site], count)
    return family


def _histogram(name: str, text: str, counted: Sequence[int], bounds: Sequence[float], total: float) -> Metric:
    labels = [*map(str, bounds), "+Inf"]
    family = HistogramMetricFamily(name, text)
    family.add_metric([], buckets=list(zip(labels, accumulate(counted), strict=True)), sum_value=total)
    return family
