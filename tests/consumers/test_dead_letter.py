"""Letters validate against their schema and lose no byte; the worker puts them before it counts their batch."""

import json
from base64 import b64decode
from pathlib import Path

import jsonschema
import pytest
from support.simulated_clickhouse import SimulatedClickHouse
from support.simulated_hits import BASE_MS, hit, records

from consumers.batch import Batch
from consumers.batch_pace import BatchLimits
from consumers.clickhouse_store import ClickHouseStore
from consumers.dead_letter import RAW_BYTES_MAX, Letter, letters, record_name
from consumers.deduplicate import Marks
from consumers.log_reader.port import FencedError
from consumers.pipeline import finish, prepare
from consumers.rules import Rules
from consumers.session_state import SessionState
from consumers.worker import Worker, WorkerRules
from schemas.errors import RetryError
from schemas.limits import Limits
from schemas.rejection import Reason
from schemas.session import SessionRule

SCHEMA = json.loads((Path(__file__).parents[2] / "schemas" / "rejected.schema.json").read_text())
SESSION = SessionRule()
RULES = WorkerRules(
    rules=Rules(Limits(), {}),
    session=SESSION,
    session_keep_ms=0,
    batch=BatchLimits(rows_max=2, bytes_max=1 << 20, age_s_min=0.1, age_s_max=0.1, parts_max=600),
    recovery_age_ms_max=1_800_000,
)
WRONG = {"v": "wrong"}
BROKER_BYTES_MAX = 1_048_576


def letters_of(*values):
    batch = Batch("hits", 3, 10, 9 + len(values), BASE_MS, records(list(values), 10))
    loaded = finish(prepare(batch.records, Marks(), RULES.rules), SessionState(SESSION, 0))
    made = letters(batch, loaded.rejected)
    contents = [json.loads(letter.value) for letter in made]
    for letter, content in zip(made, contents, strict=True):
        jsonschema.validate(content, SCHEMA)
        assert letter.key.decode() == content["name"]
        assert len(letter.key) + len(letter.value) < BROKER_BYTES_MAX - 1024
    return contents


def raw_of(content):
    return content["raw"].encode() if "raw" in content else b64decode(content["raw_base64"])


def test_a_rejected_hit_is_whole():
    wrong = hit(5, spool=0xABC, params=WRONG | {"ti": "Größe"})
    (content,) = letters_of(wrong, hit(6, spool=0xABC))
    assert content["name"] == "0000000000000abc:5"
    assert (content["spool_id"], content["spool_seq"], content["site"]) == ("0000000000000abc", 5, "shop")
    assert (content["topic"], content["partition"], content["offset"]) == ("hits", 3, 10)
    assert (content["reason"], content["received_at"]) == ("bad_value", BASE_MS)
    assert "wrong" in content["detail"]
    assert raw_of(content) == wrong


@pytest.mark.parametrize("value", [b"", b"nope", b"\xff\0\x1b[2J", b'{"spool_id":7}', b"[]"])
def test_a_record_that_is_no_hit_is_named_by_its_place(value):
    (content,) = letters_of(value)
    assert content["name"] == "hits:3:10"
    assert not {"spool_id", "spool_seq", "site"} & content.keys()
    assert (raw_of(content), content["raw_bytes"], content["received_at"]) == (value, len(value), BASE_MS)


