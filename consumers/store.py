"""What a worker asks of ClickHouse, as a port: `clickhouse_store.py` fills it, and in memory the simulation."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from typing import NamedTuple, Protocol

import msgspec

from consumers.batch import Batch, Loaded
from consumers.batch_rules import BatchRules
from consumers.session_state import VisitorKey
from schemas.session import Session, SessionRule


class Resume(NamedTuple):
    """A partition's state before an offset: marks by spool, the newest `received_at`, and the last batch's end."""

    marks: list[tuple[int, int]]
    received_at: int
    batch_last: int | None


class Place(NamedTuple):
    """A partition before an offset, by a rule; wanted are the sessions that end at or after `ended_after_ms`."""

    partition: int
    before: int
    rule: SessionRule
    ended_after_ms: int


class SessionRow(msgspec.Struct, array_like=True, gc=False):
    """A session as `events` has it: `packed` is its JSON, see schemas.session.Session."""

    partition: int
    site: str
    visitor: int
    packed: msgspec.Raw


class Store(Protocol):
    """The tables `events`, `rejected`, `batches` and `batch_rules`, as one partition's worker sees them.

    `load` and `heal` may be called in several threads at once, for different partitions.

    Everything raises schemas.errors.RetryError when it may be tried again, FatalError when that cannot help.
    """

    def resume(self, topic: str, partition: int, before: int) -> Resume:
        """Return the state that the partition's batches before offset `before` left; `batch_last` is of all batches."""
        ...

    def all_sessions(self, places: Sequence[Place]) -> Iterator[SessionRow]:
        """Yield sessions, whole, as partitions' events before their offsets make them; in memory are few at a time.

        A place's `rule` says how many ids each knows, and how far back one may reach.
        """
        ...

    def sessions(
        self, partition: int, before: int, rule: SessionRule, visitors: Iterable[VisitorKey]
    ) -> list[tuple[VisitorKey, Session]]:
        """Return all sessions of visitors, as the partition's events before offset `before` make them; ids as above."""
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

    def parts(self) -> int:
        """Return how many active parts the fullest partition of a table has, on the host that has most."""
        ...

    def counted(self, batch: Batch) -> int:
        """Return how many of a batch's records `batches` counts: all of them once the whole batch is loaded."""
        ...

    def load(self, batch: Batch, loaded: Loaded) -> None:
        """Insert events, rejected, then batches of a batch that nobody has begun to insert."""
        ...

    def heal(self, batch: Batch, loaded: Loaded, *, is_remembered: bool) -> None:
        """Insert what is not there of a batch whose insert may have been begun, whoever else does; `batches` last.

        `is_remembered`: the batch is so young that ClickHouse still knows what was inserted of it.
        """
        ...
