"""A broker that stops answering, or dies, under the forwarder's hands: nothing lost, nothing out of order."""

import asyncio
import os
import signal
import time

import pytest
from confluent_kafka import Consumer, TopicPartition
from support.kafka import HEAP_MIB, local_jars

from infra.kafka_server.broker import KafkaServer
from ingest.log_writer.kafka import KafkaLogWriter
from schemas.errors import RetryError
from schemas.hit import PREFIX
from schemas.settings import Settings

HITS = 300


@pytest.fixture
def broker(tmp_path):
    with KafkaServer(tmp_path / "kafka", local_jars(), heap_mib=HEAP_MIB, tied=True, short_lived=True) as server:
        yield server
        if server.is_running:
            os.kill(server.pid, signal.SIGCONT)


def hit(serial):
    return PREFIX + b'%016x","serial":%d}' % (serial, serial)


def serials(servers):
    """Return what stands in partition 0, in order."""
    consumer = Consumer({"bootstrap.servers": servers, "group.id": "judge", "enable.auto.commit": False})
    partition = TopicPartition("hits", 0, 0)
    consumer.assign([partition])
    _, end = consumer.get_watermark_offsets(partition, 20)
    found = []
    try:
        while len(found) < end:
            message = consumer.poll(20)
            assert message is not None
            found.append(int(message.key(), 16))
    finally:
        consumer.close()
    return found


@pytest.mark.timeout(120)
def test_a_silent_broker_and_a_killed_one(broker, tmp_path):
    settings = Settings(
        data_dir=tmp_path / "data",
        kafka_bootstrap_servers=broker.bootstrap_servers,
        partitions=2,
        kafka_request_timeout_s=1.0,
        kafka_delivery_timeout_s=1.5,
    )
    asyncio.run(_live_through_faults(broker, settings))
    found = serials(broker.bootstrap_servers)
    first_seen = list(dict.fromkeys(found))
    assert first_seen == list(range(HITS)), "lost, or out of order"
    assert set(found) == set(range(HITS))


async def _live_through_faults(broker, settings):
    """Append as the forwarder does, from a cursor that moves only when `append` returned."""
    writer = KafkaLogWriter.open(settings)
    cursor, failures = 0, []
    silent_at, killed_at = 60, 180
    resume = None
    while cursor < HITS:
        if cursor >= silent_at:
            silent_at = HITS + 1
            os.kill(broker.pid, signal.SIGSTOP)
            resume = time.monotonic() + 4.0
        if cursor >= killed_at:
            killed_at = HITS + 1
            await asyncio.to_thread(broker.kill)
            with pytest.raises(RetryError):
                await writer.append({0: [hit(cursor)]})
            with pytest.raises(RetryError, match="nothing listens there"):
                await writer.append({0: [hit(cursor)]})
            broker.start()
            await asyncio.to_thread(broker.wait_ready)
        started = time.monotonic()
        try:
            await writer.append({0: [hit(serial) for serial in range(cursor, min(cursor + 20, HITS))]})
        except RetryError as error:
            failures.append(str(error))
            assert time.monotonic() - started < 10, "a failing append must end"
            if resume and time.monotonic() > resume:
                os.kill(broker.pid, signal.SIGCONT)
                resume = None
            continue
        cursor = min(cursor + 20, HITS)
    assert failures
    assert "did not acknowledge within 1.5 s; sending again" in failures[0]
    await writer.close()
