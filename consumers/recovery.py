"""Where an assigned partition goes on: its registered batch, its marks, its rules, and the sessions before it.

DESIGN, invariants 5 and 6:

- State is rebuilt from `events` and `batches` before the registered batch, or behind it where it is loaded already:
  both are read before an offset up to which every batch is loaded whole, so they agree whenever they are read.
- The sessions of all partitions that are taken over together are read with one query: each query reads the table.
"""

from __future__ import annotations

import logging
from collections.abc import Collection
from typing import NamedTuple

from consumers.batch import Batch
from consumers.batch_rules import BatchRules
from consumers.log_reader.port import PartitionLog, Record, Registered
from consumers.session_state import SessionState
from consumers.store import Place, Resume, Store
from schemas.errors import FatalError, RetryError

logger = logging.getLogger(__name__)

CONTRADICTIONS_MAX = 8  # attempts, about 6 s with their pauses


class Found(NamedTuple):
    """Where a partition goes on: the offset `before`, decided by rules `by`, with what `resume` says.

    `batch` is the registered batch that begins there and is not loaded yet.
    """

    partition: int
    before: int
    by: BatchRules
    resume: Resume
    batch: Batch | None = None


class Recovery:
    """Finds where a partition goes on. May be called again after RetryError: what was read is not read twice."""

    def __init__(self, log: PartitionLog, store: Store) -> None:
        self._log = log
        self._store = store
        self._records: list[Record] = []
        self._contradictions = 0

    def find(self, todays: BatchRules, records_max: int, bytes_max: int) -> Found:
        """Return where a partition that was just assigned goes on; its registered batch is taken up unless loaded.

        It is read `records_max` records and `bytes_max` bytes at a time. Raises RetryError, FencedError, FatalError.
        """
        log, store = self._log, self._store
        registered = log.registered
        before = registered.first if registered else 0
        resume = store.resume(log.topic, log.partition, before)
        end = registered.last if registered else -1
        if resume.batch_last is not None and resume.batch_last > end:
            self._check_ours(registered)
            raise FatalError(
                f"partition {log.partition} of {log.topic} ends its registered batches at {end}, but ClickHouse holds "
                f"batches up to {resume.batch_last}: this log is not the one that filled these tables. Restore "
                "its directory, or point CLICKHOUSE_URL (or the data directory) at an empty database"
            )
        if registered is None:
            return Found(log.partition, before, todays, resume)
        batch = self._reform(registered, records_max, bytes_max)
        if store.counted(batch) < len(batch.records):
            found = Found(log.partition, before, self._rules_of(registered, todays), resume, batch)
        else:
            found = self.again(todays, batch.last + 1)
        self._records = []
        return found

    def again(self, todays: BatchRules, before: int) -> Found:
        """Return where a partition goes on whose batches up to offset `before` are loaded, by other rules than so far.

        Raises RetryError, FatalError.
        """
        resume = self._store.resume(self._log.topic, self._log.partition, before)
        return Found(self._log.partition, before, todays, resume)

    def _rules_of(self, registered: Registered, todays: BatchRules) -> BatchRules:
        """Return the rules that a batch was registered under."""
        if registered.rules in ("", todays.name):
            return todays
        found = self._store.rules(registered.rules)
        if found is None:
            logger.warning(
                "partition %d: batch %d..%d was registered under rules %s, which ClickHouse lacks; today's hold",
                self._log.partition,
                registered.first,
                registered.last,
                registered.rules,
            )
        return found or todays

    def _check_ours(self, registered: Registered | None) -> None:
        """Return if the partition is ours: that it went on with another worker is no reason to end this process.

        A repeated registration is refused then (FencedError). Where there is none to repeat, only time tells: the
        reader will learn of it (RetryError).
        """
        if registered:
            self._log.register(registered)
            return
        self._contradictions += 1
        if self._contradictions < CONTRADICTIONS_MAX:
            raise RetryError("ClickHouse holds batches of it, the log registered none")

    def _reform(self, registered: Registered, records_max: int, bytes_max: int) -> Batch:
        """Read the registered batch again; what an attempt that ended in RetryError had read is not read twice."""
        log, records = self._log, self._records
        while log.position() <= registered.last and log.position() < log.end():
            fresh = log.fetch(records_max, bytes_max, registered.last)
            if not fresh and log.position() <= registered.last:
                raise RetryError(f"records {log.position()}..{registered.last} do not come yet")
            records += fresh
        first, last, at_ms, _ = registered
        return Batch(log.topic, log.partition, first, last, at_ms, records)


def rebuild(store: Store, found: Collection[Found], keep_ms: int) -> dict[int, SessionState]:
    """Return partitions' sessions as they were before their offsets. Raises RetryError, FatalError."""
    states = {one.partition: SessionState(one.by.session, keep_ms, one.resume.received_at) for one in found}
    places = [
        Place(one.partition, one.before, one.by.session, states[one.partition].horizon_ms)
        for one in found
        if one.before
    ]
    for row in store.all_sessions(places):
        states[row.partition].keep(row.site, row.visitor, bytes(row.packed))
    return states
