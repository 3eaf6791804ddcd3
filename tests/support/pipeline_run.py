"""The worker's steps without a worker: batches loaded one by one into a simulated ClickHouse."""

from collections import Counter
from itertools import pairwise

from support.simulated_clickhouse import SimulatedClickHouse
from support.simulated_hits import BASE_MS, DAY_MS, records

from consumers.batch import Batch
from consumers.batch_rules import BatchRules
from consumers.clickhouse_store import ClickHouseStore
from consumers.deduplicate import Marks
from consumers.pipeline import finish, lookups, prepare
from consumers.recovery import Found, rebuild
from consumers.rules import Rules
from consumers.session_state import SessionState
from schemas.limits import Limits
from schemas.session import SessionRule

RULES = Rules(Limits(), {})
RULE = SessionRule(events_per_minute_max=1)


class Run:
    """Loads batches one by one, as a worker does; `restarts` rebuilds all state before each batch."""

    def __init__(self, keep_ms=2 * DAY_MS, rule=RULE, *, restarts=False):
        self.clickhouse = SimulatedClickHouse()
        self.store = ClickHouseStore(self.clickhouse)
        self.state = SessionState(rule, keep_ms)
        self.marks = Marks()
        self.looked_up = 0
        self._keep_ms = keep_ms
        self._restarts = restarts

    def load(self, records):
        batch = Batch("hits", 0, records[0].offset, records[-1].offset, BASE_MS, records)
        if self._restarts:
            self._rebuild(batch.first)
        prepared = prepare(batch.records, self.marks, RULES)
        wanted = lookups(prepared, self.state)
        if wanted:
            self.looked_up += len(wanted)
            self.state.merge(self.store.sessions(0, batch.first, self.state.rule, wanted))
        loaded = finish(prepared, self.state)
        self.store.load(batch, loaded)
        return loaded

    def _rebuild(self, before):
        resume = self.store.resume("hits", 0, before)
        self.marks = Marks(resume.marks)
        found = Found(0, before, BatchRules.of(RULES, self.state.rule), resume)
        self.state = rebuild(self.store, [found], self._keep_ms)[0]

    def rows(self):
        """The rows of all tables, without what says which batch they came in."""
        events = [strip(row) for row in self.clickhouse.rows("events")]
        rejected = [(row["log_offset"], row["reason"], row["spool_id"]) for row in self.clickhouse.rows("rejected")]
        totals = Counter()
        for row in self.clickhouse.rows("batches"):
            for name in ("inserted", "rejected", "duplicate", "filtered", "resent"):
                totals[row["spool_id"], name] += row[name]
        return events, rejected, +totals


def strip(row):
    return {name: value for name, value in row.items() if not name.startswith("batch_")}


def run(values, cuts=(), **how):
    """Load the values cut into batches before each place of `cuts`."""
    made = Run(**how)
    all_records = records(values)
    places = [0, *sorted({cut for cut in cuts if 0 < cut < len(values)}), len(values)]
    for start, end in pairwise(places):
        if start < end:
            made.load(all_records[start:end])
    return made
