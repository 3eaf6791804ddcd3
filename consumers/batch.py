"""What a batch is made of, and what comes of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

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


class Prepared(msgspec.Struct, gc=False):
    """One record on its way: its event, or why it has none. `replay_of` is the hit that it replays, "": none.

    `aliases` are a cookieless visitor's ids of the days around.
    """

    record: Record
    name: Name
    site: str = ""
    event: Event | None = None
    rejection: Rejection | None = None
    resent: bool = False
    replay_of: str = ""
    aliases: Aliases | None = None


class SpoolCount(msgspec.Struct, gc=False):
    """One row of `batches`: what became of a spool's hits in a batch. `resent` stands outside the ledger."""

    spool_id: int
    seq_min: int
    seq_max: int
    received_at: int
    inserted: int = 0
    rejected: int = 0
    duplicate: int = 0
    filtered: int = 0
    resent: int = 0


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
