"""What a worker asks of ClickHouse, as a port: `clickhouse_store.py` fills it, and in memory the simulation."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from typing import NamedTuple, Protocol

from consumers.batch import Batch, Loaded
from consumers.session_state import VisitorKey
from schemas.session import Session


class Resume(NamedTuple):
    """A partition's state before an offset: marks by spool, the newest `received_at`, and the last batch's end."""

    marks: list[tuple[int, int]]
    received_at: int
    batch_last: int | None


class Store(Protocol):
    """The tables `events`, `rejected` and `batches`, as one partition's worker sees them.

    Everything raises schemas.errors.RetryError when it may be tried again, FatalError when that cannot help.
    """

    def resume(self, topic: str, partition: int, before: int) -> Resume:
        """Return the state that the partition's batches before offset `before` left; `batch_last` is of all batches."""
        ...

    def sessions(
        self, partition: int, before: int, *, ended_after_ms: int | None = None, visitors: Iterable[VisitorKey] = ()
    ) -> list[tuple[VisitorKey, Session]]:
        """Return sessions, whole, as the partition's events before offset `before` make them.

        With `ended_after_ms` all that end at or after it; otherwise all of the `visitors`.
        """
        ...

    def replayed(self, partition: int, before: int, names: AbstractSet[str]) -> set[str]:
        """Return those of `names` under which, or as whose replay, the partition has an event before offset `before`.

        Names are as `schemas.hit.name_text` writes them.
        """
        ...

    def counted(self, batch: Batch) -> int:
        """Return how many of a batch's records `batches` counts: all of them once the whole batch is loaded."""
        ...

    def load(self, batch: Batch, loaded: Loaded) -> None:
        """Insert events, rejected, then batches, each under the batch's token: once, however often it is called."""
        ...

    def heal(self, batch: Batch, loaded: Loaded) -> None:
        """Insert of an old batch just the rows that are not there: its token may be forgotten by now."""
        ...
