"""The event log as a worker reads it: the port that local partitions and Kafka both fill, held to one contract suite.

- A partition's records come in offset order; offsets rise, and may have holes.
- `register` is fenced by the assignment: of two workers that think they own a partition, one gets FencedError.
- What was registered is found by whoever is assigned the partition next: `registered` is part of the assignment.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol

from mypy_extensions import mypyc_attr


class FencedError(Exception):
    """The partition is no longer ours. Nothing was committed; the worker must not insert."""


@mypyc_attr(acyclic=True)
class Record:
    """One record: offset, key (16 hex digits for a hit of ours, b"" where a foreign producer sent none) and bytes."""

    def __init__(self, offset: int, key: bytes, value: bytes) -> None:
        self.offset = offset
        self.key = key
        self.value = value


def bytes_of(records: Iterable[Record]) -> int:
    """Return how many bytes the records' values have together."""
    return sum([len(record.value) for record in records])


class Registered(NamedTuple):
    """The batch that was last registered for a partition: its first and last offset, and when, in ms since 1970 UTC.

    `rules` names what its rows follow from (`batch_rules.py`); "": it was registered by a release that did not say.
    """

    first: int
    last: int
    at_ms: int
    rules: str = ""


class PartitionLog(Protocol):
    """One assigned partition. Lives as long as the assignment; any call may raise FencedError once it is over."""

    @property
    def topic(self) -> str:
        """The topic's name."""
        ...

    @property
    def partition(self) -> int:
        """The partition's number."""
        ...

    @property
    def registered(self) -> Registered | None:
        """What was last registered, as of the assignment or the last `register`; None for a fresh partition."""
        ...

    @property
    def over(self) -> bool:
        """Whether this assignment is known to have ended. False proves nothing; `register` does. Cheap."""
        ...

    def fetch(self, records_max: int, bytes_max: int, last: int | None = None) -> Sequence[Record]:
        """Return the next records and move behind them; [] when there are none now, or new ones are still on their way.

        At least one record when there is one, then up to the limits. With `last`, none behind that offset.
        Starts at `registered.first`, or at the partition's beginning.
        """
        ...

    def register(self, batch: Registered) -> None:
        """Commit that this is the next batch, and that every record before its first is done.

        Durable when it returns. Raises FencedError, and then nothing was committed. Records before its first may be
        deleted.
        """
        ...

    def end(self) -> int:
        """Return the offset that the next record written would get at least: the log's end, for lag and ledger."""
        ...

    def position(self) -> int:
        """Return the offset of the next record that `fetch` would return at the earliest."""
        ...


class LogReader(Protocol):
    """The event log of one worker."""

    def assigned(self) -> Sequence[PartitionLog]:
        """Return the partitions that are ours now. After a change of assignment, new objects."""
        ...

    def wait(self, timeout_s: float) -> None:
        """Return when a partition may have new records, at the latest after `timeout_s`."""
        ...

    def close(self) -> None:
        """Give the partitions back."""
        ...
