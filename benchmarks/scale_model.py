"""What a rate takes: cores, processes, partitions, disk and money, from the measured CPU and bytes of a hit. Pure.

Every part scales by adding processes, so its need is `rate x CPU per hit / share of a core that may be busy`. Rates are
peaks: cores and partitions are for the peak, disk and traffic for the mean. What is assumed has a name in `Assumed`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

SECONDS_A_DAY = 86_400
DAYS_A_MONTH = 30.4
BILLION = 1e9
ROLES = ("collector", "forwarder", "broker", "worker", "clickhouse")


class Assumed(NamedTuple):
    """What nobody measured here. Prices in euro, as of large clouds' lists; put your own in."""

    core_busy_max: float = 0.6
    peak_over_mean: float = 2.0
    kafka_replicas: int = 3
    kafka_retention_days: float = 3.0
    clickhouse_replicas: int = 2
    clickhouse_retention_days: float = 365.0
    query_share: float = 1.0
    clickhouse_cores_a_shard: int = 16
    host_cores: int = 8
    partitions_a_worker: int = 3
    price_core_month: float = 25.0
    price_disk_gb_month: float = 0.08
    price_traffic_out_gb: float = 0.05


class Measured(NamedTuple):
    """CPU us a hit by role, and bytes a hit: request, answer, its JSON, in Kafka's log, in ClickHouse."""

    cpu_us: Mapping[str, float]
    request: float
    answer: float
    hit: float
    log: float
    tables: float


class Need(NamedTuple):
    """What a peak rate takes. Counts are processes (collectors, workers) or machines' parts; euro a billion hits."""

    rate: float
    collectors: int
    edge_hosts: int
    broker_cores: float
    brokers: int
    workers: int
    partitions: int
    clickhouse_cores: float
    shards: int
    network_mbit: float
    kafka_gb: float
    clickhouse_gb_month: float
    euro_cores: float
    euro_disk: float
    euro_traffic: float

    @property
    def euro(self) -> float:
        """Euro a billion hits, all together."""
        return self.euro_cores + self.euro_disk + self.euro_traffic


def measured(figures: Mapping[str, Any], pipeline: str) -> Measured:
    """Return what a result of `bench_end_to_end` says of a pipeline."""
    row = figures["pipelines"][pipeline]
    size = row["bytes_per_hit"]
    cpu_us = {role: row["cpu_us_per_hit"][role] for role in ROLES if role in row["cpu_us_per_hit"]}
    tables = size["events"] + size["other_tables"]
    return Measured(cpu_us, figures["request_bytes"], figures["answer_bytes"], size["hit"], size["log"], tables)


def per_core(cpu_us: float) -> float:
    """Return the hits a second that fill one core."""
    return 1e6 / cpu_us


def need(rate: float, known: Measured, assumed: Assumed) -> Need:
    """Return what `rate` hits a second at the peak take."""

    def cores(role: str) -> float:
        return rate * known.cpu_us[role] / 1e6 / assumed.core_busy_max

    collectors = math.ceil(cores("collector"))
    # One forwarder a host: it is full before the host's other cores are, or the host is.
    host_rate = min(
        per_core(known.cpu_us["forwarder"]) * assumed.core_busy_max,
        assumed.host_cores * assumed.core_busy_max * per_core(known.cpu_us["collector"] + known.cpu_us["forwarder"]),
    )
    workers = math.ceil(cores("worker"))
    replicated = cores("broker") * assumed.kafka_replicas  # a follower's copy is taken to cost what the leader's does
    clickhouse = cores("clickhouse") * assumed.clickhouse_replicas * (1 + assumed.query_share)
    mean = rate / assumed.peak_over_mean
    hits_month = mean * SECONDS_A_DAY * DAYS_A_MONTH
    kafka_gb = mean * SECONDS_A_DAY * assumed.kafka_retention_days * known.log * assumed.kafka_replicas / 1e9
    clickhouse_gb = hits_month * known.tables * assumed.clickhouse_replicas / 1e9
    kept_gb = kafka_gb + clickhouse_gb * assumed.clickhouse_retention_days / DAYS_A_MONTH
    all_cores = collectors + cores("forwarder") + replicated + workers + clickhouse
    billions = hits_month / BILLION
    return Need(
        rate=rate,
        collectors=collectors,
        edge_hosts=math.ceil(rate / host_rate),
        broker_cores=replicated,
        brokers=max(assumed.kafka_replicas, math.ceil(replicated / assumed.host_cores)),
        workers=workers,
        partitions=max(12, math.ceil(workers * assumed.partitions_a_worker / 12) * 12),
        clickhouse_cores=clickhouse,
        shards=math.ceil(clickhouse / assumed.clickhouse_replicas / assumed.clickhouse_cores_a_shard),
        network_mbit=rate * (known.request + known.answer) * 8 / 1e6,
        kafka_gb=kafka_gb,
        clickhouse_gb_month=clickhouse_gb,
        euro_cores=all_cores * assumed.price_core_month / billions,
        euro_disk=kept_gb * assumed.price_disk_gb_month / billions,
        euro_traffic=known.answer * assumed.price_traffic_out_gb,  # a billion bytes are a GB
    )
