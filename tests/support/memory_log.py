"""The event log in memory: both ends of the port, with groups and generations as Kafka has them.

Every join and leave is a rebalance: it begins a new generation, in which the partitions are dealt out anew. A member
of an older generation can still read (a zombie does not know), but no longer register.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from consumers.log_reader.port import FencedError, Record, Registered
from schemas.hit import KEY_END, KEY_START, PREFIX
from schemas.topics import HITS


class MemoryLog:
    """The log itself: it outlives its writers and readers. `records[p][i]` is (offset, bytes)."""

    def __init__(self, partitions: int) -> None:
        self.partitions = partitions
        self.records: list[list[tuple[int, bytes]]] = [[] for _ in range(partitions)]
        self.ends = [0] * partitions
        self.registered: dict[int, Registered] = {}
        self.generation = 0
        self._members: list[MemoryLogReader] = []

    def append(self, partition: int, value: bytes) -> None:
        """Add one record."""
        self.records[partition].append((self.ends[partition], value))
        self.ends[partition] += 1

    def skip_offsets(self, partition: int, count: int) -> None:
        """Leave a hole, as a transaction marker or a power loss does."""
        self.ends[partition] += count

    def join(self, reader: MemoryLogReader) -> None:
        """Rebalance with one more member."""
        self._members.append(reader)
        self.generation += 1

    def leave(self, reader: MemoryLogReader) -> None:
        """Rebalance without a member; also what the group does with one that died."""
        if reader in self._members:
            self._members.remove(reader)
            self.generation += 1

    def share_of(self, reader: MemoryLogReader) -> list[int]:
        """Return the partitions of a member in this generation."""
        if reader not in self._members:
            return []
        return list(range(self._members.index(reader), self.partitions, len(self._members)))


class MemoryLogWriter:
    """The writing end. `before_record` is called before each record: raise RetryError or a crash of your own there."""

    def __init__(self, log: MemoryLog, before_record: Callable[[], None] = lambda: None) -> None:
        self._log = log
        self._before_record = before_record

    @property
    def partitions(self) -> int:
        """How many partitions the log has."""
        return self._log.partitions

    async def append(self, runs: Mapping[int, Sequence[bytes]]) -> None:
        """Append runs record by record."""
        for partition, run in runs.items():
            for value in run:
                self._before_record()
                self._log.append(partition, value)

    async def close(self) -> None:
        """Close."""


class MemoryPartitionLog:
    """One partition in one generation."""

    def __init__(self, log: MemoryLog, partition: int) -> None:
        self._log = log
        self._partition = partition
        self._generation = log.generation
        self._registered = log.registered.get(partition)
        self._position = self._registered.first if self._registered else 0

    @property
    def topic(self) -> str:
        """The topic's name."""
        return HITS

    @property
    def partition(self) -> int:
        """The partition's number."""
        return self._partition

    @property
    def registered(self) -> Registered | None:
        """What was last registered, as this assignment knows."""
        return self._registered

    @property
    def over(self) -> bool:
        """Whether there is a later generation."""
        return self._generation != self._log.generation

    def fetch(self, records_max: int, bytes_max: int, last: int | None = None) -> Sequence[Record]:
        """Return the next records and move behind them."""
        found: list[Record] = []
        size = 0
        for offset, value in self._log.records[self._partition]:
            if offset < self._position:
                continue
            size += len(value)
            full = len(found) >= records_max or (found and size > bytes_max)
            if full or (last is not None and offset > last):
                break
            found.append(Record(offset, value[KEY_START:KEY_END] if value.startswith(PREFIX) else b"", value))
        if found:
            self._position = found[-1].offset + 1
        return found

    def register(self, batch: Registered) -> None:
        """Commit, fenced by the generation; records before `first` go."""
        if self._generation != self._log.generation:
            raise FencedError(f"generation {self._generation} is over, this is {self._log.generation}")
        self._registered = self._log.registered[self._partition] = batch
        kept = [record for record in self._log.records[self._partition] if record[0] >= batch.first]
        self._log.records[self._partition] = kept

    def end(self) -> int:
        """Return the log's end."""
        return self._log.ends[self._partition]

    def position(self) -> int:
        """Return the offset of the next record at the earliest."""
        return self._position


class MemoryLogReader:
    """The reading end of one member of the group."""

    def __init__(self, log: MemoryLog) -> None:
        self._log = log
        self._generation = -1
        self._logs: list[MemoryPartitionLog] = []
        log.join(self)

    def assigned(self) -> Sequence[MemoryPartitionLog]:
        """Return this member's partitions; new objects in a new generation."""
        if self._generation != self._log.generation:
            self._generation = self._log.generation
            self._logs = [MemoryPartitionLog(self._log, partition) for partition in self._log.share_of(self)]
        return self._logs

    def wait(self, timeout_s: float) -> None:
        """Return: nothing happens in memory while one waits."""

    def close(self) -> None:
        """Leave the group."""
        self._log.leave(self)
        self._logs = []
