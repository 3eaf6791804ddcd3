"""The Kafka reader in a simulation: the product's own group member and partitions; aiokafka and its loop are played.

What `KafkaLogReader` does from the worker's thread, `SimulatedKafkaReader` does in place: it runs the member's
coroutines to their end, which never wait for anything real. A member of no use any longer is followed by another.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable, Sequence
from contextlib import nullcontext, suppress
from functools import cache
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from aiokafka import TopicPartition
from aiokafka.errors import IllegalStateError, OffsetOutOfRangeError
from support.simulated_edge import finished

from consumers.log_reader import kafka_member
from consumers.log_reader.kafka_member import GroupMember
from consumers.log_reader.kafka_partition import KafkaPartitionLog, Taken
from consumers.log_reader.kafka_place import Committed
from consumers.log_reader.port import FencedError, Record
from schemas.errors import FatalError, RetryError
from schemas.settings import Settings

if TYPE_CHECKING:
    from support.simulated_kafka import SimulatedKafka


@cache  # making settings takes longer than a whole run
def settings_of(partitions: int) -> Settings:
    """Return the settings of a member."""
    return Settings(kafka_bootstrap_servers="simulated:1", partitions=partitions)


class SimulatedCoordinator:
    """aiokafka's group coordinator as one member has it: what it knows of itself, and its requests."""

    def __init__(self, kafka: SimulatedKafka) -> None:
        self.generation = -1
        self.member_id = ""
        self._kafka = kafka

    async def ensure_coordinator_known(self) -> None:
        self._kafka.chaos.point("find the coordinator")

    def coordinator_dead(self) -> None:
        return

    async def fetch_committed_offsets(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, Committed]:
        generation = self.generation
        self._kafka.chaos.point("fetch committed offsets")
        if generation != self.generation:  # who waited for this was cancelled
            raise asyncio.CancelledError
        return {tp: self._kafka.committed[tp.partition] for tp in partitions if tp.partition in self._kafka.committed}

    async def _send_req(self, request: Any) -> Any:
        """A commit."""
        from support.simulated_kafka import Commit  # noqa: PLC0415  it imports this module

        ((_, ((partition, offset, metadata),)),) = request._topics
        fenced_by = request._consumer_group_generation_id, request._consumer_id
        commit = Commit(*fenced_by, partition, offset, metadata)
        codes: list[int] = []
        name = f"commit {partition} {offset} {metadata} in {fenced_by}"
        try:
            take = [lambda: codes.append(self._kafka.commit(commit))]
            self._kafka.chaos.blocks(name, iter(take), (BaseException,))
        except RetryError:
            raise self._kafka.no_answer from None
        return SimpleNamespace(topics=[("hits", [(partition, codes[0])])])


