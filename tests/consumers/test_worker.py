"""The worker's protocol with its log and store, call by call; the simulation runs it against everything at once."""

from threading import Event

import msgspec
import pytest
from support.simulated_hits import BASE_MS, hit, records
from support.worker_box import RULES, Box, Log, Store, hits, raise_next

from consumers.log_reader.port import FencedError, Registered
from consumers.metrics import WorkerCounters, WorkerMetrics
from consumers.recovery import CONTRADICTIONS_MAX
from consumers.rules import Rules
from consumers.worker import Worker
from schemas.errors import FatalError, RetryError
from schemas.limits import Limits


def test_a_batch_is_registered_before_it_is_loaded_and_loaded_before_the_next_is_registered():
    box = Box(hits(5))
    box.step(8)
    assert box.calls == [("register", 0, 2), ("load", 0, 2), ("register", 3, 4), ("load", 3, 4)]
    assert box.rows() == [0, 1, 2, 3, 4]


def test_a_batch_that_is_not_full_waits_for_company_until_it_is_old():
    box = Box(hits(2))
    box.step()  # recovers
    assert not box.step(3, after_s=0.3)
    box.step(after_s=0.5)
    assert box.calls == [("register", 0, 1), ("load", 0, 1)]


def test_the_registered_batch_is_formed_again_exactly():
    box = Box(hits(9), Registered(2, 4, BASE_MS))
    box.log.few = 1
    box.step()
    box.step()
    assert box.calls == [("heal", 2, 4)]
    assert box.rows() == [2, 3, 4]
    assert box.worker.counters.recovered == 1


def test_a_refused_registration_ends_without_an_insert_and_nobody_starts_on_it_again():
    box = Box(hits(3))
    box.log.fail["register"] = [FencedError("gone")]
    box.step(6)
    assert box.calls == [("register", 0, 2)]
    assert box.rows() == []
    assert box.worker.counters.fenced == 1
    box.logs = [Log(hits(3), calls=box.calls)]
    box.step(3)
    assert box.rows() == [0, 1, 2]


def test_an_assignment_that_has_ended_asks_clickhouse_nothing_more():
    box = Box(hits(6), Registered(0, 2, BASE_MS))
    box.log.over = True
    box.clickhouse.query = None
    box.step(3)
    assert box.calls == []
    assert box.worker.counters.fenced == 1


def test_a_registration_that_may_have_been_committed_is_repeated_with_the_same_end():
    box = Box(hits(2))
    box.log.fail["register"] = [RetryError("no answer")]
    box.step(4, after_s=0.6)
    assert box.calls == [("register", 0, 1)]
    box.log.records = records(hits(3))
    box.step(6)
    assert box.calls == [("register", 0, 1), ("register", 0, 1), ("load", 0, 1), ("register", 2, 2), ("load", 2, 2)]
    assert box.rows() == [0, 1, 2], "nothing that was gathered is forgotten"


def test_a_load_that_failed_is_repeated_with_the_same_rows():
    box = Box([hit(0, params={"id": "a"}), hit(1, params={"id": "a"}), hit(1), hit(2)])
    box.store.fail = {"load": [RetryError("one")], "heal": [RetryError("two")]}
    box.step(8)
    assert box.calls[:4] == [("register", 0, 2), ("load", 0, 2), *[("heal", 0, 2)] * 2]
    assert box.rows() == [0, 2]
    assert (box.worker.counters.duplicates, box.worker.counters.resent, box.worker.counters.retries) == (1, 1, 2)


def test_a_failed_step_waits_longer_each_time():
    box = Box(hits(3))
    box.store.fail = {"load": [RetryError("x")], "heal": [RetryError("x")] * 50}
    box.step(300, after_s=0.1)
    assert 10 < box.worker.counters.retries < 20


def test_a_recovery_that_fails_midway_forgets_nothing():
    box = Box(hits(6), Registered(0, 5, BASE_MS))
    box.log.few = 2
    box.log.fail["fetch"] = [None, RetryError("x"), None, RetryError("x")]
    box.step(10)
    assert box.rows() == [0, 1, 2, 3, 4, 5]


def test_records_of_the_registered_batch_that_do_not_come_are_waited_for():
    box = Box(hits(3), Registered(0, 4, BASE_MS))
    box.log.end = lambda: 5
    box.step(3)
    assert box.calls == []
    box.log.records = records(hits(5))
    box.step(8)
    assert box.calls[0] == ("heal", 0, 4)
    assert box.rows() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(("age_s", "call"), [(1700, "heal"), (1900, "heal old")])
def test_a_registered_batch_is_healed_by_its_token_while_that_is_remembered(age_s, call):
    box = Box(hits(3), Registered(0, 2, BASE_MS - age_s * 1000))
    box.step(2)
    assert box.calls == [(call, 0, 2)]


def test_a_batch_whose_insert_was_begun_is_healed_from_then_on():
    box = Box(hits(6))
    box.store.fail = {"load": [RetryError("down")], "heal": [RetryError("down")]}
    box.step(2)
    box.step(after_s=10)
    box.step(after_s=2000)
    box.step(4)
    healed = [("register", 0, 2), ("load", 0, 2), ("heal", 0, 2), ("heal old", 0, 2)]
    assert box.calls == [*healed, ("register", 3, 5), ("load", 3, 5)]
    assert box.rows() == [0, 1, 2, 3, 4, 5]