@pytest.mark.parametrize("filling", [b"x", b"\xff", b"\0", b'"', "é".encode()])
def test_a_huge_record_fits_a_broker(filling):
    value = filling * (10_000_000 // len(filling))
    (content,) = letters_of(value)
    assert content["raw_bytes"] == len(value)
    assert raw_of(content) == value[:RAW_BYTES_MAX]


def test_a_hit_of_the_largest_size_is_not_cut():
    value = hit(0, params=WRONG, user_agent='"' * (256 * 1024 // 4))
    (content,) = letters_of(value)
    assert raw_of(content) == value


def test_the_schema_knows_every_reason():
    assert set(SCHEMA["properties"]["reason"]["enum"]) == {reason.value for reason in Reason}


def test_a_records_name():
    assert record_name("hits", 3, 7, 0, 0) == "hits:3:7"
    assert record_name("hits", 3, 7, 1, 0) == "0000000000000001:0"


class Kept:
    """A dead letter in memory that writes down when it is used, and fails as often as it is told."""

    def __init__(self, calls, failures=0):
        self.calls = calls
        self.failures = failures
        self.letters = []

    def put(self, records):
        assert all(isinstance(record, Letter) for record in records)
        self.calls.append("put")
        if self.failures:
            self.failures -= 1
            raise RetryError("no broker")
        self.letters += records


class Log:
    """One partition and its reader."""

    topic, partition, over = "hits", 0, False

    def __init__(self, values, calls, registered=None):
        self.records = records(values)
        self.registered = registered
        self.calls = calls
        self.next = 0
        self.fenced = False

    def fetch(self, records_max, bytes_max, last=None):
        until = len(self.records) if last is None else last + 1
        found = self.records[self.next : min(self.next + records_max, until)]
        self.next += len(found)
        return found

    def register(self, batch):
        if self.fenced:
            raise FencedError("gone")
        self.calls.append("register")
        self.registered = batch

    def end(self):
        return len(self.records)

    def position(self):
        return self.next

    def assigned(self):
        return [self]


class Recording(SimulatedClickHouse):
    """Writes down inserts, and loses the answer of as many as it is told."""

    def __init__(self, calls):
        super().__init__()
        self.calls = calls
        self.failures = 0

    def insert(self, table, columns, *, token):
        if table == "batch_rules":
            return super().insert(table, columns, token=token)
        self.calls.append(table)
        if self.failures:
            self.failures -= 1
            raise RetryError("no answer")
        return super().insert(table, columns, token=token)


def run(log, clickhouse, kept, steps):
    now_s = BASE_MS / 1000
    worker = Worker(log, ClickHouseStore(clickhouse), RULES, lambda: now_s, dead_letter=kept)
    for _ in range(steps):
        now_s += 10
        worker.step()


VALUES = [hit(0), hit(1, params=WRONG), hit(2), hit(3), b"nope"]


def names(kept):
    return [letter.key.decode() for letter in kept.letters]


def test_letters_are_put_before_their_batch_is_inserted_and_acknowledged():
    calls = []
    kept = Kept(calls)
    run(Log(VALUES, calls), Recording(calls), kept, 6)
    assert calls == [
        *("register", "put", "events", "rejected", "batches"),
        *("register", "events", "batches"),
        *("register", "put", "rejected", "batches"),
    ]
    assert names(kept) == ["0000000000000001:1", "hits:0:4"]


def test_while_the_dead_letter_fails_nothing_is_inserted():
    calls = []
    kept = Kept(calls, failures=2)
    run(Log(VALUES[:2], calls), Recording(calls), kept, 5)
    assert calls == ["register", "put", "put", "put", "events", "rejected", "batches"]
    assert names(kept) == ["0000000000000001:1"]


def test_a_load_that_is_tried_again_puts_no_letter_again():
    calls = []
    kept, clickhouse = Kept(calls), Recording(calls)
    clickhouse.failures = 2
    run(Log(VALUES[:2], calls), clickhouse, kept, 6)
    assert calls.count("put") == 1
    assert len(clickhouse.rows("rejected")) == 1


def test_after_a_crash_letters_may_come_again_but_none_is_missing():
    calls = []
    kept, clickhouse = Kept(calls), Recording(calls)
    log = Log(VALUES[:2], calls)
    clickhouse.failures = 99
    run(log, clickhouse, kept, 3)  # and then it is killed
    clickhouse.failures = 0
    run(Log(VALUES[:2], calls, log.registered), clickhouse, kept, 3)
    assert names(kept) == ["0000000000000001:1"] * 2
    run(Log(VALUES[:2], calls, log.registered), clickhouse, kept, 3)
    assert len(names(kept)) == 2, "what is loaded is not put again"


def test_a_worker_that_is_fenced_puts_nothing():
    calls = []
    log = Log(VALUES[:2], calls)
    log.fenced = True
    run(log, Recording(calls), Kept(calls), 3)
    assert calls == []
