"""The Kafka side of the protocol with one guard taken out, each as a patch of the product's code where it stands there.

`KAFKA_GUARDS` is the table; the simulation over `SimulatedKafka` must find each of them out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import KafkaConnectionError
from aiokafka.protocol.commit import OffsetCommitRequest
from support.guard_search import Guard
from support.simulated_hits import DAY_MS
from support.simulated_kafka import SimulatedKafka, SimulatedProducer
from support.simulated_kafka_reader import SimulatedCoordinator
from support.simulated_world import RULES

from consumers.log_reader import kafka_member
from consumers.log_reader.kafka_member import GroupMember
from consumers.log_reader.kafka_partition import KafkaPartitionLog
from consumers.log_reader.kafka_place import Committed, Place
from consumers.log_reader.port import FencedError, Registered
from consumers.recovery import Recovery
from consumers.rules import Rules
from consumers.session_state import SessionState
from consumers.worker import PartitionWorker
from ingest import forwarder
from schemas.limits import Limits

KAFKA = partial(SimulatedKafka, 2, holes=(0, 1, 0, 0, 3))
KEEPING = partial(KAFKA, keeps=True)  # retention would stop many a mutant before it does harm
STRICT = RULES.__class__(
    rules=Rules(Limits(sites=frozenset({"blog"}), event_age_ms_max=DAY_MS), {}),
    **{name: getattr(RULES, name) for name in RULES.__struct_fields__ if name != "rules"},
)


async def _commit(member: GroupMember, log: KafkaPartitionLog, fenced_by: tuple[int, str], place: Any) -> int:
    request = OffsetCommitRequest("hitstream", *fenced_by, -1, [("hits", [(log.partition, *place)])])
    response = await member._consumer._coordinator._send_req(request)
    return response.topics[0][1][0][1]


def commits_as_the_member_is_today(patch: pytest.MonkeyPatch) -> None:
    """A commit carries the generation that the member is in when it is sent, as `AIOKafkaConsumer.commit` does it."""

    async def commit(self: GroupMember, log: KafkaPartitionLog, offset: int, metadata: str) -> None:
        coordinator = self._consumer._coordinator
        await coordinator.ensure_coordinator_known()
        if await _commit(self, log, (coordinator.generation, coordinator.member_id), (offset, metadata)):
            raise self._fenced(RuntimeError("refused"))

    patch.setattr(GroupMember, "commit", commit)


def no_generation(patch: pytest.MonkeyPatch) -> None:
    """A commit is taken from anybody, as the group's own offsets tool sends it."""
    take = SimulatedKafka.commit

    def unfenced(self: SimulatedKafka, commit: Any) -> int:
        return take(self, commit._replace(generation=self.generation, member_id=next(iter(self.ids.values()))))

    patch.setattr(SimulatedKafka, "commit", unfenced)


def instance_instead_of_member(patch: pytest.MonkeyPatch) -> None:
    """Of a static member a commit says which instance it is, and not which life of it."""
    patch.setattr(SimulatedKafka, "fenced_by_member", False)


def goes_on_after_a_commit_without_answer(patch: pytest.MonkeyPatch) -> None:
    """A member whose commit got no answer stays, and reads in the same generation what is committed."""

    def fenced(self: GroupMember, error: Exception) -> FencedError:
        ours = [TopicPartition("hits", log.partition) for log in self.logs]
        self._end_logs()
        self._assigned(ours)
        return FencedError(str(error))

    patch.setattr(GroupMember, "_fenced", fenced)


def sends_a_commit_again(patch: pytest.MonkeyPatch) -> None:
    """A commit that got no answer is sent again until it gets one."""
    send = SimulatedCoordinator._send_req

    async def until_answered(self: SimulatedCoordinator, request: Any) -> Any:
        while True:
            try:
                return await send(self, request)
            except KafkaConnectionError:
                continue

    patch.setattr(SimulatedCoordinator, "_send_req", until_answered)


def the_end_is_not_in_the_commit(patch: pytest.MonkeyPatch) -> None:
    """The commit says where a batch begins alone; who is assigned the partition takes what is there by then."""
    place_of = kafka_member.place_of

    def to_the_end(where: str, committed: Committed | None, start: int, end: int, **how: Any) -> Place:
        place = place_of(where, committed, start, end, **how)
        return place._replace(registered=place.registered._replace(last=end - 1)) if place.registered else place

    patch.setattr(kafka_member, "place_of", to_the_end)


def the_end_is_a_count(patch: pytest.MonkeyPatch) -> None:
    """A batch's end is its beginning and how many records it has, as if offsets had no holes."""
    register = KafkaPartitionLog.register

    def counted(self: KafkaPartitionLog, batch: Registered) -> None:
        records = self._member._kafka.records[self.partition]
        count = sum(batch.first <= record.offset <= batch.last for record in records)
        register(self, batch._replace(last=batch.first + count - 1))

    patch.setattr(KafkaPartitionLog, "register", counted)


def acknowledged_when_it_is_registered(patch: pytest.MonkeyPatch) -> None:
    """What is committed is the offset behind the batch, as consumers commit it."""
    register = KafkaPartitionLog.register

    def behind(self: KafkaPartitionLog, batch: Registered) -> None:
        register(self, batch._replace(first=batch.last + 1, last=batch.last + 1))

    patch.setattr(KafkaPartitionLog, "register", behind)


