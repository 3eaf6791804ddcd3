"""What a worker asks of ClickHouse, as a port: `clickhouse_store.py` fills it, and in memory the simulation."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from typing import NamedTuple, Protocol

from consumers.batch import Batch, Loaded
from consumers.batch_rules import BatchRules
from consumers.session_state import VisitorKey
from schemas.session import Session, SessionRule


class Resume(NamedTuple):
    """A partition's state before an offset: marks by spool, the newest `received_at`, and the last batch's end."""

    marks: list[tuple[int, int]]
    received_at: int
    batch_last: int | None


class Store(Protocol):
    """The tables `events`, `rejected`, `batches` and `batch_rules`, as one partition's worker sees them.

    Everything raises schemas.errors.RetryError when it may be tried again, FatalError when that cannot help.
    """

    def resume(self, topic: str, partition: int, before: int) -> Resume:
        """Return the state that the partition's batches before offset `before` left; `batch_last` is of all batches."""
        ...

    def sessions(
        self,
        partition: int,
        before: int,
        rule: SessionRule,
        *,
        ended_after_ms: int | None = None,
        visitors: Iterable[VisitorKey] = (),
    ) -> list[tuple[VisitorKey, Session]]:
        """Return sessions, whole, as the partition's events before offset `before` make them.

        With `ended_after_ms` all that end at or after it; otherwise all of the `visitors`. `rule` says how many ids
        each knows, and how far back one may reach.
        """
        ...

    def replayed(self, partition: int, before: int, names: AbstractSet[str]) -> set[str]:
        """Return those of `names` under which, or as whose replay, the partition has an event before offset `before`.

        Names are as `schemas.hit.name_text` writes them.
        """
        ...

    def keep_rules(self, rules: BatchRules) -> None:
        """Keep rules under their name, for whoever forms a batch of theirs again; known ones are left alone."""
        ...

    def rules(self, name: str) -> BatchRules | None:
        """Return the rules that were kept under a name, None where there are none that this release can read."""
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
