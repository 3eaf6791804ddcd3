"""Kafka as the forwarder writes it; the only file of this wing that imports aiokafka.

- One batch of a partition is in flight at a time, `acks=all`, idempotent: what a partition gets is in order.
- `append` returns when everything is acknowledged. An idempotent batch never expires by itself, so there is a time-out;
  after it, and after any other failure, the producer is given up and the caller starts again from its cursor with a new
  one. What of the old one still reaches the broker is a repeat, or the start of what is sent next, never a later
  number before an earlier one; the worker drops repeats.
- Bounded: nothing is held but what `append` was given.
- The partition count is fixed when the topic is made, and remembered in `DATA/forwarder/kafka.json`. While topic,
  setting and memory differ nothing is sent, and the error says what to do (DESIGN, invariant 4).
- Whatever is wrong with the brokers is RetryError: it is set right there, and then the forwarder goes on.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.client import AIOKafkaClient
from aiokafka.conn import collect_hosts, create_conn
from aiokafka.errors import KafkaError, MessageSizeTooLargeError, NoError, TopicAlreadyExistsError, for_code

from infra.journal.cursor import StateDamageError, StateFile
from ingest.forwarder_cursor import forwarder_directory
from schemas.errors import FatalError, RetryError
from schemas.hit import KEY_END, KEY_START, PREFIX
from schemas.kafka import connection, explained, reach
from schemas.settings import Settings

logger = logging.getLogger(__name__)

RECORD_OVERHEAD_BYTES = 4096  # a batch's header, a record's, its key; and what zstd adds to bytes it cannot shrink
BROKER_MESSAGE_BYTES_MAX = 1_048_588  # Kafka's default of max.message.bytes
METADATA_POLL_S = 0.05
GIVE_UP_S_MAX = 15.0


class KafkaLogWriter:
    """Fills the LogWriter port with a Kafka topic. Use `open`; it connects at the first `append`, an empty one too."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._topic = settings.kafka_topic
        self._options = connection(settings)
        self._batch_bytes_max = settings.kafka_batch_bytes_max
        self._producer: AIOKafkaProducer | None = None
        directory = forwarder_directory(settings.data_dir)
        self._memory = StateFile(directory / "kafka.json", disk=settings.sync == "disk")

    @classmethod
    def open(cls, settings: Settings) -> KafkaLogWriter:
        """Return the writer. Raises FatalError when the setting `partitions` was another one when the topic was new."""
        writer = cls(settings)
        made_with = writer._remembered().get(settings.kafka_topic)
        if made_with not in (None, settings.partitions):
            raise FatalError(
                f"topic {settings.kafka_topic!r} was filled with {made_with} partitions, the setting `partitions` says "
                f"{settings.partitions}. The count of a log is fixed: set HITSTREAM_PARTITIONS={made_with} (or "
                f"partitions = {made_with} in hitstream.toml)"
            )
        return writer

    @property
    def partitions(self) -> int:
        """How many partitions the log has."""
        return self._settings.partitions

    async def append(self, runs: Mapping[int, Sequence[bytes]]) -> None:
        """Append each partition's hits. See LogWriter; RetryError says what is wrong and what to do about it."""
        producer = await self._connected()
        self._check_count(len(producer.client.cluster.partitions_for_topic(self._topic) or ()))
        sending = [asyncio.create_task(self._send(producer, number, run)) for number, run in runs.items() if run]
        if not sending:
            return
        try:
            done, late = await asyncio.wait(
                sending, timeout=self._settings.kafka_delivery_timeout_s, return_when=asyncio.FIRST_EXCEPTION
            )
        except asyncio.CancelledError:
            for task in sending:
                task.cancel()
            await self._give_up()
            raise
        error = next((task.exception() for task in done if task.exception()), None)
        if error is None and not late:
            return
        for task in late:
            task.cancel()
        await asyncio.gather(*sending, return_exceptions=True)
        await self._give_up()
        if isinstance(error, KafkaError):
            raise self._explained(error) from error
        if error is not None:
            raise error
        timeout_s = self._settings.kafka_delivery_timeout_s
        raise RetryError(f"{self._where()} did not acknowledge within {timeout_s:g} s; sending again")

    async def close(self) -> None:
        """Close; nothing may be under way."""
        await self._give_up()

    async def _send(self, producer: AIOKafkaProducer, partition: int, run: Sequence[bytes]) -> None:
        """Send one partition's hits, batch by batch, each acknowledged before the next is sent."""
        batch = producer.create_batch()
        for hit in run:
            key = hit[KEY_START:KEY_END] if hit.startswith(PREFIX) and len(hit) > KEY_END else None
            if batch.append(key=key, value=hit, timestamp=None) is None:
                await (await producer.send_batch(batch, self._topic, partition=partition))
                batch = producer.create_batch()
                batch.append(key=key, value=hit, timestamp=None)  # a batch takes its first record whatever its size
        await (await producer.send_batch(batch, self._topic, partition=partition))

    async def _connected(self) -> AIOKafkaProducer:
        if self._producer is not None:
            return self._producer
        timeout_s = 2 * self._settings.kafka_request_timeout_s
        try:
            async with asyncio.timeout(timeout_s):
                await reach(
                    self._settings, collect_hosts(self._options["bootstrap_servers"], randomize=False), create_conn
                )
                await self._prepare_topic()
                self._producer = await self._start_producer()
        except TimeoutError:
            raise RetryError(f"{self._where()} gave no answer within {timeout_s:g} s") from None
        except KafkaError as error:
            raise self._explained(error) from error
        return self._producer

    async def _prepare_topic(self) -> None:
        """See that the topic is there, has the right partitions, and takes hits of every size that is kept."""
        admin = AIOKafkaAdminClient(**self._options)
        try:
            await admin.start()
            count = await self._count(admin)
            if not count:
                await self._create_topic(admin)
                while not (count := await self._count(admin)):  # noqa: ASYNC110  the broker becomes ready
                    await asyncio.sleep(METADATA_POLL_S)
            self._check_count(count)
            await self._check_size(admin)
        finally:
            await admin.close()
        self._remember(count)

    async def _count(self, admin: AIOKafkaAdminClient) -> int:
        """Return how many partitions the topic has; 0: it is not there. Asking for all topics never makes one."""
        for topic in await admin.describe_topics():
            if topic["topic"] == self._topic:
                return len(topic["partitions"])
        return 0

    async def _create_topic(self, admin: AIOKafkaAdminClient) -> None:
        needed = self._message_bytes()
        configs = {"max.message.bytes": str(needed)} if needed > BROKER_MESSAGE_BYTES_MAX else {}
        replicas = self._settings.kafka_replication
        topic = NewTopic(self._topic, self.partitions, replicas, {} if replicas == -1 else None, configs)
        response = await admin.create_topics([topic])
        for _, code, *message in response.topic_errors:
            error = for_code(code)
            if error is NoError:
                logger.info("topic %s made with %d partitions", self._topic, self.partitions)
            elif error is not TopicAlreadyExistsError:
                raise error(f"topic {self._topic!r} cannot be made: {message[0] if message else ''}")

    def _check_count(self, count: int) -> None:
        if count == self.partitions:
            return
        raise RetryError(
            f"topic {self._topic!r} at {self._where()} has {count} partitions, the setting `partitions` says "
            f"{self.partitions}; nothing is sent. The count is fixed when the topic is made: set "
            f"HITSTREAM_PARTITIONS={count} if hits were never sent with another count, "
            "else see 'The partition count' in docs/kafka.md"
        )

    async def _check_size(self, admin: AIOKafkaAdminClient) -> None:
        resource = ConfigResource(ConfigResourceType.TOPIC, self._topic, {"max.message.bytes": None})
        for response in await admin.describe_configs([resource]):
            for code, _, _, _, entries in response.resources:
                limit = next((int(entry[1]) for entry in entries if entry[0] == "max.message.bytes"), 0)
                if for_code(code) is not NoError or not limit:
                    return  # not ours to read; the broker will say so if a hit is too large
                if limit < self._message_bytes():
                    raise self._explained(MessageSizeTooLargeError(f"its max.message.bytes is {limit}"))
                limit -= RECORD_OVERHEAD_BYTES
                self._batch_bytes_max = min(self._settings.kafka_batch_bytes_max, limit)

    def _message_bytes(self) -> int:
        """Return the size of the largest batch that must go through: one of the largest hit alone."""
        return self._settings.hit_bytes_max + RECORD_OVERHEAD_BYTES

    async def _start_producer(self) -> AIOKafkaProducer:
        producer = AIOKafkaProducer(
            **self._options,
            acks="all",
            enable_idempotence=True,
            compression_type="zstd",
            max_batch_size=self._batch_bytes_max,
            max_request_size=max(self._batch_bytes_max, self._message_bytes()),
        )
        try:
            await producer.start()
            await producer.partitions_for(self._topic)
        except BaseException:
            await self._end(producer)
            raise
        return producer

    async def _give_up(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            await self._end(producer)

    async def _end(self, producer: AIOKafkaProducer) -> None:
        """End a producer without waiting for what it could not deliver, which `stop` would do for ever."""
        producer._closed = True  # noqa: SLF001  what stop() does first
        with suppress(TimeoutError, KafkaError):
            async with asyncio.timeout(GIVE_UP_S_MAX):
                await producer._sender.close()  # noqa: SLF001  what stop() does after waiting
        client: AIOKafkaClient = producer.client
        with suppress(KafkaError):
            await client.close()

    def _explained(self, error: KafkaError) -> RetryError:
        if isinstance(error, MessageSizeTooLargeError):
            needed = self._message_bytes()
            return RetryError(
                f"topic {self._topic!r} at {self._where()} does not take hits of {self._settings.hit_bytes_max} bytes "
                f"({error}): set its max.message.bytes to {needed} or more (kafka-configs.sh --alter --entity-type "
                f"topics --entity-name {self._topic} --add-config max.message.bytes={needed}), "
                "or lower HITSTREAM_HIT_BYTES_MAX"
            )
        return explained(error, self._settings.kafka_bootstrap_servers)

    def _where(self) -> str:
        return f"Kafka at {self._settings.kafka_bootstrap_servers}"

    def _remembered(self) -> dict[str, Any]:
        try:
            return self._memory.read() or {}
        except StateDamageError as error:
            logger.warning("%s: the partition count is taken from the topic again", error)
            return {}

    def _remember(self, count: int) -> None:
        known = self._remembered()
        if known.get(self._topic) != count:
            try:
                self._memory.path.parent.mkdir(parents=True, exist_ok=True)
                self._memory.write({**known, self._topic: count})
            except OSError as error:
                raise RetryError(f"{self._memory.path} cannot be written: {error}") from error
