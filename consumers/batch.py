"""What a batch is made of, and what comes of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from mypy_extensions import mypyc_attr

from consumers.decode import Name
from consumers.log_reader.port import Record
from schemas.event import Event
from schemas.rejection import Rejection
from schemas.session import Aliases


class Batch(NamedTuple):
    """A run of one partition: the records from `first` to `last`, registered at `at_ms` and before it is loaded."""

    topic: str
    partition: int
    first: int
    last: int
    at_ms: int
    records: Sequence[Record]

    @property
    def token(self) -> str:
        """The insert_deduplication_token of everything this batch inserts."""
        return f"{self.topic}:{self.partition}:{self.first}-{self.last}"


@mypyc_attr(acyclic=True)
class Prepared:
    """One record on its way: its event, or why it has none. `replay_of` is the hit that it replays, "": none.

    `aliases` are a cookieless visitor's ids of the days around.
    """

    def __init__(
        self,
        record: Record,
        name: Name,
        *,
        rejection: Rejection | None = None,
        resent: bool = False,
        replay_of: str = "",
    ) -> None:
        self.record = record
        self.name = name
        self.site = ""
        self.event: Event | None = None
        self.rejection = rejection
        self.resent = resent
        self.replay_of = replay_of
        self.aliases: Aliases | None = None


class SpoolCount:
    """One row of `batches`: what became of a spool's hits in a batch. `resent` stands outside the ledger."""

    def __init__(self, spool_id: int, seq_min: int, seq_max: int, received_at: int) -> None:
        self.spool_id = spool_id
        self.seq_min = seq_min
        self.seq_max = seq_max
        self.received_at = received_at
        self.inserted = 0
        self.rejected = 0
        self.duplicate = 0
        self.filtered = 0
        self.resent = 0


class RejectedRecord(NamedTuple):
    """One row of `rejected`: the record, why, and the hit's name and site where they could be read."""

    record: Record
    rejection: Rejection
    received_at: int
    site: str
    spool_id: int
    spool_seq: int


class Loaded(NamedTuple):
    """What a batch became: rows for `events` with their offsets, for `rejected`, and for `batches`."""

    events: list[tuple[int, Event]]
    rejected: list[RejectedRecord]
    counts: list[SpoolCount]
