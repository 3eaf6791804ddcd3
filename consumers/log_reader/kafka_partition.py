"""One partition of a Kafka topic while its assignment lasts, as the worker's thread sees it.

- It knows no Kafka client: the group member that owns it (`kafka.py`) takes records and commits for it.
- Records taken from the member but not yet returned are bounded by `RECORDS_AHEAD_MAX`.
- What is registered is the committed offset with the batch's end in the commit's metadata.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple, Protocol

from consumers.log_reader.kafka_place import Place, metadata_of
from consumers.log_reader.port import FencedError, Record, Registered

RECORDS_AHEAD_MAX: Final = 2_000


class Assignment(NamedTuple):
    """What fences a commit: the group's generation and this member's id in it."""

    generation: int
    member_id: str


class Taken(NamedTuple):
    """Records taken from the member, and the offset behind them, holes included."""

    records: Sequence[Record]
    position: int


class Member(Protocol):
    """What a partition asks of the group member; every call may raise FencedError."""

    def take(self, log: KafkaPartitionLog, records_max: int) -> Taken:
        """Return what has been fetched already, at most `records_max` records."""
        ...

    def commit(self, log: KafkaPartitionLog, offset: int, metadata: str) -> None:
        """Commit in the assignment of `log`. Raises FencedError."""
        ...

    def end_of(self, log: KafkaPartitionLog) -> int:
        """Return the offset that the next record gets."""
        ...


class KafkaPartitionLog:
    """One assigned partition. See PartitionLog for the calls; they belong to the worker's thread.

    `end_known` is the log's end as of the assignment.
    """

    def __init__(  # noqa: PLR0913, PLR0917  what an assigned partition is known by
        self, member: Member, topic: str, partition: int, assignment: Assignment, place: Place, end_known: int
    ) -> None:
        self.over = False
        self.assignment = assignment
        self.end_known = end_known
        self.hungry_since_s = 0.0
        self.asked_at_s = 0.0
        self._was_empty = False
        self._member = member
        self._topic = topic
        self._partition = partition
        self._registered = place.registered
        self._position = place.start
        self._ahead: deque[Record] = deque()

    @property
    def topic(self) -> str:
        """The topic's name."""
        return self._topic

    @property
    def partition(self) -> int:
        """The partition's number."""
        return self._partition

    @property
    def registered(self) -> Registered | None:
        """What was last registered; None for a fresh partition."""
        return self._registered

    def fetch(self, records_max: int, bytes_max: int, last: int | None = None) -> Sequence[Record]:
        """Return the next records and move behind them. Raises FencedError."""
        records: list[Record] = []
        size = 0
        self._check()
        while len(records) < records_max:
            if not self._ahead and (size >= bytes_max or not self._refill(records_max - len(records))):
                break
            record = self._ahead[0]
            size += len(record.value)
            if (last is not None and record.offset > last) or (records and size > bytes_max):
                break
            records.append(self._ahead.popleft())
        self._note_hunger(fed=bool(records or self._ahead))
        return records

    def register(self, batch: Registered) -> None:
        """Commit that this is the next batch. Raises FencedError."""
        self._check()
        self._member.commit(self, batch.first, metadata_of(batch))
        self._registered = batch

    def end(self) -> int:
        """Return the offset that the next record written would get at least. Raises FencedError."""
        self._check()
        return max(self._member.end_of(self), self.position())

    def position(self) -> int:
        """Return the offset of the next record that `fetch` would return at the earliest."""
        return self._ahead[0].offset if self._ahead else self._position

    def more(self) -> bool:
        """Return whether `fetch` has something without asking."""
        return bool(self._ahead)

    def put(self, taken: Taken) -> None:
        """Keep records that came while the worker waited."""
        self._was_empty = False
        self._ahead.extend(taken.records)
        self._position = taken.position

    def hungry_s(self, now_s: float, asked_within_s: float) -> float:
        """Return for how long a worker that keeps asking has got nothing; `now_s` is of the monotonic clock."""
        if not self.hungry_since_s or now_s - self.asked_at_s > asked_within_s:
            return 0.0
        return now_s - self.hungry_since_s

    def end_assignment(self) -> None:
        """Refuse every later call. From any thread."""
        self.over = True

    def _check(self) -> None:
        if self.over:
            raise FencedError(f"partition {self._partition} of {self._topic} was given to another assignment")

    def note_empty(self) -> None:
        """Take note that a wait for all partitions' records brought none: the next `fetch` need not ask. Any thread."""
        self._was_empty = True

    def _refill(self, records_max: int) -> bool:
        if self._was_empty:
            self._was_empty = False
            return False
        self.put(self._member.take(self, min(records_max, RECORDS_AHEAD_MAX)))
        return bool(self._ahead)

    def _note_hunger(self, *, fed: bool) -> None:
        self.asked_at_s = time.monotonic()
        if fed:
            self.hungry_since_s = 0.0
        elif not self.hungry_since_s:
            self.hungry_since_s = self.asked_at_s


class Stalls:
    """Tells a log that has silently stopped from one that is merely read to its end."""

    def __init__(self) -> None:
        self._behind: dict[KafkaPartitionLog, tuple[int, float]] = {}

    def is_stalled(self, log: KafkaPartitionLog, end: int, now_s: float, limit_s: float) -> bool:
        """Return whether a hungry log has stood at the same offset before `end` for `limit_s`."""
        position = log.position()
        known, since_s = self._behind.get(log, (-1, now_s))
        if end <= position:
            self._behind.pop(log, None)
        elif known != position:
            self._behind[log] = position, now_s
        return known == position < end and now_s - since_s >= limit_s

    def forget_others(self, hungry: Iterable[KafkaPartitionLog]) -> None:
        """Drop what is known of logs that are not hungry."""
        self._behind = {log: self._behind[log] for log in hungry if log in self._behind}


def records_of(fetched: Iterable[Any]) -> list[Record]:
    """Return a client's records as the port's; a foreign producer may have sent no key, or no value."""
    return [Record(record.offset, record.key or b"", record.value or b"") for record in fetched]