def test_tables_of_another_log_stop_the_worker():
    first = Box(hits(6))
    first.step(8)
    other = Box(hits(3), clickhouse=first.clickhouse)
    with pytest.raises(FatalError, match="not the one that filled these tables"):
        other.step(CONTRADICTIONS_MAX, after_s=10)
    with pytest.raises(FatalError, match="not the one that filled these tables"):
        Box(hits(3), Registered(0, 2, BASE_MS), clickhouse=first.clickhouse).step()


def test_a_worker_that_lost_its_partition_unawares_takes_the_successors_batches_for_no_fault():
    first = Box(hits(6))
    first.step(8)
    zombie = Box(hits(3), Registered(0, 2, BASE_MS), clickhouse=first.clickhouse)
    zombie.log.fail["register"] = [FencedError("gone")]
    zombie.step(2)
    assert zombie.worker.counters.fenced == 1


def test_state_is_rebuilt_from_what_lies_before_the_registered_batch():
    whole = Box([hit(0, params={"id": "a"}), hit(1), hit(2), hit(3, params={"id": "a"}), hit(3), hit(4)])
    whole.step(8)
    again = Box([])
    again.log.records, again.log.registered, again.log.next = whole.log.records, Registered(3, 5, BASE_MS), 3
    again.store = Store(whole.clickhouse, again.calls)
    again.worker = Worker(again, again.store, RULES, lambda: again.now_s)
    batches = whole.clickhouse.tables["batches"]
    before = list(batches.rows)
    batches.rows = [row for row in before if row["batch_first"] != 3]  # it died before it counted
    batches.forget()
    again.step(2)
    assert again.calls == [("heal", 3, 5)]
    counts = again.worker.counters
    assert (counts.inserted, counts.duplicates, counts.resent) == (1, 1, 1), "as the first worker counted"
    assert whole.clickhouse.rows("batches") == before
    assert whole.rows() == [0, 1, 2, 4]


def test_a_batch_that_is_loaded_is_not_loaded_again_whatever_the_rules_are_now():
    first = Box([hit(0, params={"id": "a"}), hit(1, params={"s": "blog"}), hit(2, params={"id": "a"})])
    rules = msgspec.structs.replace(RULES, rules=Rules(Limits(sites=frozenset(("shop",))), {}))
    first.worker = Worker(first, first.store, rules, lambda: first.now_s)
    first.step(3)
    rows = {table: list(first.clickhouse.rows(table)) for table in ("events", "rejected", "batches")}
    again = Box([], first.log.registered, first.clickhouse)
    again.log.records = first.log.records + records([hit(2), hit(3), hit(4, params={"id": "a"})], 3)
    again.step(1)
    assert {table: list(first.clickhouse.rows(table)) for table in rows} == rows
    again.step(3)
    assert again.calls == [("register", 3, 5), ("load", 3, 5)]
    counts = again.worker.counters
    assert (counts.resent, counts.inserted, counts.duplicates, counts.recovered) == (1, 1, 1, 0)


def test_replaced_files_are_taken_up_before_each_batch_and_once():
    box = Box(hits(5), rules=msgspec.structs.replace(RULES, refresh=lambda: box.calls.append("refresh")))
    box.store.fail["load"] = [RetryError("x")]
    box.step(6)
    assert box.calls == [
        "refresh", ("register", 0, 2), ("load", 0, 2), ("heal", 0, 2), "refresh", ("register", 3, 4), ("load", 3, 4)
    ]  # fmt: skip


def test_a_recovery_that_fails_after_reading_the_batch_forgets_none_of_it():
    box = Box(hits(3), Registered(0, 2, BASE_MS))
    counted, box.store.fail["counted"] = box.store.counted, [RetryError("x"), RetryError("x")]

    def failing(batch):
        raise_next(box.store.fail, "counted")
        return counted(batch)

    box.store.counted = failing
    box.step(6)
    assert box.rows() == [0, 1, 2]


def test_two_partitions_are_apart_and_one_that_fails_holds_up_no_other():
    box = Box(hits(3))
    other = Log([hit(seq, spool=2) for seq in range(3)])
    other.partition = 1
    box.logs = [box.log, other]
    box.log.fail["register"] = [RetryError("x")] * 99
    box.step(4)
    assert [(row["log_partition"], row["spool_id"]) for row in box.clickhouse.rows("events")] == [(1, 2)] * 3


def test_run_waits_when_there_is_nothing_and_gives_back_what_it_has():
    box = Box(hits(3))
    stop = Event()

    def wait(timeout_s):
        box.now_s += 1
        box.waited += 1
        if box.waited == 5:
            stop.set()

    box.wait = wait
    box.worker.run(stop)
    assert box.rows() == [0, 1, 2]
    assert box.closed == 1


def test_metrics_say_what_was_counted():
    box = Box([hit(0), hit(1, params={"v": "x"}), b"nope"])
    box.step(3)
    samples = {
        (sample.name, sample.labels.get("reason")): sample.value
        for family in WorkerMetrics(box.worker.counters).collect()
        for sample in family.samples
    }
    assert samples["hitstream_worker_inserted_total", None] == 1
    assert samples["hitstream_worker_rejected_total", "bad_value"] == 1
    assert samples["hitstream_worker_rejected_total", "bad_json"] == 1
    assert samples["hitstream_worker_batches_total", None] == 1
    assert set(vars(WorkerCounters())) == {name[17:-6] for name, _ in samples}