def a_refusal_is_not_heard(patch: pytest.MonkeyPatch) -> None:
    """A worker whose commit was refused inserts its batch all the same."""
    register = KafkaPartitionLog.register

    def deaf(self: KafkaPartitionLog, batch: Registered) -> None:
        try:
            register(self, batch)
        except FencedError:
            return

    patch.setattr(KafkaPartitionLog, "register", deaf)


def places_are_remembered(patch: pytest.MonkeyPatch) -> None:
    """A member that gets a partition again goes on where it stood, without asking what is committed."""
    fetch, commit = SimulatedCoordinator.fetch_committed_offsets, GroupMember.commit
    known: dict[tuple[SimulatedCoordinator, TopicPartition], Committed] = {}

    async def remembered(self: SimulatedCoordinator, partitions: Any) -> Any:
        fetched = await fetch(self, [tp for tp in partitions if (self, tp) not in known])
        known.update({(self, tp): committed for tp, committed in fetched.items()})
        return {tp: known[self, tp] for tp in partitions if (self, tp) in known}

    async def remembering(self: GroupMember, log: KafkaPartitionLog, offset: int, metadata: str) -> None:
        await commit(self, log, offset, metadata)
        known[self._consumer._coordinator, TopicPartition("hits", log.partition)] = Committed(offset, metadata)

    patch.setattr(SimulatedCoordinator, "fetch_committed_offsets", remembered)
    patch.setattr(GroupMember, "commit", remembering)


def state_outlives_its_assignment(patch: pytest.MonkeyPatch) -> None:
    """A worker that gets a partition again goes on with the marks and sessions it had."""
    take_up = PartitionWorker.take_up
    known: dict[tuple[int, int], tuple[Any, Any]] = {}

    def taken_up(self: PartitionWorker, state: SessionState) -> None:
        take_up(self, state)
        key = id(self._store), self.log.partition
        self._marks, self._state = known.setdefault(key, (self._marks, self._state))

    patch.setattr(PartitionWorker, "take_up", taken_up)


def two_batches_in_flight(patch: pytest.MonkeyPatch) -> None:
    """A partition's second batch is sent before the first is acknowledged, and arrives before it."""
    batches = SimulatedProducer._batches

    def rounds(self: SimulatedProducer, runs: Mapping[int, Sequence[bytes]]) -> Iterator[list[Callable[[], None]]]:
        yield [batch for partition, run in runs.items() for batch in reversed(batches(self, partition, run))]

    patch.setattr(SimulatedProducer, "_rounds", rounds)


def going_on_after_a_time_out(patch: pytest.MonkeyPatch) -> None:
    """After an append that failed the forwarder reads on where it stood."""
    patch.setattr(forwarder._Spool, "rewind", lambda self: None)


def todays_rules(patch: pytest.MonkeyPatch) -> None:
    """A batch that is formed again is judged by the settings of the worker that does it."""
    patch.setattr(Recovery, "_rules_of", lambda _self, _registered, todays: todays)


def _on_kafka(
    line: str,
    without: Callable[[pytest.MonkeyPatch], None],
    needs: str,
    first: int = 0,
    *,
    stops: bool = False,
    **broker: Any,
) -> Guard:
    return Guard(line, without, needs, "drawn", {"log_of": partial(KEEPING, **broker)}, first, stops)


KAFKA_GUARDS = (
    _on_kafka("A commit is fenced at all.", no_generation, "stall", 30),
    _on_kafka(
        "A commit is fenced by the assignment its batch came with.",
        commits_as_the_member_is_today,
        "stall at find the coordinator",
        10,
        prompt=True,
    ),
    _on_kafka(
        "A static member that starts again is another member.",
        instance_instead_of_member,
        "kill at commit * block 0, land at insert events*, kill at insert batches*",
        20,
        static=True,
    ),
    _on_kafka(
        "A member whose commit got no answer leaves.",
        goes_on_after_a_commit_without_answer,
        "retry at commit * block 0, land at insert events*, kill at insert batches*",
        80,
    ),
    _on_kafka(
        "A commit that got no answer is not sent again.",
        sends_a_commit_again,
        "retry at commit * block 0, pass at insert batches*, land at insert events*, kill at insert batches*",
        75,
        no_answer=KafkaConnectionError,
    ),
    _on_kafka("The batch's end stands in the commit's metadata.", the_end_is_not_in_the_commit, "kill"),
    _on_kafka("Offsets have holes: an end is an offset.", the_end_is_a_count, "kill"),
    _on_kafka("The batch, not the offset behind it, is committed.", acknowledged_when_it_is_registered, "kill"),
    _on_kafka("A worker whose commit is refused does not insert.", a_refusal_is_not_heard, "stall", 30),
    _on_kafka(
        "What is committed is read at every assignment.",
        places_are_remembered,
        "rebalance",
        stops=True,
    ),
    _on_kafka("An assignment that is over takes its state with it.", state_outlives_its_assignment, "rebalance"),
    _on_kafka("One batch of a partition is in flight.", two_batches_in_flight, ""),
    _on_kafka("After a time-out the forwarder starts from the cursor.", going_on_after_a_time_out, "retry"),
    _on_kafka("A batch is judged by the rules it was registered under.", todays_rules, "kill")._replace(
        world={"log_of": KAFKA, "rules": (RULES, STRICT)}
    ),
)
