"""The forwarder's metrics: every counter is exposed, under its documented name."""

from prometheus_client import CollectorRegistry, generate_latest

from ingest.forwarder import ForwarderCounters
from ingest.forwarder_metrics import ForwarderCollector


def exposed(counters):
    registry = CollectorRegistry()
    registry.register(ForwarderCollector(counters))
    lines = generate_latest(registry).decode().splitlines()
    return {line.split()[0]: float(line.split()[1]) for line in lines if not line.startswith("#")}


def test_every_counter_is_exposed_with_its_value():
    counters = ForwarderCounters()
    for value, name in enumerate(vars(counters), 1):
        setattr(counters, name, value)
    values = exposed(counters)
    assert sorted(values.values()) == sorted(vars(counters).values())
    assert values["hitstream_forwarder_hits_total"] == counters.hits
    assert values["hitstream_forwarder_backoff_seconds"] == counters.backoff_s
    assert values["hitstream_forwarder_lag_bytes"] == counters.lag_bytes


def test_values_are_read_when_scraped():
    counters = ForwarderCounters()
    registry = CollectorRegistry()
    registry.register(ForwarderCollector(counters))
    counters.retries += 3
    assert registry.get_sample_value("hitstream_forwarder_retries_total") == 3
