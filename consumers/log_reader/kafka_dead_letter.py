"""The dead letter on Kafka: topic `<kafka_topic>.rejected`, by default `hits.rejected`, made when it is missing.

- `put` returns when all letters are acknowledged by all in-sync replicas (`acks=all`). What goes wrong is RetryError,
  with what to do about it, and the next call starts with a new producer. What of a failed call was written is a repeat.
- The producer lives on an event loop in a thread of its own; nothing is held but what `put` was given.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress
from threading import Thread
from typing import Any

from consumers.dead_letter import Letter
from consumers.log_reader.kafka_member import DEAD_LETTER_NEEDS
from schemas.errors import RetryError
from schemas.kafka import connection, explained
from schemas.settings import Settings

logger = logging.getLogger(__name__)

REQUEST_BYTES_MAX = 1024 * 1024  # a letter is smaller (consumers/dead_letter.py), so any broker's default takes it
BATCH_BYTES_MAX = 256 * 1024
IN_FLIGHT_MAX = 500
END_S_MAX = 5.0
DAY_MS = 86_400_000
TOPIC_MADE = (0, 36)  # Kafka's error codes NONE and TOPIC_ALREADY_EXISTS

Producer, Admin, NewTopic = DEAD_LETTER_NEEDS


class KafkaDeadLetter:
    """Fills the port DeadLetter; it connects at the first `put`. Used by one thread; `close` ends it."""

    def __init__(self, settings: Settings) -> None:
        self.topic = f"{settings.kafka_topic}.rejected"
        self._settings = settings
        self._options = connection(settings)
        self._producer: Any = None
        self._loop = asyncio.new_event_loop()
        self._thread = Thread(target=self._loop.run_forever, name="dead-letter", daemon=True)
        self._thread.start()

    def put(self, records: Sequence[Letter]) -> None:
        """Return when all letters are kept. Raises RetryError."""
        asyncio.run_coroutine_threadsafe(self._put(records), self._loop).result()

    def close(self) -> None:
        """End the producer and its thread."""
        asyncio.run_coroutine_threadsafe(self._give_up(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _put(self, records: Sequence[Letter]) -> None:
        settings = self._settings
        try:
            async with asyncio.timeout(settings.kafka_delivery_timeout_s):
                producer = self._producer or await self._connect()
                for start in range(0, len(records), IN_FLIGHT_MAX):
                    some = records[start : start + IN_FLIGHT_MAX]
                    sent = [await producer.send(self.topic, value, key=key) for key, value in some]
                    await asyncio.gather(*sent)
        except Exception as error:
            await self._give_up()
            if isinstance(error, RetryError):
                raise
            raise explained(error, settings.kafka_bootstrap_servers) from error

    async def _connect(self) -> Any:  # noqa: ANN401  aiokafka's producer
        await self._make_topic()
        self._producer = Producer(
            **self._options,
            acks="all",
            enable_idempotence=True,
            compression_type="zstd",
            max_batch_size=BATCH_BYTES_MAX,
            max_request_size=REQUEST_BYTES_MAX,
        )
        await self._producer.start()
        return self._producer

    async def _make_topic(self) -> None:
        replicas = self._settings.kafka_replication
        admin = Admin(**self._options)
        try:
            await admin.start()
            if any(topic["topic"] == self.topic for topic in await admin.describe_topics()):
                return
            retention = {"retention.ms": str(self._settings.rejected_retention_days * DAY_MS)}
            topic = NewTopic(self.topic, self._settings.partitions, replicas, {} if replicas == -1 else None, retention)
            response = await admin.create_topics([topic])
            for _, code, *message in response.topic_errors:
                if code not in TOPIC_MADE:
                    why = message[0] if message and message[0] else f"error code {code}"
                    raise RetryError(f"topic {self.topic!r} cannot be made: {why}; make it, or allow it to this user")
            logger.info("topic %s made", self.topic)
        finally:
            await admin.close()

    async def _give_up(self) -> None:
        """End the producer without waiting for what it could not deliver, which `stop` would do for ever."""
        producer, self._producer = self._producer, None
        if producer is None:
            return
        producer._closed = True  # noqa: SLF001  what stop() does first
        with suppress(Exception):  # it is of no use any longer, whatever its end says
            async with asyncio.timeout(END_S_MAX):
                await producer._sender.close()  # noqa: SLF001  what stop() does after waiting
        with suppress(Exception):  # as above
            await producer.client.close()
