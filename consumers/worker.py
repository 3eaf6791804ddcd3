"""The worker: registered batches of the event log, each loaded into ClickHouse once (DESIGN, invariants 5 and 6).

- Before a batch is inserted its end is registered, fenced by the assignment; a refused registration ends the partition
  here without an insert.
- Whoever is assigned a partition re-forms exactly the registered batch, by the rules it was registered under, and loads
  it under the same token.
- Registering the next batch acknowledges this one, so it happens only after `load` returned. Meanwhile other partitions
  are at work, and the next batch gathers.
- Rejected records go to the dead letter, where there is one, before any row of their batch is inserted.
- State is rebuilt from `events` and `batches` before the registered batch, never saved.
- Rules change between two batches only: what was registered under others is loaded by these first. Then the state is
  rebuilt, as what it has seen by other rules it must see again by today's.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial
from threading import Event as ThreadEvent

import msgspec

from consumers.batch import Batch, Loaded, Prepared
from consumers.batch_pace import BatchLimits, Gathered, is_due, is_full
from consumers.batch_rules import BatchRules
from consumers.dead_letter import DeadLetter, letters
from consumers.deduplicate import Marks
from consumers.enrich.network import UNKNOWN_NETWORKS, Networks
from consumers.inserts import Inserts
from consumers.log_reader.port import FencedError, LogReader, PartitionLog, Record, Registered, bytes_of
from consumers.metrics import WorkerCounters
from consumers.pipeline import finish, lookups, prepare, replayed_names
from consumers.pressure import Gauge
from consumers.progress import Progress
from consumers.recovery import Found, Recovery, rebuild
from consumers.rules import Rules
from consumers.session_state import SessionState
from consumers.store import Store
from schemas.errors import RetryError
from schemas.session import SessionRule

logger = logging.getLogger(__name__)

BACKOFF_S_MIN = 0.05
BACKOFF_S_MAX = 5.0
IDLE_WAIT_S = 0.05
PAUSE_S = 0.05  # where no batch is due, records are taken some at a time: one by one each would cost more


def nothing_to_refresh() -> None:
    """Do nothing: there are no files to take up."""


class WorkerRules(msgspec.Struct, frozen=True):
    """What a worker's results and batches depend on; every number is a setting.

    `networks` knows addresses; `refresh` is called before each batch and takes up files that were replaced.
    """

    rules: Rules
    session: SessionRule
    session_keep_ms: int
    batch: BatchLimits
    recovery_age_ms_max: int
    networks: Networks = UNKNOWN_NETWORKS
    refresh: Callable[[], None] = nothing_to_refresh


class PartitionWorker:
    """One assigned partition: recovers its registered batch, then forms, registers and loads batches.

    `step` does one of these at a time and may be called again after RetryError: what was done is not done twice. Once
    `found` says where the partition goes on, `take_up` must be called before the next step.
    """

    def __init__(  # noqa: PLR0913  its ports and what it goes by
        self,
        log: PartitionLog,
        store: Store,
        rules: WorkerRules,
        clock_s: Callable[[], float],
        counters: WorkerCounters,
        *,
        gauge: Gauge,
        inserts: Inserts,
        dead_letter: DeadLetter | None = None,
    ) -> None:
        self.log = log
        self.over = False
        self.retry_at_s = 0.0
        self.waits_since_s = math.inf  # for its turn to load
        self.backoff_s = BACKOFF_S_MIN
        self._store = store
        self._rules = rules
        self._todays = self._by = BatchRules.of(rules.rules, rules.session)
        self._clock_s = clock_s
        self._counters = counters
        self._dead_letter = dead_letter
        self._gauge = gauge
        self._inserts = inserts
        self.found: Found | None = None
        self._recovery = Recovery(log, store)
        self._marks: Marks | None = None
        self._state = SessionState(rules.session, rules.session_keep_ms)
        self._before: int | None = None  # the offset that the state and the next batch begin at, once recovered
        self._records: list[Record] = []
        self._bytes = 0
        self._since_s = 0.0
        self._forming: Registered | None = None
        self._ahead: list[Prepared] = []  # what becomes of `_records`
        self._batch: Batch | None = None
        self._prepared: list[Prepared] | None = None
        self._loaded: Loaded | None = None
        self._buried = False
        self._is_begun = False  # the batch may be in ClickHouse, in part or whole, by this worker or one before
        self._insert: Future[float] | None = None

    def step(self) -> bool:
        """Do what is next; return whether there was anything. Raises RetryError, FencedError, FatalError."""
        if self.log.over:  # the next assignment waits for what would be asked of ClickHouse in vain
            raise FencedError("it was given to another assignment")
        if self._batch is None and self._forming is None and self._by.name != self._todays.name:
            self._marks = None
        if self._marks is None:
            self.found = self._recover()
            return True
        if self._batch is None and not self._form():
            return False
        return self._load()

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

    def take_up(self, state: SessionState) -> None:
        """Go on where `found` says, with the sessions from before it."""
        found = self.found
        if found is None:
            raise AssertionError("sessions are read for who found where it goes on")
        self.found = None
        self._before, self._by, self._batch = found.before, found.by, found.batch
        self._state = state
        self._marks = Marks(found.resume.marks)
        self._ahead, self._prepared = [], None  # by other marks, or other rules
        self._is_begun = found.batch is not None
        self._counters.recovered += self._is_begun

    def _recover(self) -> Found:
        """Find where to go on: before the registered batch unless it is loaded, and later behind the last one."""
        todays, rules = self._todays, self._rules
        self._store.keep_rules(todays)
        if self._before is not None:
            return self._recovery.again(todays, self._before)
        return self._recovery.find(todays, rules.batch.rows_max, rules.batch.bytes_max)

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
        self._prepared, self._ahead = self._ahead, []
        self._forming, self._records, self._bytes = None, [], 0
        return True

    def _gather(self) -> bool:
        """Fetch and prepare what there is; return whether it makes a batch. While one is being loaded it makes none.

        What is not full gathers on until its load can begin: formed sooner, its rows would wait, and it be smaller.
        """
        limits = self._rules.batch
        now_s = self._clock_s()
        room, bytes_room = limits.rows_max - len(self._records), limits.bytes_max - self._bytes
        fresh = self.log.fetch(room, bytes_room) if room > 0 and bytes_room > 0 else ()
        if not self._records:
            if not fresh:
                return False
            self._since_s = now_s
        self._records += fresh
        self._bytes += bytes_of(fresh)
        if len(self._ahead) < len(self._records):
            self._ahead += self._prepare(self._records[len(self._ahead) :], begins=not self._ahead)
        gathered = Gathered(len(self._records), self._bytes, now_s - self._since_s)
        if self._insert is not None or not is_due(gathered, self._gauge.read(now_s), limits):
            return False
        if is_full(gathered, limits) or self._inserts.has_room():
            return True
        self.waits_since_s = min(self.waits_since_s, now_s)
        return False

    def _prepare(self, records: Sequence[Record], *, begins: bool) -> list[Prepared]:
        """Prepare records behind all that were prepared so far; `begins`: they are a batch's first."""
        if self._marks is None:
            raise AssertionError("records are prepared with their partition's marks")
        if begins:
            self._rules.refresh()
        return prepare(records, self._marks, self._by.rules, self._rules.networks)

    def _now_ms(self) -> int:
        return int(self._clock_s() * 1000)

    def _load(self) -> bool:
        """Do the next of a batch's steps, up to its being loaded; return False while ClickHouse is at it."""
        batch = self._batch
        if batch is None:
            raise AssertionError("a batch is loaded after it was formed")
        if self._prepared is None:
            self._prepared = self._prepare(batch.records, begins=True)
        if self._loaded is None:
            wanted = lookups(self._prepared, self._state)
            if wanted:
                self._counters.lookups += len(wanted)
                self._state.merge(self._store.sessions(batch.partition, batch.first, self._by.session, wanted))
            names = replayed_names(self._prepared)
            present = self._store.replayed(batch.partition, batch.first, names) if names else set()
            self._loaded = finish(self._prepared, self._state, present)
        if self._dead_letter and self._loaded.rejected and not self._buried:
            self._dead_letter.put(letters(batch, self._loaded.rejected))
            self._buried = True
        if self._insert is None:
            young = self._now_ms() - batch.at_ms <= self._rules.recovery_age_ms_max  # asked anew at every attempt
            load = partial(self._store.heal, is_remembered=young) if self._is_begun else self._store.load
            self._insert = self._inserts.start(load, batch, self._loaded)
            if self._insert is None:
                self.waits_since_s = min(self.waits_since_s, self._clock_s())
                return False
            self._is_begun = True
            self.waits_since_s = math.inf
        if not self._insert.done():
            self._gather()
            return False
        insert, self._insert = self._insert, None
        self._gauge.note(self.log.partition, insert.result(), self._clock_s())
        self._counters.count(batch, self._loaded)
        self._batch = self._prepared = self._loaded = None
        self._buried = self._is_begun = False
        self._before = batch.last + 1
        return True


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
        inserts: Inserts | None = None,
        dead_letter: DeadLetter | None = None,
    ) -> None:
        self.counters = counters or WorkerCounters()
        self.progress = Progress()
        self._reader = reader
        self._store = store
        self._rules = self._todays = rules
        self._clock_s = clock_s
        self._gauge = Gauge(store)
        self._inserts = inserts or Inserts()
        self._dead_letter = dead_letter
        self._partitions: dict[int, PartitionWorker] = {}
        self._turn = 0

    def run(self, stop: ThreadEvent) -> None:
        """Work until `stop` is set. Raises FatalError when trying again cannot help."""
        try:
            while not stop.is_set():
                if not self.step() and not self._inserts.wait(IDLE_WAIT_S):
                    self._reader.wait(IDLE_WAIT_S)
                    stop.wait(PAUSE_S)
                self.progress.watch(self._partitions.values(), self._clock_s(), self._gauge.parts)
        finally:
            self._inserts.close()
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
        for worker in self._in_turn(self._assigned()):
            now_s = self._clock_s()
            if worker.over or now_s < worker.retry_at_s or (worker.found and not worker.log.over):
                continue
            try:
                busy = worker.step() or busy
                worker.backoff_s = BACKOFF_S_MIN
            except RetryError as error:
                self._put_off(worker, now_s, error)
            except FencedError as error:
                self.counters.fenced += 1
                worker.over = True  # kept, so that nobody starts on this assignment again: its position has moved
                logger.warning("partition %d is no longer ours: %s", worker.log.partition, error)
        self._read_sessions()
        return busy

    def _in_turn(self, workers: list[PartitionWorker]) -> list[PartitionWorker]:
        """Return them in the order of this step, so that none is passed over for ever.

        Who has waited longest for its turn to load is first. Where ClickHouse takes few batches at all, each is the
        first at times.
        """
        if self._gauge.known() >= self._rules.batch.parts_max:
            self._turn += 1
            first = self._turn % max(len(workers), 1)
            workers = workers[first:] + workers[:first]
        return sorted(workers, key=lambda worker: worker.waits_since_s)

    def _read_sessions(self) -> None:
        """Give the partitions that found where they go on their sessions, read with one query."""
        now_s = self._clock_s()
        found = {
            worker.log.partition: (worker, worker.found)
            for worker in self._partitions.values()
            if worker.found and not worker.over and now_s >= worker.retry_at_s
        }
        if not found:
            return
        try:
            states = rebuild(self._store, [one for _, one in found.values()], self._rules.session_keep_ms)
        except RetryError as error:
            for worker, _ in found.values():
                self._put_off(worker, now_s, error)
            return
        for partition, (worker, _) in found.items():
            worker.take_up(states[partition])
        count = sum(map(len, states.values()))
        logger.info("sessions of %d visitors in %d partitions read again", count, len(states))

    def _put_off(self, worker: PartitionWorker, now_s: float, error: RetryError) -> None:
        """Let a partition try again later, and later each time."""
        self.counters.retries += 1
        worker.retry_at_s = now_s + worker.backoff_s
        worker.backoff_s = min(worker.backoff_s * 2, BACKOFF_S_MAX)
        logger.warning("partition %d: %s; again in %.2f s", worker.log.partition, error, worker.retry_at_s - now_s)

    def _assigned(self) -> list[PartitionWorker]:
        """Return a worker per assigned partition; an assignment that is over takes its state with it."""
        logs = self._reader.assigned()
        current = {id(log): log for log in logs}
        for key in [key for key in self._partitions if key not in current]:
            del self._partitions[key]
        for key, log in current.items():
            if key not in self._partitions:
                self._partitions[key] = PartitionWorker(
                    log,
                    self._store,
                    self._rules,
                    self._clock_s,
                    self.counters,
                    gauge=self._gauge,
                    inserts=self._inserts,
                    dead_letter=self._dead_letter,
                )
        return list(self._partitions.values())
