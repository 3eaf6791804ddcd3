from prometheus_client import CollectorRegistry, generate_latest

from ingest.counters import Counters, Refusal, add_up
from ingest.metrics import CollectorMetrics


def test_processes_are_added_up_and_every_reason_is_shown():
    one, two = Counters(), Counters()
    for counters in (one, two):
        counters.group(3, 900)
        counters.group(1000, 90)
        counters.answers[200] += 5
        counters.handled(4, 4_000)
        counters.handled(1, 2_000_000_000)
    two.refused[Refusal.MALFORMED] += 2
    registry = CollectorRegistry()
    registry.register(CollectorMetrics(lambda: add_up([one.as_dict(), two.as_dict()])))
    lines = generate_latest(registry).decode().splitlines()
    for line in (
        "hitstream_collector_hits_total 2006.0",
        "hitstream_collector_hit_bytes_total 1980.0",
        'hitstream_collector_answers_total{status="200"} 10.0',
        'hitstream_collector_refused_total{reason="malformed"} 2.0',
        'hitstream_collector_group_hits_bucket{le="2"} 0.0',
        'hitstream_collector_group_hits_bucket{le="4"} 2.0',
        'hitstream_collector_group_hits_bucket{le="512"} 2.0',
        'hitstream_collector_group_hits_bucket{le="+Inf"} 4.0',
        'hitstream_collector_handling_seconds_bucket{le="5e-06"} 8.0',
        'hitstream_collector_handling_seconds_bucket{le="0.8"} 8.0',
        'hitstream_collector_handling_seconds_bucket{le="+Inf"} 10.0',
        "hitstream_collector_handling_seconds_sum 4.000032",
        "hitstream_collector_connections_open 0.0",
    ):
        assert line in lines
    for reason in Refusal:
        assert any(f'reason="{reason}"' in line for line in lines)
