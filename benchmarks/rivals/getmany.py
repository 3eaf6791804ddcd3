"""The least that a Python consumer of Kafka does: aiokafka's `getmany`, and `orjson.loads` of every record."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.connection import Connection

import orjson
from aiokafka import AIOKafkaConsumer, TopicPartition

from consumers.log_reader.kafka_member import FETCH_WAIT_MS
from schemas.kafka import connection
from schemas.settings import Settings

GETMANY_MS = 1_000


def be_baseline(pipe: Connection, settings: Settings, core: int) -> None:
    """Serve as the baseline's process: a number of records is answered with the CPU seconds that reading took.

    What was read beyond that number is taken off the next one.
    """
    os.sched_setaffinity(0, {core})
    loop = asyncio.new_event_loop()
    consumer = loop.run_until_complete(_consumer(settings))
    ahead = 0
    while count := pipe.recv():
        began_s = time.process_time()
        ahead = loop.run_until_complete(_read(consumer, count - ahead))
        pipe.send(time.process_time() - began_s)
    loop.run_until_complete(consumer.stop())


async def _consumer(settings: Settings) -> AIOKafkaConsumer:
    consumer = AIOKafkaConsumer(
        **connection(settings),
        fetch_max_wait_ms=FETCH_WAIT_MS,
        max_partition_fetch_bytes=settings.kafka_fetch_bytes_max,
        auto_offset_reset="earliest",
    )
    await consumer.start()
    consumer.assign([TopicPartition(settings.kafka_topic, number) for number in range(settings.partitions)])
    return consumer


async def _read(consumer: AIOKafkaConsumer, count: int) -> int:
    """Read so many records; return how many more it were."""
    while count > 0:
        for records in (await consumer.getmany(timeout_ms=GETMANY_MS)).values():
            for record in records:
                orjson.loads(record.value)
            count -= len(records)
    return -count


@contextmanager
def baseline(settings: Settings, core: int) -> Iterator[Connection]:
    """Run the baseline on a core; yield the pipe to it."""
    context = get_context("spawn")
    pipe, theirs = context.Pipe()
    started = context.Process(target=be_baseline, args=(theirs, settings, core), daemon=True)
    started.start()
    theirs.close()
    try:
        yield pipe
    finally:
        pipe.send(0)
        started.join(10)
