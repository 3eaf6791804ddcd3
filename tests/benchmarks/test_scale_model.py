"""What a rate takes: held against figures worked out by hand."""

import pytest

from benchmarks.scale_model import Assumed, Measured, measured, need

KNOWN = Measured(
    {"collector": 20.0, "forwarder": 5.0, "broker": 5.0, "worker": 30.0, "clickhouse": 10.0},
    request=800,
    answer=200,
    hit=1000,
    log=150,
    tables=60,
)
ASSUMED = Assumed(core_busy_max=0.5, price_core_month=20.0)


def test_a_hundred_thousand_a_second():
    found = need(100_000, KNOWN, ASSUMED)
    assert found.collectors == 4  # 100k x 20 us / 0.5
    assert found.edge_hosts == 1  # a forwarder holds 100k/s at half a core
    assert found.broker_cores == pytest.approx(3.0)  # 1 core x 3 replicas
    assert found.brokers == 3
    assert found.workers == 6
    assert found.partitions == 24  # 6 x 3, in dozens
    assert found.clickhouse_cores == pytest.approx(8.0)  # 2 cores x 2 replicas, as much again for queries
    assert found.shards == 1
    assert found.network_mbit == pytest.approx(800)
    assert found.kafka_gb == pytest.approx(50_000 * 86_400 * 3 * 150 * 3 / 1e9)
    assert found.clickhouse_gb_month == pytest.approx(50_000 * 86_400 * 30.4 * 60 * 2 / 1e9)
    billions = 50_000 * 86_400 * 30.4 / 1e9
    assert found.euro_cores == pytest.approx((4 + 1 + 3 + 6 + 8) * 20 / billions)
    assert found.euro_traffic == pytest.approx(200 * 0.05)
    assert found.euro == pytest.approx(found.euro_cores + found.euro_disk + found.euro_traffic)


def test_hosts_are_bounded_by_the_one_forwarder_on_each():
    cheap_forwarder = KNOWN._replace(cpu_us={**KNOWN.cpu_us, "forwarder": 0.1})
    assert need(1_000_000, KNOWN, ASSUMED).edge_hosts == 10
    assert need(1_000_000, cheap_forwarder, ASSUMED).edge_hosts == 6  # 8 cores x 0.5 / 20.1 us: 199k/s a host


def test_a_billion_hits_cost_less_where_whole_processes_are_filled_never_more_by_the_rate():
    costs = [need(rate, KNOWN, ASSUMED).euro for rate in (10_000, 100_000, 1_000_000)]
    assert costs == sorted(costs, reverse=True)
    assert costs[0] < 1.5 * costs[2]


def test_what_is_measured_comes_from_the_result():
    row = {
        "cpu_us_per_hit": {**KNOWN.cpu_us, "wrk": 9.0, "measuring": 1.0},
        "bytes_per_hit": {"hit": 1000, "log": 150, "events": 40, "other_tables": 20},
    }
    figures = {"request_bytes": 800, "answer_bytes": 200, "partitions": 4, "pipelines": {"ours": row}}
    assert measured(figures, "ours") == KNOWN
