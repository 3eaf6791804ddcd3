"""One Prometheus exposition out of several processes': pure text in, text out.

- Every sample of a process gets the label `process`, its name; sums over processes are the reader's business.
- A family stands once, with one HELP and one TYPE line, its samples of all processes together, as the text format
  asks (https://prometheus.io/docs/instrumenting/exposition_formats/).
- A family that two processes give different types keeps the first process's; the other's samples are left out rather
  than shown under a wrong type, and counted.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

LABEL = "process"
CONFLICTS = "hitstream_metrics_conflicts"


class _Given(Collector):
    """A collector of families that are there already."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = list(families)

    def collect(self) -> Iterable[Metric]:
        """Return the families."""
        return self._families


def merge(texts: Mapping[str, str], own: Iterable[Metric] = ()) -> tuple[Metric, ...]:
    """Return the families of all processes, by name; `texts` maps a process's name to its exposition.

    `own` are families that already carry their labels. Raises ValueError when a text is no exposition.
    """
    families = {family.name: family for family in own}
    conflicts = 0
    for process, text in texts.items():
        for family in text_string_to_metric_families(text):
            if family.name.endswith("_created"):
                continue  # when a counter began: the client library's extra series, one for each
            merged = families.get(family.name)
            if merged is None:
                merged = families[family.name] = Metric(family.name, family.documentation, family.type)
            if merged.type != family.type:
                conflicts += 1
                continue
            merged.samples += [sample._replace(labels={**sample.labels, LABEL: process}) for sample in family.samples]
    if conflicts:
        help_text = "Families left out of this scrape because processes disagree about their type."
        families[CONFLICTS] = CounterMetricFamily(CONFLICTS, help_text, value=conflicts)
    return tuple(families[name] for name in sorted(families))


def expose(families: Iterable[Metric]) -> bytes:
    """Return families in the text format."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Given(families))
    return generate_latest(registry)
