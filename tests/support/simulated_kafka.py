"""Apache Kafka in memory, as far as the promise depends on it: a topic, a consumer group, and a producer.

It behaves as the real one does (tests/consumers/test_log_reader_kafka.py holds that to the same):
- Offsets have holes, before a batch and behind the last one: markers of transactions, and what compaction left empty.
  Records before the committed offset are deleted at once, or never; to read where there are none is an error.
- A group has a generation and its members' ids. A rebalance begins a new generation; who is not asked is no member any
  more, and does not know. A static member that starts again takes its former self's place, under a new id.
- A commit is taken if its generation and member id are the group's now, whatever partition it is for. It may be lost,
  be taken although the answer is lost, or arrive when nobody waits for it any more.
- One batch a partition is in flight; one that was given up may arrive later.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import chain, repeat, zip_longest
from typing import NamedTuple

from support.simulated_chaos import Chaos, Killed
from support.simulated_kafka_reader import SimulatedKafkaReader

from consumers.log_reader.kafka_place import Committed, registered_of
from consumers.log_reader.port import Record, Registered
from schemas.errors import RetryError
from schemas.hit import KEY_END, KEY_START

NO_ERROR, ILLEGAL_GENERATION, UNKNOWN_MEMBER = 0, 22, 25
BATCHES_PER_RUN = 2


class Commit(NamedTuple):
    """A request to commit an offset, with what fences it."""

    generation: int
    member_id: str
    partition: int
    offset: int
    metadata: str


class SimulatedKafka:
    """One topic and one group. `holes` are how many offsets are left out, one number before and one behind each batch.

    With `static` members their names are instance ids. With `prompt` a member's own thread hears of a rebalance at
    once, whatever its worker does just then; without, when the worker asks the second time. `no_answer` is what a
    client gets whose commit has none: the time is over, or the connection gone. A log that `keeps` deletes no record.
    """

    fenced_by_member = True

    def __init__(
        self,
        partitions: int,
        chaos: Chaos,
        *,
        holes: Sequence[int] = (0,),
        static: bool = False,
        prompt: bool = False,
        no_answer: type[Exception] = TimeoutError,
        keeps: bool = False,
    ) -> None:
        self.partitions = partitions
        self.chaos = chaos
        self.static = static
        self.prompt = prompt
        self.no_answer = no_answer
        self._keeps = keeps
        self.records: dict[int, list[Record]] = {partition: [] for partition in range(partitions)}
        self.starts = dict.fromkeys(self.records, 0)
        self.ends = dict.fromkeys(self.records, 0)
        self.committed: dict[int, Committed] = {}
        self.history: dict[int, list[Registered]] = defaultdict(list)
        self.refused = 0
        self.generation = 0
        self.ids: dict[str, str] = {}
        self.shares: dict[str, list[int]] = {}
        self._holes = chain.from_iterable(repeat(holes))
        self._readers: dict[str, SimulatedKafkaReader] = {}
        self._starts = 0

    # the topic

    def writer(self) -> SimulatedProducer:
        """Return the writing end."""
        return SimulatedProducer(self)

    def add(self, partition: int, values: Sequence[bytes]) -> None:
        """Append a batch."""
        offset = self.ends[partition] + next(self._holes)
        for value in values:
            self.records[partition].append(Record(offset, value[KEY_START:KEY_END], value))
            offset += 1
        self.ends[partition] = offset + next(self._holes)

    def loaded_to(self, partition: int) -> bool:
        """Return whether the last record is in the registered batch, and every member knows its share."""
        batches, here = self.history[partition], self.records[partition]
        known = all(reader.knows_its_share for reader in self._readers.values())
        return known and (not here or (bool(batches) and batches[-1].last >= here[-1].offset))

    # the group

    def join(self, name: str, shares: Mapping[str, Sequence[int]]) -> SimulatedKafkaReader:
        """Return the log as member `name` sees it, whose process starts now."""
        takes_over = self.static and name in self.ids
        self.ids[name] = self._new_id(name)
        if name in self._readers:
            self._readers[name].close()
        self._readers[name] = SimulatedKafkaReader(self, name)
        if not takes_over:
            self.assign(shares)
        return self._readers[name]

    def assign(self, shares: Mapping[str, Sequence[int]]) -> None:
        """Rebalance: a new generation of just these members."""
        self.generation += 1
        self.shares = {name: list(share) for name, share in shares.items()}
        self.ids = {name: self.ids.get(name) or self._new_id(name) for name in shares}
        for name, reader in self._readers.items():
            if self.prompt and name in self.ids:
                reader.hear()

    def rejoin(self, name: str) -> None:
        """Let a member that was expelled, or that ended, come back as a new one: a rebalance, unless it is static."""
        keeps_its_place = self.static and name in self.ids
        self.ids[name] = self._new_id(name)
        if not keeps_its_place:
            self.chaos.rebalance()

    def commit(self, commit: Commit) -> int:
        """Take a commit, or refuse it; return Kafka's error code."""
        if self.fenced_by_member and commit.member_id not in self.ids.values():
            self.refused += 1
            return UNKNOWN_MEMBER
        if commit.generation != self.generation:
            self.refused += 1
            return ILLEGAL_GENERATION
        committed = Committed(commit.offset, commit.metadata)
        self.committed[commit.partition] = committed
        self.history[commit.partition].append(registered_of(committed) or Registered(commit.offset, -1, 0))
        if not self._keeps:
            self.starts[commit.partition] = max(self.starts[commit.partition], commit.offset)
        return NO_ERROR

    def _new_id(self, name: str) -> str:
        self._starts += 1
        return f"{name}-{self._starts}"


class SimulatedProducer:
    """Sends each partition's run in batches, one in flight a partition; fills LogWriter."""

    def __init__(self, kafka: SimulatedKafka) -> None:
        self._kafka = kafka

    @property
    def partitions(self) -> int:
        return self._kafka.partitions

    async def append(self, runs: Mapping[int, Sequence[bytes]]) -> None:
        """Of a request that was given up, by a death or for want of an answer, the batches in flight may come later."""
        for in_flight in self._rounds(runs):
            self._kafka.chaos.blocks("append", iter(in_flight), (Killed, RetryError))

    def _rounds(self, runs: Mapping[int, Sequence[bytes]]) -> Iterator[list[Callable[[], None]]]:
        """Yield what is in flight together: one batch of each partition."""
        batches = [self._batches(partition, run) for partition, run in runs.items()]
        for together in zip_longest(*batches):
            yield [batch for batch in together if batch]

    def _batches(self, partition: int, run: Sequence[bytes]) -> list[Callable[[], None]]:
        size = max(-(-len(run) // BATCHES_PER_RUN), 1)
        return [partial(self._kafka.add, partition, run[at : at + size]) for at in range(0, len(run), size)]

    async def close(self) -> None:
        return
