"""A whole box in one thread: collectors, forwarder, log, workers, ClickHouse, and what is true of it in the end.

The collectors' spools, the forwarder, the worker and the store are the product's own code; the log and ClickHouse are
in memory. Who acts when is round robin, or drawn.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import cycle, groupby
from pathlib import Path
from random import Random
from typing import Any

import msgspec
from support.simulated_chaos import Chaos, Killed, Plan
from support.simulated_clickhouse import SUMS_MODULO, SimulatedClickHouse, rows_of
from support.simulated_edge import Make, SimulatedCollector, SimulatedForwarder, installed
from support.simulated_hits import BASE_MS, MINUTE_MS
from support.simulated_log import SimulatedLog

from consumers.batch import Batch
from consumers.batch_pace import BatchLimits
from consumers.batch_rules import BatchRules
from consumers.clickhouse_store import ClickHouseStore
from consumers.deduplicate import Marks
from consumers.log_reader.port import Record
from consumers.pipeline import finish, prepare
from consumers.rows import event_columns
from consumers.rules import Rules
from consumers.session_state import SessionState
from consumers.worker import Worker, WorkerRules
from ingest.forwarder_cursor import ledger_view
from schemas.errors import FatalError, RetryError
from schemas.hit import name_text
from schemas.limits import Limits
from schemas.session import SessionRule

RULES = WorkerRules(
    rules=Rules(Limits(), {}),
    session=SessionRule(event_ids_max=4, events_per_minute_max=2),
    session_keep_ms=0,
    batch=BatchLimits(rows_max=3, bytes_max=1 << 20, age_s_min=0.5, age_s_max=0.5, parts_max=600),
    recovery_age_ms_max=30 * MINUTE_MS,
)
TWO_PARTITIONS = partial(SimulatedLog, 2)
ROUNDS_MAX = 400
STALL_ROUNDS = 4
KEPT = ("inserted", "rejected", "duplicate", "filtered")


class BrokenGuaranteeError(AssertionError):
    """The guarantee was broken; says which part, and what happened in the run."""


class SimulatedClient:
    """ClickHouse over a connection: every query and every block of an insert is a step."""

    def __init__(self, clickhouse: SimulatedClickHouse, chaos: Chaos) -> None:
        self._clickhouse = clickhouse
        self._chaos = chaos

    def query(self, text: str, parameters: dict[str, Any] | None = None) -> list[tuple[Any, ...]]:
        self._chaos.point("query", retry=True)
        return self._clickhouse.query(text, parameters)

    def read(self, text: str, parameters: dict[str, Any], kind: Any) -> list[Any]:
        self._chaos.point("query", retry=True)
        return self._clickhouse.read(text, parameters, kind)

    def stream(self, text: str, parameters: dict[str, Any], kind: Any) -> Iterator[list[Any]]:
        self._chaos.point("query", retry=True)
        yield from self._clickhouse.stream(text, parameters, kind)
        self._chaos.point("rows", retry=True)

    def query_columns(self, text: str) -> dict[str, list[Any]]:
        self._chaos.point("query", retry=True)
        return self._clickhouse.query_columns(text)

    def insert(self, table: str, columns: Any, *, token: str, shard: int = 0) -> None:
        del shard
        blocks = self._clickhouse.blocks_of(table, columns, token)
        self._chaos.blocks(f"insert {table} {token}", blocks, (Killed, RetryError))


class World:
    """Runs `scripts`, one per collector, under `plan`. `random` draws who acts next; without, all act in turn.

    Workers start with one of `rules` after the other. After every death everything stands still for `outage_s`; what
    was under way lands before it is over, and with `outage_forgets` ClickHouse knows no token any more.
    """

    store_of: Callable[..., Any] = ClickHouseStore

    def __init__(
        self,
        data_dir: Path,
        scripts: Sequence[Sequence[Sequence[Make]]],
        plan: Plan,
        *,
        members: Sequence[str] = ("one", "two"),
        log_of: Callable[[Chaos], Any] = TWO_PARTITIONS,
        rules: Sequence[WorkerRules] = (RULES,),
        window: int = 100_000,
        random: Random | None = None,
        outage_s: float = 0.0,
        outage_forgets: bool = False,
    ) -> None:
        self.chaos = Chaos(plan)
        self.chaos.others = self._others
        self.chaos.rebalance = self.rebalance
        self.log = log_of(self.chaos)
        self.clickhouse = SimulatedClickHouse(window)
        self.now_s = BASE_MS / 1000
        self.collectors = [SimulatedCollector(data_dir, self.chaos, script) for script in scripts]
        self.forwarder = SimulatedForwarder(data_dir, self.log.writer(), lambda: self.now_s)
        self.workers: dict[str, Worker | None] = dict.fromkeys(members)
        self._data_dir = data_dir
        self._rules = {BatchRules.of(one.rules, one.session).name: one for one in rules}
        self._next_rules = cycle(rules)
        self._random = random
        self._outage_s = outage_s
        self._outage_forgets = outage_forgets
        self._shares: dict[str, list[int]] = {}
        self._turned = 0
        self._acting = ""
        self._busy = True
        self.share()

    # who does what

    def share(self, without: str = "", turned: int = 0) -> None:
        """Assign the partitions to the members, drawn or in turn, so many places further than before."""
        self._turned += turned
        present = [name for name in self.workers if name != without] or list(self.workers)
        self._shares = {name: [] for name in present}
        for partition in range(self.log.partitions):
            in_turn = present[(partition + self._turned) % len(present)]
            self._shares[self._random.choice(present) if self._random else in_turn].append(partition)
        self.log.assign(self._shares)

    def rebalance(self) -> None:
        """Deal the partitions anew, each to another member where there are more."""
        self.share(turned=1)

    def run(self) -> None:
        """Run until nothing is left to do, then let late inserts land. Raises BrokenGuaranteeError."""
        with installed(self.chaos):
            try:
                for _ in range(ROUNDS_MAX):
                    self._busy = False
                    self.round()
                    if not self._busy and self._at_rest():
                        break
                else:
                    raise BrokenGuaranteeError("the run does not come to rest")
                self.chaos.land_all()
            except FatalError as error:
                raise BrokenGuaranteeError(f"a process gives up: {error}") from error
            finally:
                self._end()

    def _at_rest(self) -> bool:
        """Whether nobody has anything to do, and all that was kept is loaded.

        Each is asked twice, in turn: the first time a worker may not know yet what it was assigned.
        """
        self.round(in_turn=True)
        self.round(in_turn=True)
        with self.chaos.held():
            return not self._busy and self._all_loaded()

    def round(self, without: str = "", *, in_turn: bool = False) -> None:
        """Let everybody act once, or somebody drawn as often."""
        self.now_s += 6.0
        names = [*(f"collector {number}" for number in range(len(self.collectors))), "forwarder", *self.workers]
        names = [name for name in names if name != without]
        for name in names:
            drawn = self._random.choice(names) if self._random and not in_turn else name
            self.turn(drawn)
        if self._random and not without and not in_turn and self._random.random() < 0.05:
            self.share()

    def turn(self, name: str) -> None:
        """Let one process act; if it dies, it is started again at its next turn."""
        before, self._acting = self._acting, name
        try:
            if name == "forwarder":
                self.forwarder.turn()
            elif name.startswith("collector"):
                self._collect(self.collectors[int(name.split()[1])])
            else:
                self._work(name)
        except Killed:
            self._busy = True
            self._die(name)
            if self._outage_s:
                self.chaos.land_all()
                self.now_s += self._outage_s
                if self._outage_forgets:
                    self.clickhouse.forget()
        finally:
            self._acting = before

    def _collect(self, collector: SimulatedCollector) -> None:
        if collector.done:
            collector.end()
            return
        self._busy = True
        collector.turn()

    def _work(self, name: str) -> None:
        worker = self.workers[name]
        if worker is None:
            store = self.store_of(SimulatedClient(self.clickhouse, self.chaos))
            reader = self.log.join(name, self._shares)
            worker = self.workers[name] = Worker(reader, store, next(self._next_rules), lambda: self.now_s)
        before = worker.counters.retries + worker.counters.fenced
        busy = worker.step() or worker.counters.retries + worker.counters.fenced > before
        if not busy:
            worker._reader.wait(0.0)
        self._busy = busy or self._busy

    def _die(self, name: str) -> None:
        if name == "forwarder":
            self.forwarder.die()
        elif name.startswith("collector"):
            self.collectors[int(name.split()[1])].die()
        else:
            self.workers[name] = None

    def _others(self) -> None:
        """What happens while the acting process stands still; a worker loses its partitions meanwhile.

        Where its member of the group lives on in a thread of its own, it is dealt partitions nevertheless.
        """
        stalled = self._acting
        if stalled in self.workers:
            self.share(without="" if self.log.prompt else stalled, turned=1)
        for _ in range(STALL_ROUNDS):
            self.round(without=stalled)

    def _all_loaded(self) -> bool:
        """Whether every hit kept is in the log, every spool was finished, and every record is in a batch."""
        if any(not collector.done or collector._spool is not None for collector in self.collectors):
            return False
        if any(not state.finished for state in ledger_view(self._data_dir).values()):
            return False
        return all(self.log.loaded_to(partition) for partition in range(self.log.partitions))

    def _end(self) -> None:
        self.forwarder.die()
        for collector in self.collectors:
            collector.die()
        for worker in self.workers.values():
            if worker:
                worker._reader.close()

    # what is true in the end

    def check(self) -> None:
        """Raise unless each hit is counted once, in its session, and every count adds up."""
        try:
            self._check_log()
            self._check_tables()
            self._check_view()
            self._check_ledger()
        except AssertionError as error:
            happened = "\n  ".join(["", *self.chaos.happened])
            raise BrokenGuaranteeError(f"{error}{happened}") from error

    def _check_log(self) -> None:
        seen: set[tuple[int, int]] = set()
        for here in self.log.records.values():
            names = {name_of(record.value) for record in here}
            assert not seen & names, f"in two partitions, and so counted twice: {seen & names}"
            seen |= names
        acknowledged = set().union(*(collector.acknowledged for collector in self.collectors))
        assert not acknowledged - seen, f"answered and lost: {acknowledged - seen}"
        assert not seen - set().union(*(collector.tried for collector in self.collectors)), "a hit out of nowhere"

    def _check_tables(self) -> None:
        events, rejected, counts = self._expected()
        stored = {(row["log_partition"], row["log_offset"]): row for row in self.clickhouse.rows("events")}
        assert len(stored) == len(self.clickhouse.rows("events")), "a record has two rows"
        assert stored.keys() == events.keys(), f"rows: {sorted(stored)}, expected {sorted(events)}"
        hits = Counter(row["replay_of"] or name_text(row["spool_id"], row["spool_seq"]) for row in stored.values())
        assert not [name for name, rows in hits.items() if rows > 1], f"replayed into several rows: {hits}"
        sessions: dict[int, set[int]] = defaultdict(set)
        for place, row in stored.items():
            expected = events[place]
            sessions[expected["session_id"]].add(row["session_id"])
            different = {name for name, value in expected.items() if row[name] != value} - NOT_COMPARED
            assert not different, f"{place}: {[(name, row[name], expected[name]) for name in different]}"
        ids = [ident for found in sessions.values() for ident in found]
        assert len(ids) == len(sessions) == len(set(ids)), f"sessions are split or one: {dict(sessions)}"
        found = sorted((row["log_partition"], row["log_offset"]) for row in self.clickhouse.rows("rejected"))
        assert found == sorted(rejected), f"rejected: {found}, expected {sorted(rejected)}"
        totals: Counter[tuple[int, str]] = Counter()
        for row in self.clickhouse.rows("batches"):
            totals.update({(row["spool_id"], name): row[name] for name in KEPT})
        assert +totals == counts, f"counts: {+totals}, expected {counts}"

    def _expected(self) -> tuple[dict[Any, dict[str, Any]], list[Any], Counter[tuple[int, str]]]:
        """What each partition's records become, the first of each hit alone: no batches, no marks, no cache."""
        events, rejected, counts = {}, [], Counter()
        for partition, here in self.log.records.items():
            firsts = {name_of(record.value): record for record in reversed(here)}
            records = sorted(firsts.values(), key=lambda record: record.offset)
            state = SessionState(RULES.session, 1 << 60)
            for rules, run in groupby(records, partial(self._rules_at, partition)):
                state.rule = rules.session
                batch = Batch("hits", partition, 0, 0, BASE_MS, list(run))
                loaded = finish(
                    [item for record in batch.records for item in prepare([record], Marks(), rules.rules)],
                    state,
                )
                if loaded.events:
                    for row in rows_of(event_columns(batch, loaded.events)):
                        events[partition, row["log_offset"]] = row
                rejected += [(partition, row.record.offset) for row in loaded.rejected]
                for count in loaded.counts:
                    counts.update({(count.spool_id, name): getattr(count, name) for name in KEPT})
        return events, rejected, +counts

    def _rules_at(self, partition: int, record: Record) -> WorkerRules:
        """The rules that the batch of a record was registered under."""
        batches = self.log.history[partition]
        of_batch = (batch.rules for batch in batches if batch.first <= record.offset <= batch.last)
        return self._rules.get(next(of_batch, ""), RULES)

    def _check_view(self) -> None:
        stored, view = Counter(), Counter()
        for row in self.clickhouse.rows("events"):
            stored[row["session_id"]] += bool(row["session_id"])
        for row in self.clickhouse.rows("session_parts"):
            view[row["session_id"]] += row["events"]
        sums = {ident: here for ident, rows in view.items() if (here := rows % SUMS_MODULO)}
        assert sums == +stored, f"sessions {sums}, events {+stored}"

    def _check_ledger(self) -> None:
        counted: Counter[int] = Counter()
        marks: Counter[int] = Counter()
        for row in self.clickhouse.rows("batches"):
            counted[row["spool_id"]] += sum(row[name] for name in KEPT)
            marks[row["spool_id"]] = max(marks[row["spool_id"]], row["seq_max"] + 1)
        for name, state in ledger_view(self._data_dir).items():
            spool = int(name, 16)
            assert state.finished, f"spool {name} was not finished"
            balance = state.appended - counted.pop(spool, 0) - state.damaged
            assert balance == 0, f"spool {name}: {state}, counted {state.appended - balance}"
            assert marks[spool] == state.appended - state.damaged, f"spool {name}: {state}, mark {marks[spool]}"
        assert not counted, f"counted of spools that nobody knows: {counted}"


NOT_COMPARED = {"session_id", "batch_first", "batch_last"}


def name_of(value: bytes) -> tuple[int, int]:
    """Return (spool id, seq) of a hit's bytes as `simulated_hits` writes them."""
    hit = msgspec.json.decode(value)
    return int(hit["spool_id"], 16), hit["spool_seq"]