class SimulatedConsumer:
    """aiokafka's consumer as far as a group member uses it."""

    def __init__(self, kafka: SimulatedKafka) -> None:
        self._kafka = kafka
        self._positions: dict[TopicPartition, int] = {}
        self._coordinator = SimulatedCoordinator(kafka)

    def partitions_for_topic(self, _: str) -> set[int]:
        return set(self._kafka.records)

    async def beginning_offsets(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        return {tp: self._kafka.starts[tp.partition] for tp in partitions}

    async def end_offsets(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        return {tp: self._kafka.ends[tp.partition] for tp in partitions}

    def highwater(self, tp: TopicPartition) -> int:
        return self._kafka.ends[tp.partition]

    def revoke(self) -> None:
        self._positions.clear()

    def seek(self, tp: TopicPartition, offset: int) -> None:
        self._positions[tp] = offset

    async def position(self, tp: TopicPartition) -> int:
        if tp not in self._positions:
            raise IllegalStateError(f"{tp} is not assigned")
        return self._positions[tp]

    async def getmany(self, *partitions: TopicPartition, timeout_ms: int, max_records: int) -> dict[Any, list[Record]]:
        self._kafka.chaos.point("fetch")
        fetched = {}
        for tp in partitions:
            position = await self.position(tp)
            if position < self._kafka.starts[tp.partition]:
                raise OffsetOutOfRangeError(tp)
            records = [record for record in self._kafka.records[tp.partition] if record.offset >= position]
            some = records[:max_records]
            self._positions[tp] = some[-1].offset + 1 if len(some) < len(records) else self._kafka.ends[tp.partition]
            if some:
                fetched[tp] = some
        return fetched


class SimulatedKafkaReader:
    """Fills LogReader as the member `name`, and what its partitions ask (`kafka_partition.Member`)."""

    def __init__(self, kafka: SimulatedKafka, name: str) -> None:
        self._kafka = kafka
        self._name = name
        self._settings = settings_of(kafka.partitions)
        self._tasks: list[Coroutine[Any, Any, None]] = []
        self._late = False
        self._member = self._new_member()

    def assigned(self) -> Sequence[KafkaPartitionLog]:
        """Return the partitions that are ours, as far as we know."""
        if self._member._ending.is_set():
            if isinstance(self._member._error, FatalError):
                raise self._member._error
            self.close()
            self._member = self._new_member()
            self._kafka.rejoin(self._name)
        if self._is_news() and self._late:
            if self._name not in self._kafka.ids:
                self._kafka.rejoin(self._name)
            self.hear()
        self._late = self._is_news()
        self._run_tasks()
        return [log for log in self._member.logs if not log.over]

    @property
    def knows_its_share(self) -> bool:
        """Whether the member is of use, and works on what the group has given it."""
        return not (self._member._ending.is_set() or self._is_news() or self._tasks)

    def hear(self) -> None:
        """Let the member's own thread hear of the rebalance: everything is revoked, then assigned anew."""
        consumer = self._member._consumer
        if not self._is_news():
            return
        self._member._revoked()
        consumer.revoke()
        coordinator = consumer._coordinator
        coordinator.generation, coordinator.member_id = self._now()
        self._tasks.clear()
        with self._played():
            self._member._assigned([TopicPartition("hits", number) for number in self._kafka.shares[self._name]])

    def wait(self, timeout_s: float) -> None:
        with suppress(FencedError):
            self._run(self._member.await_records(timeout_s))

    def close(self) -> None:
        """Leave everything as it is, as a death does."""
        for task in self._tasks:
            task.close()
        self._tasks.clear()

    def take(self, log: KafkaPartitionLog, records_max: int) -> Taken:
        return self._run(self._member.take(log, records_max))

    def commit(self, log: KafkaPartitionLog, offset: int, metadata: str) -> None:
        self._run(self._member.commit(log, offset, metadata))

    def end_of(self, log: KafkaPartitionLog) -> int:
        return self._run(self._member.end_of(log))

    def _now(self) -> tuple[int, str]:
        return self._kafka.generation, self._kafka.ids.get(self._name, "")

    def _is_news(self) -> bool:
        coordinator = self._member._consumer._coordinator
        return (coordinator.generation, coordinator.member_id) != self._now()

    def _new_member(self) -> GroupMember:
        with self._played():
            member = GroupMember(self._settings, self, None, 1.0, on_expired=self._expired)
        member._consumer = SimulatedConsumer(self._kafka)
        return member

    def _expired(self, count: int) -> None:
        raise AssertionError(f"{count} records were deleted before they were loaded")

    def _run_tasks(self) -> None:
        while self._tasks:
            with suppress(asyncio.CancelledError):
                self._run(self._tasks.pop())

    def _run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        with self._played():
            return finished(coroutine)

    def _played(self) -> Any:
        """Put a loop into the member's module on which nothing waits; its tasks run when the worker asks next."""

        def create_task(coroutine: Coroutine[Any, Any, None]) -> SimpleNamespace:
            self._tasks.append(coroutine)
            return SimpleNamespace(cancel=lambda: coroutine.cr_running or coroutine.close())

        async def at_once(coroutine: Coroutine[Any, Any, Any], _: float) -> Any:
            return await coroutine

        async def sleep(_: float) -> None:
            return

        loop = SimpleNamespace(
            Event=asyncio.Event,
            Lock=asyncio.Lock,
            get_running_loop=lambda: SimpleNamespace(time=lambda: 0.0),
            create_task=create_task,
            wait_for=at_once,
            sleep=sleep,
            timeout_at=lambda _: nullcontext(),
        )
        return patch.object(kafka_member, "asyncio", loop)
