"""The box through a real Kafka: broker, forwarder and worker killed; each hit in `events` exactly once."""

from __future__ import annotations

import asyncio
import os
import signal
import time

import pytest
from support.box import Box
from support.kafka import HEAP_MIB, local_jars
from support.promise import check_each_once, check_ledger, check_sessions

from benchmarks.http_sender import KILL_TEST_PACE, Target, send_until
from benchmarks.steady import steady_hits
from infra.kafka_server.broker import KafkaServer

HITS = 2_000
# Timings as short as a broker allows, so that a killed worker's partitions move within the test.
QUICK = {"kafka_session_timeout_s": 3, "kafka_rebalance_timeout_s": 5, "kafka_request_timeout_s": 3}


async def send_through(box: Box, kills) -> tuple:
    """Send hits until every kill is done and at least HITS were answered."""
    stop, enough = asyncio.Event(), asyncio.Event()

    def progress(done: int) -> None:
        if done >= HITS:
            enough.set()

    requests = steady_hits(4, int(time.time() * 1000))
    pace = KILL_TEST_PACE._replace(rate_per_s=300.0)
    sender = asyncio.create_task(send_until(stop, requests, Target("127.0.0.1", box.port), pace, progress))
    try:
        await asyncio.to_thread(kills)
        await asyncio.wait([sender, asyncio.create_task(enough.wait())], return_when=asyncio.FIRST_COMPLETED)
    finally:
        stop.set()
        report = await sender
    assert not report.gave_up, report.gave_up
    return report


def kill_child(box: Box, role: str) -> None:
    deadline = time.monotonic() + 20
    while not (pids := box.children(role)):
        assert time.monotonic() < deadline, f"no {role} runs\n{box.log_tail()}"
        time.sleep(0.05)
    os.kill(pids[0], signal.SIGKILL)


def wait_loaded(box: Box, more_than: int) -> int:
    """Return how many rows there are once there are more: the way through Kafka is open."""
    deadline = time.monotonic() + 60
    while (count := box.query("SELECT count() AS n FROM events")[0]["n"]) <= more_than:
        assert time.monotonic() < deadline, f"nothing comes through\n{box.log_tail()}"
        time.sleep(0.1)
    return count


@pytest.mark.timeout(150)
def test_broker_forwarder_and_worker_killed(tmp_path):
    with (
        KafkaServer(tmp_path / "kafka", local_jars(), heap_mib=HEAP_MIB) as kafka,
        Box(tmp_path / "box", kafka=kafka.bootstrap_servers, collectors=1, workers=2, **QUICK) as box,
    ):

        def kills() -> None:
            loaded = wait_loaded(box, 0)
            kafka.kill()
            time.sleep(1.0)  # hits gather in the spool meanwhile
            kafka.start()
            kafka.wait_ready()
            loaded = wait_loaded(box, loaded)
            kill_child(box, "forwarder")
            loaded = wait_loaded(box, loaded)
            kill_child(box, "worker")
            wait_loaded(box, loaded)

        report = asyncio.run(send_through(box, kills))
        ledger = check_ledger(box)
        check_each_once(box, report.acknowledged, report.unknown)
        check_sessions(box)
        assert report.hits_acknowledged >= HITS
        assert ledger["inserted"] >= report.hits_acknowledged
        assert box.query("SELECT uniqExact(topic) AS n FROM batches") == [{"n": 1}]
        assert box.stop() == 0, box.log_tail()
