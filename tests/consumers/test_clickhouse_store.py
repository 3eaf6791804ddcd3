"""The store against a real server; and the simulated ClickHouse, on which the simulation rests, answers the same."""

from random import Random
from unittest.mock import Mock

import pytest
from support.simulated_clickhouse import SimulatedClickHouse
from support.simulated_hits import BASE_MS, DAY_MS, HOUR_MS, MINUTE_MS, hit, records

from consumers.batch import Batch, Loaded
from consumers.clickhouse_client import ClickHouse
from consumers.clickhouse_store import _HELD_SESSIONS, ClickHouseStore
from consumers.deduplicate import Marks
from consumers.pipeline import finish, prepare
from consumers.rules import Rules
from consumers.session_state import SessionState, unpacked
from consumers.store import Place, Resume
from schemas.errors import FatalError, RetryError
from schemas.hit import name_text
from schemas.limits import Limits
from schemas.session import SessionRule

RULE = SessionRule(event_ids_max=3)
RULES = Rules(Limits(), {})
LAST = 10_000
MAX = (1 << 64) - 1


@pytest.fixture
def client(clickhouse_url, fresh_database):
    made = ClickHouse(clickhouse_url, database=fresh_database, timeout_s=60)
    yield made
    made.close()


def loaded_batches(count=6, size=15, seed=3):
    """Batches of one partition with what they become: months apart, late, repeated, wrong, without a visitor."""
    random = Random(seed)
    marks, state = Marks(), SessionState(RULE, 1 << 60)
    made, offset, now = [], 0, BASE_MS
    for _ in range(count):
        values = []
        for _ in range(size):
            now += random.choice((0, 1, MINUTE_MS, 40 * MINUTE_MS, 9 * HOUR_MS))
            params = {"id": str(random.randrange(9)), "u": "https://a.example/?" + random.choice(("", "gclid=1"))}
            params["t"] = now - random.choice((0, 0, HOUR_MS, 2 * DAY_MS))
            params |= random.choice(
                ({}, {"e": "Engagement"}, {"e": "Purchase", "oid": f"o{seed}", "v": "9.99", "cur": "EUR"})
            )
            if random.random() < 0.1:
                params["v"] = "wrong"
            seq = offset + len(values) - (random.random() < 0.1)
            visitor, source = random.randrange(4), random.choice(("pixel", "pixel", "server"))
            spool = 1 + random.randrange(2)
            values.append(hit(max(seq, 0), spool=spool, visitor=visitor, at=now, params=params, source=source))
        batch = Batch("hits", 5, offset, offset + size - 1, now, records(values, offset))
        made.append((batch, finish(prepare(batch.records, marks, RULES), state)))
        offset += size
    return made


def counts(client):
    tables = ("events", "rejected", "batches")
    return [client.query(f"SELECT count() FROM {table}")[0][0] for table in tables]


def check_view(client, batch=None):
    """Sessions are what their events say, all of them or those of a batch."""
    place = "(ts, log_partition, log_offset)"
    key = "site, visitor_id, session_id, session_start"
    of_batch = f"session_id IN (SELECT session_id FROM events WHERE batch_first = {batch.first})" if batch else "1"
    expected = client.query(
        f"SELECT {key}, min(ts), max(ts), count(), countIf(event_name = 'Engagement'),"
        f" countIf(event_name = 'Purchase'), max(is_bot), any(channel),"
        f" any(click_id_type), argMin(url_path, {place}), argMax(url_path, {place})"
        f" FROM events WHERE visitor_id != 0 AND {of_batch} GROUP BY {key} ORDER BY {key}"
    )
    assert expected
    assert expected == client.query(
        f"SELECT {key}, first_ts, last_ts, events, engagements, purchases, is_bot, channel, click_id_type, entry_path,"
        f" exit_path FROM sessions WHERE {of_batch} ORDER BY {key}"
    )
    purchase = "site, visitor_id, session_id, ts, log_partition, log_offset, order_id, currency, value"
    of_purchases = f"event_name = 'Purchase' AND visitor_id != 0 AND {of_batch} ORDER BY ALL"
    purchases = client.query(f"SELECT {purchase} FROM events WHERE {of_purchases}")
    assert purchases
    assert purchases == client.query(f"SELECT DISTINCT {purchase} FROM listed_purchases WHERE {of_purchases}")


