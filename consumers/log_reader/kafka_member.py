"""A member of the consumer group; the only file of this wing that imports aiokafka.

- A commit is fenced by the generation and the member id of the assignment its partition came with, whatever the member
  has become since: `AIOKafkaConsumer.commit` would use today's, and none at all once the member was expelled.
- A commit that is refused, or that gets no answer, is FencedError, never RetryError. In the second case the member
  leaves; the next one reads what is committed in a later generation, in which the old commit cannot land.
- `registered` and the place to start are read anew after every assignment, before any of its records is taken.
- A member that gets no records although there are some ends the process (aiokafka #1154, #703).
- Bounded: aiokafka holds one fetched answer per partition, `kafka_fetch_bytes_max` as compressed.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRebalanceListener, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.conn import collect_hosts, create_conn
from aiokafka.errors import (
    CorruptRecordException,
    IllegalGenerationError,
    IllegalStateError,
    KafkaError,
    NoError,
    OffsetOutOfRangeError,
    RebalanceInProgressError,
    RecordTooLargeError,
    UnknownMemberIdError,
    for_code,
)
from aiokafka.protocol.commit import OffsetCommitRequest

from consumers.log_reader.kafka_partition import (
    RECORDS_AHEAD_MAX,
    Assignment,
    KafkaPartitionLog,
    Member,
    Stalls,
    Taken,
    records_of,
)
from consumers.log_reader.kafka_place import Committed, check_count, place_of
from consumers.log_reader.port import FencedError
from schemas.errors import FatalError, RetryError
from schemas.kafka import connection, explained, reach
from schemas.settings import Settings

logger = logging.getLogger(__name__)

DEAD_LETTER_NEEDS = (AIOKafkaProducer, AIOKafkaAdminClient, NewTopic)  # kafka_dead_letter.py gets them here
REFUSED = (IllegalGenerationError, UnknownMemberIdError, RebalanceInProgressError)
FETCH_S_MAX = 1.0
FETCH_WAIT_MS = 100  # an idle broker answers a fetch after this; a question for the end waits behind it
NEVER_MS = 2**31 - 1
GETMANY_MARGIN_S = 1.0
WATCH_S_MAX = 5.0
RETRY_S = 0.1
LEAVE_S_MAX = 5.0

Expired = Callable[[int], None]


class GroupMember:
    """One member, from joining to leaving. Make it on the event loop it is to live on; `live` is its life.

    `asker` is what its partitions ask, from the worker's thread. `instance` names a static member.
    """

    def __init__(
        self, settings: Settings, asker: Member, instance: str | None, heartbeat_s: float, *, on_expired: Expired
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self.logs: tuple[KafkaPartitionLog, ...] = ()
        self.has_assignment = False
        self._settings = settings
        self._asker = asker
        self._topic = settings.kafka_topic
        self._group = settings.kafka_group
        self._options = connection(settings)
        self._instance = instance
        self._heartbeat_ms = int(heartbeat_s * 1000)
        self._on_expired = on_expired
        self._ending = asyncio.Event()
        self._reading = asyncio.Lock()
        self._error: RetryError | FatalError | None = None
        self._adopting: asyncio.Task[None] | None = None
        self._unassigned_since_s = time.monotonic()
        self._stalls = Stalls()
        self._consumer: AIOKafkaConsumer

    async def reach(self) -> None:
        """Return when a broker answers and the topic is as it should be. Raises RetryError, which says what to do."""
        timeout_s = 2 * self._settings.kafka_request_timeout_s
        try:
            async with asyncio.timeout(timeout_s):
                await _reach(self._settings)
                counts = await topic_counts(self._options)
                check_count(self._topic, counts.get(self._topic, 0), self._settings.partitions)
        except TimeoutError:
            raise RetryError(f"Kafka gave no answer within {timeout_s:g} s") from None
        except KafkaError as error:
            raise explained(error, self._settings.kafka_bootstrap_servers) from error

    async def live(self) -> None:
        """Join, and stay until stopped. Raises RetryError or FatalError when the member is of no use any longer."""
        self._consumer = self._make_consumer()
        self._consumer.subscribe([self._topic], listener=_Listener(self._revoked, self._assigned))
        joining = asyncio.create_task(self._join())
        period_s = min(self._settings.kafka_stall_timeout_s / 4, WATCH_S_MAX)
        try:
            while not self._ending.is_set():
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._ending.wait(), period_s)
                    break
                await self._watch(period_s)
        finally:
            self._end_logs()
            joining.cancel()
            await self._leave()
        if self._error:
            raise self._error

    def stop(self) -> None:
        """Let `live` end. From any thread."""
        with suppress(RuntimeError):  # the loop is closed already
            self.loop.call_soon_threadsafe(self._ending.set)
        self._end_logs()

    def _make_consumer(self) -> AIOKafkaConsumer:
        settings = self._settings
        rebalance_ms = int(settings.kafka_rebalance_timeout_s * 1000)
        # A broker answers a JoinGroup once all members have joined: the time-out of requests must outlast that.
        request_ms = max(self._options["request_timeout_ms"], rebalance_ms + 5_000)
        return AIOKafkaConsumer(
            **(self._options | {"request_timeout_ms": request_ms}),
            group_id=self._group,
            group_instance_id=self._instance,
            enable_auto_commit=False,
            auto_offset_reset="none",
            session_timeout_ms=int(settings.kafka_session_timeout_s * 1000),
            rebalance_timeout_ms=rebalance_ms,
            heartbeat_interval_ms=self._heartbeat_ms,
            max_poll_interval_ms=NEVER_MS,  # a worker may wait for ClickHouse for hours; `_watch` looks
            fetch_max_wait_ms=FETCH_WAIT_MS,
            max_partition_fetch_bytes=settings.kafka_fetch_bytes_max,
        )

    async def _join(self) -> None:
        try:
            await self._consumer.start()
        except KafkaError as error:
            self._break(error)

    async def _leave(self) -> None:
        consumer = self._consumer
        with suppress(TimeoutError, KafkaError, asyncio.CancelledError):
            await asyncio.wait_for(consumer.stop(), LEAVE_S_MAX)
        consumer._closed = True  # noqa: SLF001  as stop() says, when it could not finish
        with suppress(KafkaError):
            await consumer._client.close()  # noqa: SLF001  as above

    def _revoked(self) -> None:
        if self._adopting:
            self._adopting.cancel()
        self._end_logs()
        self.has_assignment = False
        self._unassigned_since_s = time.monotonic()

    def _assigned(self, partitions: Iterable[TopicPartition]) -> None:
        """Take up a new assignment; it must not be waited for here, where no heartbeats go out."""
        coordinator = self._consumer._coordinator  # noqa: SLF001  there is no public way to the generation
        assignment = Assignment(coordinator.generation, coordinator.member_id)
        if self._adopting:
            self._adopting.cancel()
        self._adopting = asyncio.create_task(self._adopt(assignment, sorted(partitions)))

    async def _adopt(self, assignment: Assignment, partitions: list[TopicPartition]) -> None:
        consumer = self._consumer
        try:
            coordinator = consumer._coordinator  # noqa: SLF001  `committed()` drops the metadata
            committed = await coordinator.fetch_committed_offsets(partitions)
            starts = await consumer.beginning_offsets(partitions) if partitions else {}
            ends = await consumer.end_offsets(partitions) if partitions else {}
            count = len(consumer.partitions_for_topic(self._topic) or ())
            check_count(self._topic, count, self._settings.partitions)
            logs = []
            async with self._reading:  # nobody takes records of this assignment before its place is set
                for tp in partitions:
                    found = committed.get(tp)
                    logs.append(self._log(tp, assignment, Committed(*found) if found else None, starts[tp], ends[tp]))
                self.logs = tuple(logs)
        except IllegalStateError:
            return  # revoked meanwhile
        except (KafkaError, RetryError, FatalError) as error:
            self._break(error)
            return
        self.has_assignment = True
        self._unassigned_since_s = 0.0
        logger.info("partitions that are ours: %s", " ".join(str(tp.partition) for tp in partitions) or "none")

    def _log(
        self, tp: TopicPartition, assignment: Assignment, committed: Committed | None, start: int, end: int
    ) -> KafkaPartitionLog:
        """Return an assigned partition, read from its place on. Raises FatalError, IllegalStateError."""
        where = f"partition {tp.partition} of {tp.topic!r}, group {self._group!r}"
        place = place_of(where, committed, start, end, skip_expired=self._settings.kafka_skip_expired)
        if place.expired:
            logger.error("%s: %d records before %d were deleted by retention: lost", where, place.expired, place.start)
            self._on_expired(place.expired)
        elif committed is None and start:
            logger.warning("%s: nothing is committed, the log starts at %d", where, start)
        self._consumer.seek(tp, place.start)
        return KafkaPartitionLog(self._asker, self._topic, tp.partition, assignment, place, end)

    async def take(self, log: KafkaPartitionLog, records_max: int) -> Taken:
        """See `kafka_partition.Member`; on the loop."""
        tp = TopicPartition(self._topic, log.partition)
        async with self._reading:
            self._check(log)
            fetched = await self._getmany([tp], 0, records_max)
            behind = max(self._consumer.highwater(tp) or 0, log.end_known) > log.position()
            if not fetched and behind and not log.over:  # they are on their way
                fetched = await self._getmany([tp], FETCH_S_MAX, records_max)
            self._check(log)
            return Taken(records_of(fetched.get(tp, ())), await self._consumer.position(tp))

    async def await_records(self, timeout_s: float) -> None:
        """Return when a partition was given records, at the latest after `timeout_s`."""
        async with self._reading:
            hungry = {TopicPartition(self._topic, log.partition): log for log in self.logs if not log.over}
            if not hungry:
                return
            fetched = await self._getmany(list(hungry), timeout_s, RECORDS_AHEAD_MAX)
            for tp, log in hungry.items():
                if tp not in fetched:
                    log.note_empty()
                elif not log.over:
                    log.put(Taken(records_of(fetched[tp]), await self._consumer.position(tp)))

    async def _getmany(self, partitions: list[TopicPartition], timeout_s: float, records_max: int) -> dict[Any, Any]:
        """Return what is fetched. Raises FencedError and FatalError.

        After a record that cannot be read aiokafka would go on behind those it had read with it: no second call.
        """
        asking = self._consumer.getmany(*partitions, timeout_ms=int(timeout_s * 1000), max_records=records_max)
        try:
            fetched: dict[Any, Any] = await asyncio.wait_for(asking, timeout_s + GETMANY_MARGIN_S)
        except TimeoutError:
            return {}
        except OffsetOutOfRangeError as error:  # retention was faster than the worker: the next assignment finds out
            raise self._fenced(error) from error
        except (CorruptRecordException, RecordTooLargeError) as error:
            fatal = FatalError(f"a record of {self._topic!r} cannot be read: {error}; see 'Damage' in docs/kafka.md")
            self._break(fatal)
            raise fatal from error
        except (KafkaError, IllegalStateError) as error:
            raise self._fenced(error) from error
        return fetched

    async def commit(self, log: KafkaPartitionLog, offset: int, metadata: str) -> None:
        """See `kafka_partition.Member`; on the loop."""
        settings = self._settings
        deadline_s = time.monotonic() + min(settings.kafka_session_timeout_s / 2, 3 * settings.kafka_request_timeout_s)
        coordinator = self._consumer._coordinator  # noqa: SLF001  its own commit is fenced by what it is today
        request = OffsetCommitRequest(
            self._group, *log.assignment, -1, [(self._topic, [(log.partition, offset, metadata)])]
        )
        while True:
            self._check(log)
            try:
                async with asyncio.timeout_at(asyncio.get_running_loop().time() + deadline_s - time.monotonic()):
                    await coordinator.ensure_coordinator_known()
                    self._check(log)
                    response = await coordinator._send_req(request)  # noqa: SLF001  as above
            except TimeoutError:
                raise self._fenced(KafkaError("a commit got no answer in time")) from None
            except KafkaError as raised:  # it may be taken yet, even after a second one that names the next batch
                raise self._fenced(raised) from raised
            error = for_code(response.topics[0][1][0][1])
            if error is NoError:
                return
            if error in REFUSED:  # heartbeats hear the same, and lead to the next assignment
                log.end_assignment()
                raise FencedError(f"the commit of {offset} was refused: {error.__name__}")
            if not error.retriable:
                raise self._fenced(error(f"a commit for group {self._group!r}"))
            if error.__name__.startswith("NotCoordinator") or "CoordinatorNotAvailable" in error.__name__:
                coordinator.coordinator_dead()
            await asyncio.sleep(RETRY_S)

    async def end_of(self, log: KafkaPartitionLog) -> int:
        """See `kafka_partition.Member`; on the loop."""
        self._check(log)
        tp = TopicPartition(self._topic, log.partition)
        highwater = self._consumer.highwater(tp)
        if highwater is not None and highwater > log.position():
            return int(highwater)
        try:
            return int((await self._consumer.end_offsets([tp]))[tp])
        except (KafkaError, IllegalStateError) as error:
            raise self._fenced(error) from error

    async def _watch(self, period_s: float) -> None:
        """Find out whether this member has silently stopped, and end it where it has."""
        now_s = time.monotonic()
        limit_s = self._settings.kafka_stall_timeout_s
        hungry = {log.partition: log for log in self.logs if not log.over and log.hungry_s(now_s, 2 * period_s)}
        self._stalls.forget_others(hungry.values())
        waits_s = limit_s + 2 * self._settings.kafka_rebalance_timeout_s
        with suppress(TimeoutError, KafkaError, IllegalStateError, RetryError):  # no broker: nothing can come from it
            async with asyncio.timeout(self._settings.kafka_request_timeout_s):
                if self._unassigned_since_s and now_s - self._unassigned_since_s > waits_s:
                    await _reach(self._settings)
                    self._break(FatalError("Kafka answers, but the group has given no assignment for too long"))
                if not hungry:
                    return
                ends = await self._consumer.end_offsets([TopicPartition(self._topic, number) for number in hungry])
                for tp, end in ends.items():
                    if self._stalls.is_stalled(hungry[tp.partition], end, now_s, limit_s):
                        place = f"partition {tp.partition} is read to {hungry[tp.partition].position()} of {end}"
                        self._break(FatalError(f"{place} and gives nothing for {limit_s:g} s: the client has stopped"))

    def _check(self, log: KafkaPartitionLog) -> None:
        if log.over:
            raise FencedError(f"partition {log.partition} is no longer ours")

    def _fenced(self, error: Exception) -> FencedError:
        """End this member: what is committed and what is ours is found out by the next one."""
        self._break(error)
        return FencedError(f"the group member ends: {error}")

    def _break(self, error: Exception) -> None:
        server = self._settings.kafka_bootstrap_servers
        known = error if isinstance(error, RetryError | FatalError) else explained(error, server)
        if self._error is None or isinstance(known, FatalError):
            self._error = known
        self._end_logs()
        self._ending.set()

    def _end_logs(self) -> None:
        for log in self.logs:
            log.end_assignment()
        self.logs = ()


async def log_ends(settings: Settings) -> dict[int, int]:
    """Return each partition's end; {} where there is no topic yet. Raises RetryError, which says what to do."""
    options = connection(settings)
    try:
        async with asyncio.timeout(settings.kafka_request_timeout_s):
            await _reach(settings)
            count = (await topic_counts(options)).get(settings.kafka_topic, 0)
            if not count:
                return {}
            check_count(settings.kafka_topic, count, settings.partitions)
            consumer = AIOKafkaConsumer(settings.kafka_topic, **options, group_id=None)
            try:
                await consumer.start()
                ends = await consumer.end_offsets([TopicPartition(settings.kafka_topic, n) for n in range(count)])
            finally:
                await consumer.stop()
            return {tp.partition: end for tp, end in ends.items()}
    except TimeoutError:
        raise RetryError(f"Kafka at {settings.kafka_bootstrap_servers} gives no answer") from None
    except KafkaError as error:
        raise explained(error, settings.kafka_bootstrap_servers) from error


async def topic_counts(options: dict[str, Any]) -> dict[str, int]:
    """Return every topic's partition count; asking for all topics never makes one. Raises KafkaError."""
    admin = AIOKafkaAdminClient(**options)
    try:
        await admin.start()
        return {topic["topic"]: len(topic["partitions"]) for topic in await admin.describe_topics()}
    finally:
        await admin.close()


async def _reach(settings: Settings) -> None:
    await reach(settings, collect_hosts(settings.kafka_bootstrap_servers, randomize=False), create_conn)


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka has no types
    """Hands the two events of a rebalance on."""

    def __init__(self, revoked: Callable[[], None], assigned: Callable[[Iterable[TopicPartition]], None]) -> None:
        self._revoked = revoked
        self._assigned = assigned

    def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        del revoked
        self._revoked()

    def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        self._assigned(assigned)
