"""The event log in memory; fills LogWriter and LogReader, with assignments that end as Kafka's generations do.

- An assignment is fenced at `register`: once the partition was assigned again, the former owner gets FencedError. It
  may still fetch, and insert what it has: that is what a zombie does.
- Records before what was registered are gone; reading them is an error of the test's subject.
- Every call is a step at which `chaos` may end the process, or let others act.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

from support.simulated_chaos import Chaos, Killed

from consumers.log_reader.port import FencedError, Record, Registered
from schemas.hit import KEY_END, KEY_START
from schemas.topics import HITS


class SimulatedLog:
    """Partitions, what was registered, and who owns what. `stride` leaves holes between offsets."""

    fenced = True
    prompt = False

    def __init__(self, partitions: int, chaos: Chaos, stride: int = 1) -> None:
        self.partitions = partitions
        self.chaos = chaos
        self.stride = stride
        self.records: dict[int, list[Record]] = {partition: [] for partition in range(partitions)}
        self.committed: dict[int, Registered] = {}
        self.history: dict[int, list[Registered]] = defaultdict(list)
        self.owners: dict[int, SimulatedPartition] = {}
        self.members: dict[str, dict[int, SimulatedPartition]] = {}

    def add(self, partition: int, values: Sequence[bytes]) -> None:
        """Append, at once."""
        here = self.records.setdefault(partition, [])
        for value in values:
            offset = here[-1].offset + self.stride if here else 0
            here.append(Record(offset, value[KEY_START:KEY_END], value))

    def end(self, partition: int) -> int:
        """Return the offset that the next record would get."""
        here = self.records[partition]
        return here[-1].offset + 1 if here else 0

    def writer(self) -> SimulatedWriter:
        """Return the writing end."""
        return SimulatedWriter(self)

    def join(self, name: str, shares: Mapping[str, Sequence[int]]) -> SimulatedReader:
        """Return the log as member `name` sees it, which is new or starts again: a new assignment."""
        self.assign(shares)
        return SimulatedReader(self, name)

    def assign(self, shares: Mapping[str, Sequence[int]]) -> None:
        """Give every partition to a member, as a new assignment; members learn of it when they ask."""
        self.members = {}
        for member, share in shares.items():
            self.members[member] = {partition: SimulatedPartition(self, partition) for partition in share}
            self.owners |= self.members[member]

    def registered(self, partition: int) -> Registered | None:
        """Return what a new owner is told."""
        return self.committed.get(partition)

    def loaded_to(self, partition: int) -> bool:
        """Return whether the last record is in the registered batch."""
        registered = self.committed.get(partition)
        here = self.records[partition]
        return not here or (registered is not None and registered.last >= here[-1].offset)


class SimulatedPartition:
    """One assignment of one partition; see PartitionLog. Its worker learns of its end by a refusal at the earliest."""

    over = False

    def __init__(self, log: SimulatedLog, partition: int) -> None:
        self._log = log
        self.topic = HITS
        self.partition = partition
        self.registered = log.registered(partition)
        self._next = self.registered.first if self.registered else 0

    def fetch(self, records_max: int, bytes_max: int, last: int | None = None) -> Sequence[Record]:
        self._log.chaos.point(f"fetch {self.partition}")
        committed = self._log.committed.get(self.partition)
        ours = self._log.owners.get(self.partition) is self
        if ours and committed and self._next < committed.first:
            raise AssertionError(f"partition {self.partition}: reads {self._next}, deleted below {committed.first}")
        found: list[Record] = []
        size = 0
        for record in self._log.records[self.partition]:
            if record.offset < self._next or (last is not None and record.offset > last):
                continue
            size += len(record.value)
            if len(found) == records_max or (found and size > bytes_max):
                break
            found.append(record)
        if found:
            self._next = found[-1].offset + 1
        elif last is not None:
            self._next = max(self._next, last + 1)
        return found

    def register(self, batch: Registered) -> None:
        self._log.chaos.point(f"register {self.partition} {batch.first}-{batch.last}")
        if self._log.fenced and self._log.owners.get(self.partition) is not self:
            raise FencedError(f"partition {self.partition} was assigned again")
        self.registered = self._log.committed[self.partition] = batch
        self._log.history[self.partition].append(batch)
        self._log.chaos.point(f"registered {self.partition} {batch.first}-{batch.last}", retry=True)

    def end(self) -> int:
        return self._log.end(self.partition)

    def position(self) -> int:
        return self._next


class SimulatedReader:
    """The log as member `name` sees it: a change of its assignment one call too late; left out, it has nothing."""

    def __init__(self, log: SimulatedLog, name: str) -> None:
        self._log = log
        self._name = name
        self._seen: list[SimulatedPartition] | None = None

    def assigned(self) -> Sequence[SimulatedPartition]:
        now = list(self._log.members.get(self._name, {}).values())
        before, self._seen = self._seen, now
        return now if before is None else before

    def wait(self, timeout_s: float) -> None:
        return

    def close(self) -> None:
        return


class SimulatedWriter:
    """Appends run by run, and in the middle of a run, as far as `chaos` lets it."""

    late_after: tuple[type[BaseException], ...] = (Killed,)

    def __init__(self, log: SimulatedLog) -> None:
        self._log = log

    @property
    def partitions(self) -> int:
        return self._log.partitions

    async def append(self, runs: Mapping[int, Sequence[bytes]]) -> None:
        """Of a killed forwarder's request the rest may land later; of one that failed nothing is under way any more."""
        self._log.chaos.blocks("append", self._halves(runs), self.late_after)

    def _halves(self, runs: Mapping[int, Sequence[bytes]]) -> Iterator[Callable[[], None]]:
        for partition, run in runs.items():
            half = len(run) // 2
            for part in (run[:half], run[half:]):
                if part:
                    yield partial(self._log.add, partition, part)

    async def close(self) -> None:
        return