def test_real_and_simulated_answer_the_same(client):
    real, simulated = ClickHouseStore(client), ClickHouseStore(SimulatedClickHouse())
    batches = loaded_batches()
    for store in (real, simulated):
        for batch, loaded in batches:
            store.load(batch, loaded)
            store.load(batch, loaded)
    for before in (0, batches[2][0].first, LAST):
        answers = [store.resume("hits", 5, before) for store in (real, simulated)]
        assert sorted(answers[0].marks) == sorted(answers[1].marks)
        assert answers[0][1:] == answers[1][1:]
        newest = answers[0].received_at
        for asked in (
            lambda store, before=before: everything(store, [Place(5, before, RULE, 0)]),
            lambda store, before=before, newest=newest: everything(store, [Place(5, before, RULE, newest - DAY_MS)]),
            lambda store, before=before: store.sessions(5, before, RULE, [("shop", 1), ("shop", 3), ("blog", 1)]),
        ):
            ours, theirs = (dict_of(asked(store)) for store in (real, simulated))
            assert ours == theirs
            assert bool(ours) == bool(before)
    assert real.resume("hits", 6, LAST) == real.resume("other", 5, LAST)._replace(received_at=0) == Resume([], 0, None)
    assert everything(real, [Place(6, LAST, RULE, 0)]) == everything(real, []) == []


def test_each_of_several_partitions_is_read_to_its_own_offset_and_by_its_own_rule(client):
    stores = [ClickHouseStore(client), ClickHouseStore(SimulatedClickHouse())]
    for partition in (5, 6, 7):
        for batch, loaded in loaded_batches(count=4, seed=partition):
            for store in stores:
                store.load(batch._replace(partition=partition), loaded)
    other = SessionRule(event_ids_max=1, sites={"slow": SessionRule(length_ms_max=9 * DAY_MS)})
    newest = stores[0].resume("hits", 5, 30).received_at
    places = [Place(5, 30, RULE, newest - 12 * HOUR_MS), Place(7, LAST, RULE, 0), Place(6, 45, other, 0)]
    for store in stores:
        found = [dict_of(everything(store, [place])) for place in places]
        assert 0 < len(found[0]) < len(dict_of(everything(store, [places[0]._replace(ended_after_ms=0)])))
        together = {5: [], 6: [], 7: []}
        for row in store.all_sessions(places):
            together[row.partition].append(row)
        assert [dict_of(unpacked_rows(together[place.partition])) for place in places] == found
    assert [max(len(keys) for _, keys in each.values()) for each in found[1:]] == [RULE.event_ids_max, 1]


def test_real_and_simulated_know_the_same_replays(client):
    stores = [ClickHouseStore(client), ClickHouseStore(SimulatedClickHouse())]
    fields = [{}, {"replay_of": name_text(9, 4)}, {"params": {"v": "wrong"}}, {"replay_of": name_text(MAX, MAX)}]
    values = [hit(seq, spool=MAX, visitor=seq, **field) for seq, field in enumerate(fields)]
    batch = Batch("hits", 5, 10, 13, BASE_MS, records(values, 10))
    loaded = finish(prepare(batch.records, Marks(), RULES), SessionState(RULE, 1 << 60))
    names = {name_text(spool, seq) for spool in (9, MAX) for seq in (0, 1, 2, 3, 4, MAX)}
    for store in stores:
        store.load(batch, loaded)
        assert store.replayed(5, 14, names) == {
            *(name_text(MAX, seq) for seq in (0, 1, 3, MAX)),
            name_text(9, 4),
        }
        assert store.replayed(5, 11, names) == {name_text(MAX, 0)}
        assert store.replayed(6, 14, names) == store.replayed(5, 14, {name_text(9, 1)}) == set()


def everything(store, places):
    return unpacked_rows(store.all_sessions(places))


def unpacked_rows(rows):
    return [((row.site, row.visitor), unpacked(bytes(row.packed))) for row in rows]


def dict_of(found):
    return {(key, session.id): (session, list(session.event_keys)) for key, session in found}


def test_sessions_come_back_as_the_worker_had_them(client):
    batches = loaded_batches()
    store = ClickHouseStore(client)
    for batch, loaded in batches:
        store.load(batch, loaded)
    state = SessionState(RULE, 1 << 60)
    marks = Marks()
    for batch, _ in batches:
        finish(prepare(batch.records, marks, RULES), state)
    for visitor in (1, 2, 3):
        key = ("shop", visitor)
        found = [(key, session) for session in state.of(key)]
        assert dict_of(store.sessions(5, LAST, RULE, [key])) == dict_of(found)


def test_a_batch_is_there_once_however_often_it_is_loaded(client):
    store = ClickHouseStore(client)
    batch, loaded = loaded_batches(count=1)[0]
    half = Loaded(loaded.events, [], [])
    store.load(batch, half)
    for _ in range(3):
        store.load(batch, loaded)
    assert counts(client) == [len(loaded.events), len(loaded.rejected), len(loaded.counts)]
    check_view(client)


