"""The broker is away: the edge answers as before, the spool keeps the hits, and they are in the topic soon after."""

from __future__ import annotations

import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
from support.edge_host import EdgeHost
from support.kafka import HEAP_MIB, local_jars
from support.topic_judge import Topic, read_topic
from support.waiting import wait_until

from benchmarks.pixel_load import LoadReport, read_report
from benchmarks.results_file import write_result
from infra.kafka_server.broker import KafkaServer
from schemas.topics import HITS

DRAIN_S_MAX = 60.0
GATHERED_S_MAX = 30.0
RATIO_MAX = 1.2
WARM_UP_S = 30.0  # until the broker's code is compiled; seconds before count from then on
SPOOLED_BYTES = 600  # of a hit, at most; a second's hits in the spools are no backlog
APPEND_TIMES = {"log.message.timestamp.type": "LogAppendTime"}


class Load(NamedTuple):
    """Hits a second over so many connections, and how long before, during and after the outage."""

    rate: int
    connections: int
    before_s: float
    down_s: float
    after_s: float


class Times(NamedTuple):
    """When the broker was killed, started again, and answered again; seconds since 1970."""

    killed: float
    started: float
    answered: float


@contextmanager
def pixel_load(port: int, directory: Path, rate: int, connections: int) -> Iterator[None]:
    """Send hits for as long as the block runs."""
    command = [sys.executable, "-m", "benchmarks.pixel_load", str(port), str(directory)]
    command += ["--rate", str(rate), "--connections", str(connections)]
    process = subprocess.Popen(command)
    try:
        yield
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()


def live_through(kafka: KafkaServer, edge: EdgeHost, load: Load) -> Times:
    """Kill the broker, start it again, and return once the spool is drained and hits have gone on for a while."""
    steady_bytes = load.rate * SPOOLED_BYTES
    time.sleep(load.before_s)
    killed = time.time()
    kafka.kill()
    time.sleep(load.down_s)
    wait_until(lambda: edge.lag_bytes() > 2 * steady_bytes, GATHERED_S_MAX, edge.log_tail)  # hits gather in the spool
    started = time.time()
    kafka.start()
    kafka.wait_ready()
    answered = time.time()
    wait_until(lambda: edge.lag_bytes() < steady_bytes, 2 * DRAIN_S_MAX, edge.log_tail)
    time.sleep(load.after_s)
    return Times(killed, started, answered)


def run(tmp_path: Path, load: Load, *, short_lived: bool = False) -> tuple[Times, LoadReport, Topic]:
    """Return what happened when; fails unless every hit was acknowledged and is in the topic once."""
    with (
        KafkaServer(
            tmp_path / "kafka", local_jars(), heap_mib=HEAP_MIB, overrides=APPEND_TIMES, short_lived=short_lived
        ) as kafka,
        EdgeHost(tmp_path / "edge", kafka.bootstrap_servers) as edge,
    ):
        with pixel_load(edge.port, tmp_path, load.rate, load.connections):
            times = live_through(kafka, edge, load)
        assert edge.stop() == (0, 0), edge.log_tail()
        topic = read_topic(kafka.bootstrap_servers, HITS)
    report = read_report(tmp_path)
    check_each_once(topic, report)
    return times, report, topic


def check_each_once(topic: Topic, report: LoadReport) -> None:
    """Every hit was acknowledged, and stands in the topic under one name; nothing else does."""
    assert (report.refused, report.unanswered) == (0, 0)
    sent = len(report.latencies_us)
    assert sent
    assert all(report.latencies_us)
    assert topic.hits == sent
    assert topic.counts[:sent] == bytes([1]) * sent, "lost, or under two names"
    assert topic.gaps == 0


def p99s_us(report: LoadReport, since: float, until: float) -> list[int]:
    """Return the p99 of each second that lies wholly between two times."""
    return [p99 for began, _, p99 in report.seconds() if since <= began and began + 1 <= until]


@pytest.mark.timeout(180)
def test_a_short_outage_loses_nothing(tmp_path):
    run(tmp_path, Load(rate=500, connections=16, before_s=1.0, down_s=3.0, after_s=0.5), short_lived=True)


@pytest.mark.soak
@pytest.mark.timeout(1200)
def test_three_minutes_at_ten_thousand_hits_a_second(tmp_path):
    load = Load(rate=10_000, connections=128, before_s=WARM_UP_S + 90.0, down_s=180.0, after_s=10.0)
    times, report, topic = run(tmp_path, load)
    before = p99s_us(report, report.started_at + WARM_UP_S, times.killed)
    during = p99s_us(report, times.killed, times.started)
    figures = {
        "hits": topic.hits,
        "hits_per_s": load.rate,
        "resent": topic.resent,
        "down_s": round(times.started - times.killed, 1),
        "p99_ms_before": statistics.median(before) / 1000,
        "p99_ms_during": statistics.median(during) / 1000,
        "ratio": round(statistics.median(during) / statistics.median(before), 3),
        "seconds_before": len(before),
        "seconds_during": len(during),
        "broker_start_s": round(times.answered - times.started, 1),
        "drain_s": round(topic.stale_until_ms / 1000 - times.answered, 1),
    }
    print(figures)
    assert figures["seconds_during"] >= 178
    assert figures["ratio"] <= RATIO_MAX
    assert figures["drain_s"] <= DRAIN_S_MAX
    write_result("soak_broker_outage", figures)
