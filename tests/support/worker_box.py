"""A worker with its log and store in memory, call by call: each call is written down and fails where a test says so."""

from support.simulated_clickhouse import SimulatedClickHouse
from support.simulated_hits import BASE_MS, HOUR_MS, hit, records

from consumers.batch_pace import BatchLimits
from consumers.clickhouse_store import ClickHouseStore
from consumers.rules import Rules
from consumers.worker import Worker, WorkerRules
from schemas.limits import Limits
from schemas.session import SessionRule

RULES = WorkerRules(
    rules=Rules(Limits(), {}),
    session=SessionRule(),
    session_keep_ms=48 * HOUR_MS,
    batch=BatchLimits(rows_max=3, bytes_max=1 << 20, age_s_min=1.0, age_s_max=1.0, parts_max=600),
    recovery_age_ms_max=1_800_000,
)


class Log:
    """One partition that writes down every call, and fails where `fail` says so: {call: [errors to raise]}."""

    topic, partition, over = "hits", 0, False

    def __init__(self, values, registered=None, calls=None):
        self.records = records(values)
        self.registered = registered
        self.next = registered.first if registered else 0
        self.calls = [] if calls is None else calls
        self.fail = {}
        self.few = 1000

    def fetch(self, records_max, bytes_max, last=None):
        raise_next(self.fail, "fetch")
        until = len(self.records) if last is None else last + 1
        found = self.records[self.next : min(self.next + min(records_max, self.few), until)]
        self.next += len(found)
        return found

    def register(self, batch):
        self.calls.append(("register", batch.first, batch.last))
        raise_next(self.fail, "register")
        self.registered = batch

    def end(self):
        return len(self.records)

    def position(self):
        return self.next


class Store(ClickHouseStore):
    """The real store; calls are written down and fail as the log's do."""

    def __init__(self, clickhouse, calls):
        super().__init__(clickhouse)
        self.calls = calls
        self.fail = {}

    def load(self, batch, loaded):
        self.calls.append(("load", batch.first, batch.last))
        raise_next(self.fail, "load")
        super().load(batch, loaded)

    def heal(self, batch, loaded, *, is_remembered):
        self.calls.append(("heal" if is_remembered else "heal old", batch.first, batch.last))
        raise_next(self.fail, "heal")
        super().heal(batch, loaded, is_remembered=is_remembered)


def raise_next(fail, call):
    if fail.get(call):
        error = fail[call].pop(0)
        if error:
            raise error


class Box:
    """A worker, its one partition, and a clock that goes on by 2 s a step."""

    def __init__(self, values=(), registered=None, clickhouse=None, rules=RULES):
        self.calls = []
        self.clickhouse = clickhouse or SimulatedClickHouse()
        self.log = Log(list(values), registered, self.calls)
        self.store = Store(self.clickhouse, self.calls)
        self.logs = [self.log]
        self.now_s = BASE_MS / 1000
        self.waited = self.closed = 0
        self.worker = Worker(self, self.store, rules, lambda: self.now_s)

    def step(self, times=1, after_s=2.0):
        for _ in range(times):
            self.now_s += after_s
            busy = self.worker.step()
        return busy

    # the reader
    def assigned(self):
        return self.logs

    def wait(self, timeout_s):
        self.waited += 1

    def close(self):
        self.closed += 1

    def rows(self):
        return [row["spool_seq"] for row in self.clickhouse.rows("events")]


def hits(count, start=0):
    return [hit(seq) for seq in range(start, start + count)]


def three_partitions(box):
    """Give a box three partitions of three hits each."""
    for partition in (1, 2):
        other = Log([hit(seq, spool=partition + 1, visitor=partition) for seq in range(6)], calls=box.calls)
        other.partition = partition
        box.logs.append(other)
    return box