@pytest.mark.parametrize("is_remembered", [True, False])
@pytest.mark.parametrize(
    "lost",
    [
        "nothing",
        "everything",
        "events",
        "half_the_events",
        "view",
        "view_of_batch",
        "view_doubled",
        "rejected",
        "counts",
    ],
)
def test_a_batch_is_healed_whatever_of_it_is_there(client, lost, is_remembered):
    """Where its rows are not, its token may be known all the same, as after a kill between the two."""
    store = ClickHouseStore(client)
    batches = loaded_batches(count=3)
    for batch, loaded in batches[:2]:
        store.load(batch, loaded)
    batch, loaded = batches[2]
    if lost == "view_of_batch":
        client.command("DETACH TABLE session_parts_mv")
    if lost != "everything":
        store.load(batch, loaded)
    of_batch = f"batch_first = {batch.first}"
    ids = ",".join(str(event.session_id) for _, event in loaded.events)
    for statement in {
        "events": [f"DELETE FROM events WHERE {of_batch}", f"DELETE FROM batches WHERE {of_batch}"],
        "half_the_events": [f"DELETE FROM events WHERE {of_batch} AND log_offset % 2 = 0"],
        "rejected": [f"DELETE FROM rejected WHERE {of_batch}", f"DELETE FROM batches WHERE {of_batch}"],
        "counts": [f"DELETE FROM batches WHERE {of_batch}"],
        "view": [f"DELETE FROM session_parts WHERE session_id IN ({ids})"],
        "view_of_batch": ["ATTACH TABLE session_parts_mv"],
        "view_doubled": ["INSERT INTO session_parts SELECT * FROM session_parts SETTINGS insert_deduplicate = 0"],
    }.get(lost, []):
        client.command(statement)
    for _ in range(2):
        store.heal(batch, loaded, is_remembered=is_remembered)
    assert counts(client) == [sum(len(each[place]) for _, each in batches) for place in range(3)]
    ours = client.query(f"SELECT count(), uniqExact(log_offset) FROM events WHERE {of_batch}")[0]
    assert ours == (len(loaded.events), len(loaded.events))
    # Where all sessions were spoiled, those of other batches are not this batch's to mend.
    check_view(client, batch if lost == "view_doubled" else None)


class Slow:
    """A client that lets another act once, before what it stands before: a query, or an insert by its token's end."""

    def __init__(self, client, before, act):
        self.tokens = []
        self._client, self._before, self._act = client, before, act

    def __getattr__(self, name):
        return getattr(self._client, name)

    def _stand(self, what):
        if what == self._before:
            self._before = None
            self._act()

    def query(self, sql, parameters=None):
        self._stand(sql)
        return self._client.query(sql, parameters)

    def insert(self, table, *given, token, **named):
        self._stand(token.split(":")[-1])
        self.tokens.append(token)
        self._client.insert(table, *given, token=token, **named)


@pytest.mark.parametrize("before", ["healed-0", "sessions-0"])
def test_two_who_heal_at_once_insert_the_same_once(client, before):
    """One stands still between its looks and its insert while the other heals the batch and loads the next one."""
    store = ClickHouseStore(client)
    (batch, loaded), following = loaded_batches(count=2, seed=5)  # a session goes on
    store.load(batch, loaded)
    client.command(f"DELETE FROM events WHERE batch_first = {batch.first} AND log_offset % 2 = 0")

    def heal_and_go_on():
        store.heal(batch, loaded, is_remembered=True)
        store.load(*following)

    slow = Slow(client, before, heal_and_go_on)
    ClickHouseStore(slow).heal(batch, loaded, is_remembered=True)
    assert f"{batch.token}:{before}" in slow.tokens
    assert counts(client)[0] == len(loaded.events) + len(following[1].events)
    check_view(client)


def test_who_heals_leaves_sessions_alone_that_another_goes_on_with(client):
    store = ClickHouseStore(client)
    (batch, loaded), following = loaded_batches(count=2, seed=5)  # a session goes on
    store.load(batch, loaded)
    slow = Slow(client, _HELD_SESSIONS, lambda: store.load(*following))
    ClickHouseStore(slow).heal(batch, loaded, is_remembered=True)
    assert set(slow.tokens) == {batch.token}
    check_view(client)


def test_a_view_that_is_away_is_waited_for_and_an_unknown_one_refused(client):
    store = ClickHouseStore(client)
    batch, loaded = loaded_batches(count=1)[0]
    client.command("DETACH TABLE session_parts_mv")
    with pytest.raises(RetryError, match="session_parts_mv is not there"):
        store.heal(batch, loaded, is_remembered=True)
    client.command("ATTACH TABLE session_parts_mv")
    client.command("ALTER TABLE session_parts_mv MODIFY QUERY SELECT site, visitor_id, session_id FROM events")
    with pytest.raises(FatalError, match="not as migrations made it"):
        store.heal(batch._replace(first=1), loaded, is_remembered=False)


def test_healing_goes_on_where_rows_leave_at_once(client, caplog):
    store = ClickHouseStore(client)
    batch, loaded = loaded_batches(count=1)[0]
    client.command("CREATE TABLE gone AS events ENGINE = Null")
    leaving = Mock(wraps=client)
    leaving.insert = lambda table, *given, **named: client.insert(
        "gone" if table == "events" else table, *given, **named
    )
    ClickHouseStore(leaving).heal(batch, loaded, is_remembered=True)
    assert store.counted(batch) == len(batch.records)
    assert f"{len(loaded.events)} rows of {batch.token} left events" in caplog.text
