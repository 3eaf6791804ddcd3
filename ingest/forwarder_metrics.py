"""The forwarder's metrics, read from its plain counters when they are scraped."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from ingest.forwarder import ForwarderCounters

COUNTERS = {
    "hits": "Hits the event log has acknowledged, resends included.",
    "bytes": "Bytes of hits the event log has acknowledged, resends included.",
    "rounds": "Rounds in which the event log took hits.",
    "retries": "Appends the event log could not take; each starts again from the cursors.",
    "damaged": "Hits that damage to a spool took before they were forwarded.",
}
GAUGES = {
    "backoff_s": ("backoff_seconds", "How long the forwarder waits before it tries again; 0 while the log takes hits."),
    "lag_bytes": ("lag_bytes", "Bytes that stand in the spools, not yet forwarded."),
    "spools": ("spools", "Spool directories, one per collector start that is not drained yet."),
}


class ForwarderCollector(Collector):
    """Exposes a forwarder's counters as `hitstream_forwarder_…`."""

    def __init__(self, counters: ForwarderCounters) -> None:
        self._counters = counters

    def collect(self) -> Iterator[Metric]:
        """Yield each metric with its value now."""
        for name, meaning in COUNTERS.items():
            yield CounterMetricFamily(f"hitstream_forwarder_{name}", meaning, value=getattr(self._counters, name))
        for name, (exposed, meaning) in GAUGES.items():
            yield GaugeMetricFamily(f"hitstream_forwarder_{exposed}", meaning, value=getattr(self._counters, name))
