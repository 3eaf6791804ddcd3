"""The worker: registered batches of the event log, each loaded into ClickHouse once (DESIGN, invariants 5 and 6).

- Before a batch is inserted its end is registered, fenced by the assignment; a refused registration ends the partition
  here without an insert.
- Whoever is assigned a partition re-forms exactly the registered batch, by the rules it was registered under, and loads
  it under the same token.
- Registering the next batch acknowledges this one, so it happens only after `load` returned.
- Rejected records go to the dead letter, where there is one, before any row of their batch is inserted.
- State is rebuilt from `events` and `batches` before the registered batch, never saved.
- Rules change between two batches only: what was registered under others is loaded by these first. Then the state is
  rebuilt, as what it has seen by other rules it must see again by today's.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from threading import Event as ThreadEvent

import msgspec

from consumers.batch import Batch, Loaded, Prepared
from consumers.batch_rules import BatchRules
from consumers.dead_letter import DeadLetter, letters
from consumers.deduplicate import Marks
from consumers.enrich.network import UNKNOWN_NETWORKS, Networks
from consumers.log_reader.port import FencedError, LogReader, PartitionLog, Record, Registered
from consumers.metrics import WorkerCounters
from consumers.pipeline import finish, lookups, prepare, replayed_names
from consumers.progress import Progress
from consumers.rules import Rules
from consumers.session_state import SessionState
from consumers.store import Resume, Store
from schemas.errors import FatalError, RetryError
from schemas.session import SessionRule

logger = logging.getLogger(__name__)

BACKOFF_S_MIN = 0.05
BACKOFF_S_MAX = 5.0
IDLE_WAIT_S = 0.05
CONTRADICTIONS_MAX = 8  # attempts, about 6 s with their pauses


def nothing_to_refresh() -> None:
    """Do nothing: there are no files to take up."""


class WorkerRules(msgspec.Struct, frozen=True):
    """What a worker's results and batches depend on; every number is a setting.

    `networks` knows addresses; `refresh` is called before each batch and takes up files that were replaced.
    """

    rules: Rules
    session: SessionRule
    session_keep_ms: int
    batch_rows_max: int
    batch_bytes_max: int
    batch_age_s_max: float
    recovery_age_ms_max: int
    networks: Networks = UNKNOWN_NETWORKS
    refresh: Callable[[], None] = nothing_to_refresh


class PartitionWorker:
    """One assigned partition: recovers its registered batch, then forms, registers and loads batches.

    `step` does one of these at a time and may be called again after RetryError: what was done is not done twice.
    """

    def __init__(  # noqa: PLR0913  its ports and what it goes by
        self,
        log: PartitionLog,
        store: Store,
        rules: WorkerRules,
        clock_s: Callable[[], float],
        counters: WorkerCounters,
        *,
        dead_letter: DeadLetter | None = None,
    ) -> None:
        self.log = log
        self.over = False
        self.retry_at_s = 0.0
        self.backoff_s = BACKOFF_S_MIN
        self._store = store
        self._rules = rules
        self._todays = self._by = BatchRules.of(rules.rules, rules.session)
        self._clock_s = clock_s
        self._counters = counters
        self._dead_letter = dead_letter
        self._contradictions = 0
        self._marks: Marks | None = None
        self._state = SessionState(rules.session, rules.session_keep_ms)
        self._before: int | None = None  # the offset that the state and the next batch begin at, once recovered
        self._records: list[Record] = []
        self._bytes = 0
        self._since_s = 0.0
        self._forming: Registered | None = None
        self._batch: Batch | None = None
        self._prepared: list[Prepared] | None = None
        self._loaded: Loaded | None = None
        self._buried = False

    def step(self) -> bool:
        """Do what is next; return whether there was anything. Raises RetryError, FencedError, FatalError."""
        if self.log.over:  # the next assignment waits for what would be asked of ClickHouse in vain
            raise FencedError("it was given to another assignment")
        if self._batch is None and self._forming is None and self._by.name != self._todays.name:
            self._marks = None
        if self._marks is None:
            self._recover()
            return True
        if self._batch is None and not self._form():
            return False
        self._load()
        return True

    def go_by(self, rules: WorkerRules) -> None:
        """Go by these rules from the next batch on that is not registered yet."""
        self._rules = rules
        self._todays = BatchRules.of(rules.rules, rules.session)

    def unloaded(self, now_s: float) -> tuple[int, float]:
        """Return the offsets not loaded yet, and the age in seconds of the batch at work; 0 without one.

        Raises RetryError, FencedError.
        """
        at_work = self._batch or (self.log.registered if self._before is None else None)
        if at_work:
            return max(self.log.end() - at_work.first, 0), max(now_s - at_work.at_ms / 1000, 0.0)
        if self._records:
            return max(self.log.end() - self._records[0].offset, 0), max(now_s - self._since_s, 0.0)
        return max(self.log.end() - self.log.position(), 0), 0.0

    def _recover(self) -> None:
        """Rebuild the state before the registered batch, and take that batch up again unless it is loaded already."""
        log, todays = self.log, self._todays
        self._store.keep_rules(todays)
        if self._before is not None:
            self._rebuild(self._before, todays, self._store.resume(log.topic, log.partition, self._before))
            return
        registered = log.registered
        before = registered.first if registered else 0
        resume = self._store.resume(log.topic, log.partition, before)
        end = registered.last if registered else -1
        if resume.batch_last is not None and resume.batch_last > end:
            self._check_ours(registered)
            raise FatalError(
                f"partition {log.partition} of {log.topic} ends its registered batches at {end}, but ClickHouse holds "
                f"batches up to {resume.batch_last}: this log is not the one that filled these tables. Restore "
                "its directory, or point CLICKHOUSE_URL (or the data directory) at an empty database"
            )
        batch, by = None, todays
        if registered:
            batch = self._reform(registered)
            if self._store.counted(batch) == len(batch.records):
                before, batch = batch.last + 1, None
                resume = self._store.resume(log.topic, log.partition, before)
            else:
                by = self._rules_of(registered)
        self._rebuild(before, by, resume)
        self._records = []
        self._batch = batch
        self._counters.recovered += batch is not None

    def _rebuild(self, before: int, by: BatchRules, resume: Resume) -> None:
        """Make the state as it was before offset `before`, for what follows and is decided by these rules."""
        state = SessionState(by.session, self._rules.session_keep_ms, resume.received_at)
        if before:
            sessions = self._store.sessions(self.log.partition, before, by.session, ended_after_ms=state.horizon_ms)
            state.merge(sessions)
        self._by = by
        self._before = before
        self._state = state
        self._marks = Marks(resume.marks)

    def _rules_of(self, registered: Registered) -> BatchRules:
        """Return the rules that a batch was registered under."""
        if registered.rules in ("", self._todays.name):
            return self._todays
        found = self._store.rules(registered.rules)
        if found is None:
            logger.warning(
                "partition %d: batch %d..%d was registered under rules %s, which ClickHouse lacks; today's hold",
                self.log.partition,
                registered.first,
                registered.last,
                registered.rules,
            )
        return found or self._todays

    def _check_ours(self, registered: Registered | None) -> None:
        """Return if the partition is ours: that it went on with another worker is no reason to end this process.

        A repeated registration is refused then (FencedError). Where there is none to repeat, only time tells: the
        reader will learn of it (RetryError).
        """
        if registered:
            self.log.register(registered)
            return
        self._contradictions += 1
        if self._contradictions < CONTRADICTIONS_MAX:
            raise RetryError("ClickHouse holds batches of it, the log registered none")

    def _reform(self, registered: Registered) -> Batch:
        """Read the registered batch again; what an attempt that ended in RetryError had read is not read twice."""
        log, records = self.log, self._records
        while log.position() <= registered.last and log.position() < log.end():
            fresh = log.fetch(self._rules.batch_rows_max, self._rules.batch_bytes_max, registered.last)
            if not fresh and log.position() <= registered.last:
                raise RetryError(f"records {log.position()}..{registered.last} do not come yet")
            records += fresh
        first, last, at_ms, _ = registered
        return Batch(log.topic, log.partition, first, last, at_ms, records)

    def _form(self) -> bool:
        """Gather records; when they are enough or old enough, register them as the next batch.

        A registration that may have been committed although it failed is tried again with the same end: another one
        could be committed behind it.
        """
        if self._forming is None and not self._gather():
            return False
        first, last = self._records[0].offset, self._records[-1].offset
        self._forming = self._forming or Registered(first, last, self._now_ms(), self._by.name)
        self.log.register(self._forming)
        self._batch = Batch(self.log.topic, self.log.partition, first, last, self._forming.at_ms, self._records)
        self._forming, self._records, self._bytes = None, [], 0
        return True

    def _gather(self) -> bool:
        """Fetch what there is; return whether it makes a batch."""
        rules = self._rules
        now_s = self._clock_s()
        room = rules.batch_rows_max - len(self._records)
        fresh = self.log.fetch(room, max(rules.batch_bytes_max - self._bytes, 1))
        if not self._records:
            if not fresh:
                return False
            self._since_s = now_s
        self._records += fresh
        self._bytes += sum(len(record.value) for record in fresh)
        full = len(self._records) >= rules.batch_rows_max or self._bytes >= rules.batch_bytes_max
        return full or now_s - self._since_s >= rules.batch_age_s_max

    def _now_ms(self) -> int:
        return int(self._clock_s() * 1000)

    def _load(self) -> None:
        batch, marks = self._batch, self._marks
        if batch is None or marks is None:
            raise AssertionError("a batch is loaded after it was formed, with its partition's marks")
        if self._prepared is None:
            self._rules.refresh()
            self._prepared = prepare(batch, marks, self._by.rules, self._rules.networks)
        if self._loaded is None:
            wanted = lookups(self._prepared, self._state)
            if wanted:
                self._counters.lookups += len(wanted)
                self._state.merge(self._store.sessions(batch.partition, batch.first, self._by.session, visitors=wanted))
            names = replayed_names(self._prepared)
            present = self._store.replayed(batch.partition, batch.first, names) if names else set()
            self._loaded = finish(self._prepared, self._state, present)
        if self._dead_letter and self._loaded.rejected and not self._buried:
            self._dead_letter.put(letters(batch, self._loaded.rejected))
            self._buried = True
        old = self._now_ms() - batch.at_ms > self._rules.recovery_age_ms_max  # asked anew at every attempt
        load = self._store.heal if old else self._store.load
        load(batch, self._loaded)
        self._counters.count(batch, self._loaded)
        self._batch = self._prepared = self._loaded = None
        self._buried = False
        self._before = batch.last + 1


class Worker:
    """All partitions of one worker process."""

    def __init__(  # noqa: PLR0913  its ports and what it goes by
        self,
        reader: LogReader,
        store: Store,
        rules: WorkerRules,
        clock_s: Callable[[], float],
        counters: WorkerCounters | None = None,
        *,
        dead_letter: DeadLetter | None = None,
    ) -> None:
        self.counters = counters or WorkerCounters()
        self.progress = Progress()
        self._reader = reader
        self._store = store
        self._rules = self._todays = rules
        self._clock_s = clock_s
        self._dead_letter = dead_letter
        self._partitions: dict[int, PartitionWorker] = {}

    def run(self, stop: ThreadEvent) -> None:
        """Work until `stop` is set. Raises FatalError when trying again cannot help."""
        try:
            while not stop.is_set():
                if not self.step():
                    self._reader.wait(IDLE_WAIT_S)
                self.progress.watch(self._partitions.values(), self._clock_s())
        finally:
            self._reader.close()

    def go_by(self, rules: WorkerRules) -> None:
        """Go by these rules from the next step on, and from each partition's next batch. Callable in any thread."""
        self._todays = rules

    def goes_by(self, rules: WorkerRules) -> bool:
        """Whether what arrives from now on is judged by these rules. Callable in any thread."""
        return self._rules is rules

    def step(self) -> bool:
        """Let every assigned partition do its next step; return whether any had one."""
        todays = self._todays
        if todays is not self._rules:
            self._rules = todays
            for worker in self._partitions.values():
                worker.go_by(todays)
        busy = False
        for worker in self._assigned():
            now_s = self._clock_s()
            if worker.over or now_s < worker.retry_at_s:
                continue
            try:
                busy = worker.step() or busy
                worker.backoff_s = BACKOFF_S_MIN
            except RetryError as error:
                self.counters.retries += 1
                worker.retry_at_s = now_s + worker.backoff_s
                worker.backoff_s = min(worker.backoff_s * 2, BACKOFF_S_MAX)
                logger.warning("partition %d: %s; again in %.2f s", worker.log.partition, error, worker.backoff_s)
            except FencedError as error:
                self.counters.fenced += 1
                worker.over = True  # kept, so that nobody starts on this assignment again: its position has moved
                logger.warning("partition %d is no longer ours: %s", worker.log.partition, error)
        return busy

    def _assigned(self) -> list[PartitionWorker]:
        """Return a worker per assigned partition; an assignment that is over takes its state with it."""
        logs = self._reader.assigned()
        current = {id(log): log for log in logs}
        for key in [key for key in self._partitions if key not in current]:
            del self._partitions[key]
        for key, log in current.items():
            if key not in self._partitions:
                self._partitions[key] = PartitionWorker(
                    log, self._store, self._rules, self._clock_s, self.counters, dead_letter=self._dead_letter
                )
        return list(self._partitions.values())
