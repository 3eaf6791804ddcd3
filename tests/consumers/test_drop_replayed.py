"""Of a hit and its replays one leaves a row, and how batches are cut shows in no result."""

from itertools import pairwise
from random import Random

import pytest
from support.simulated_clickhouse import SimulatedClickHouse
from support.simulated_hits import BASE_MS, hit, records

from consumers.batch import Batch
from consumers.clickhouse_store import NAMES_PER_QUERY, ClickHouseStore
from consumers.decode import decode
from consumers.deduplicate import Marks
from consumers.pipeline import finish, prepare, replayed_names
from consumers.rules import Rules
from consumers.session_state import SessionState
from schemas.hit import name_text, parsed_name
from schemas.limits import Limits
from schemas.rejection import Reason
from schemas.session import SessionRule

RULES = Rules(Limits(), {})
OLD = name_text(9, 4)
WRONG = {"v": "wrong"}


def load(values, cuts=()):
    """Load the values as one partition's batches, cut before each place of `cuts`; return the tables."""
    clickhouse = SimulatedClickHouse()
    store = ClickHouseStore(clickhouse)
    marks, state = Marks(), SessionState(SessionRule(), 1 << 60)
    made = records(values)
    for start, end in pairwise([0, *cuts, len(values)]):
        batch = Batch("hits", 0, start, end - 1, BASE_MS, made[start:end])
        prepared = prepare(batch.records, marks, RULES)
        names = replayed_names(prepared)
        present = store.replayed(0, batch.first, names) if names else ()
        store.load(batch, finish(prepared, state, present))
    return clickhouse


def rows(clickhouse):
    """The log offsets of events and of rejected records, and the sums of `batches`."""
    sums = [sum(row[name] for row in clickhouse.rows("batches")) for name in ("inserted", "rejected", "filtered")]
    offsets = [[row["log_offset"] for row in clickhouse.rows(table)] for table in ("events", "rejected")]
    return (*offsets, sums)


def cuts_of(count):
    return [(), *[(place,) for place in range(1, count)], tuple(range(1, count))]


def test_the_second_replay_adds_nothing():
    values = [
        hit(4, spool=9, params=WRONG),
        hit(0, spool=10, replay_of=OLD),
        hit(1, spool=10, replay_of=OLD),
        hit(0, spool=11, replay_of=OLD),
        hit(1, spool=11),
    ]
    for cuts in cuts_of(len(values)):
        clickhouse = load(values, cuts)
        assert rows(clickhouse) == ([1, 4], [0], [2, 1, 2]), cuts
        assert [row["replay_of"] for row in clickhouse.rows("events")] == [OLD, ""]


def test_a_replay_of_what_has_a_row_itself_adds_nothing():
    values = [hit(4, spool=9), hit(0, spool=10, replay_of=OLD)]
    for cuts in cuts_of(len(values)):
        assert rows(load(values, cuts)) == ([0], [], [1, 0, 1]), cuts


def test_a_replay_that_is_rejected_again_may_be_replayed_again():
    values = [hit(0, spool=10, replay_of=OLD, params=WRONG), hit(0, spool=11, replay_of=OLD)]
    for cuts in cuts_of(len(values)):
        assert rows(load(values, cuts)) == ([1], [0], [1, 1, 0]), cuts


def test_a_replay_that_would_be_rejected_now_is_dropped_all_the_same_once_its_hit_has_a_row():
    values = [hit(0, spool=10, replay_of=OLD), hit(0, spool=11, replay_of=OLD, params=WRONG)]
    for cuts in cuts_of(len(values)):
        assert rows(load(values, cuts)) == ([0], [], [1, 0, 1]), cuts


def test_the_name_itself_decides_and_no_other():
    values = [
        hit(4, spool=9),
        hit(0, spool=10, replay_of=name_text(4, 9)),
        hit(1, spool=10, replay_of=name_text(9, 40)),
    ]
    for cuts in cuts_of(len(values)):
        assert rows(load(values, cuts)) == ([0, 1, 2], [], [3, 0, 0]), cuts


@pytest.mark.parametrize("seed", range(20))
def test_boundaries_show_in_no_result(seed):
    random = Random(seed)
    values = []
    for seq in range(30):
        replay_of = random.choice(("", name_text(1, random.randrange(12)), name_text(9, random.randrange(3))))
        params = {"id": str(random.randrange(9))} | (WRONG if random.random() < 0.3 else {})
        fields = {"replay_of": replay_of} if replay_of else {}
        values.append(hit(seq, visitor=random.choice((0, 7)), params=params, **fields))
    whole = rows(load(values))
    assert whole[2][2] > 0
    for _ in range(5):
        cuts = sorted(random.sample(range(1, 30), random.randint(1, 29)))
        assert rows(load(values, cuts)) == whole, cuts


def test_many_names_are_asked_for_in_several_queries():
    clickhouse = load([hit(seq, spool=9) for seq in range(NAMES_PER_QUERY + 5)])
    names = {name_text(9, seq) for seq in range(3, NAMES_PER_QUERY + 50)}
    found = ClickHouseStore(clickhouse).replayed(0, 1 << 60, names)
    assert found == {name_text(9, seq) for seq in range(3, NAMES_PER_QUERY + 5)}


@pytest.mark.parametrize(
    "text", ["x", "0000000000000009", "9:4", f"{OLD} ", "0000000000000009:04", f"{OLD}')", f"{9:016x}:{1 << 64}"]
)
def test_what_is_no_name_is_rejected(text):
    assert parsed_name(text) is None
    decoded = decode(hit(replay_of=text))
    assert decoded.reason is Reason.BAD_HIT
    assert "replay_of" in decoded.detail


def test_a_name_is_read_as_it_is_written():
    for name in ((0, 0), (9, 4), ((1 << 64) - 1, (1 << 64) - 1)):
        assert parsed_name(name_text(*name)) == name
