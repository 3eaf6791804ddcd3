"""The pure middle as a whole: nothing is lost, sessions are CONTRACT's, and batches and caches show in no result."""

from collections import Counter
from random import Random
from types import MappingProxyType

import msgspec
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from support.pipeline_run import RULE, Run, run
from support.sessions_reference import CAMPAIGN_FIELDS, NO_SESSION, sessions, too_fast
from support.simulated_hits import BASE_MS, DAY_MS, HOUR_MS, MINUTE_MS, hit, records

from consumers import pipeline
from schemas.rejection import Reason

slowly = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])

# nothing is lost

anything = st.one_of(
    st.binary(max_size=60),
    st.builds(lambda seq, query: hit(seq, query=query), st.integers(0, 5), st.text(max_size=30)),
    st.builds(lambda seq, query: hit(seq, query=query), st.integers(0, 5), st.text("s=hop&e%v1.t\0id", max_size=30)),
    st.builds(
        lambda seq, event: hit(seq, event=event),
        st.integers(0, 5),
        st.dictionaries(
            st.sampled_from(["s", "e", "u", "v", "t", "items", "id"]),
            st.none() | st.integers() | st.text(max_size=5) | st.lists(st.integers(), max_size=2),
        ),
    ),
    st.builds(
        lambda field, value: msgspec.json.encode(msgspec.json.decode(hit()) | {field: value}),
        st.sampled_from(["v", "spool_id", "spool_seq", "received_at", "source", "visitor_id", "event", "query", "key"]),
        st.none() | st.integers(-(2**63), 2**63) | st.text(max_size=3) | st.dictionaries(st.text(), st.integers()),
    ),
)


@slowly
@given(st.lists(anything, min_size=1, max_size=12))
@example([b'"\xff"'])
@example([b"[" * 5000])
def test_every_record_becomes_exactly_one_thing(values):
    loaded = Run().load(records(values))
    counted = Counter()
    for count in loaded.counts:
        counted["inserted"] += count.inserted
        counted["rejected"] += count.rejected
        counted["rest"] += count.duplicate + count.resent + count.filtered
    assert counted["inserted"] == len(loaded.events)
    assert counted["rejected"] == len(loaded.rejected)
    assert counted.total() == len(values)
    offsets = [offset for offset, _ in loaded.events] + [row.record.offset for row in loaded.rejected]
    assert len(set(offsets)) == len(offsets)


def test_a_hit_that_a_step_cannot_take_stops_nobody(monkeypatch):
    def enrich(_, event, *__):
        if event.title == "boom":
            raise ZeroDivisionError("boom")

    monkeypatch.setattr(pipeline.Enricher, "enrich", enrich)
    loaded = Run().load(records([hit(0), hit(1, params={"ti": "boom"}), hit(2)]))
    assert [offset for offset, _ in loaded.events] == [0, 2]
    assert [(row.rejection.reason, row.spool_seq) for row in loaded.rejected] == [(Reason.UNPROCESSABLE, 1)]


def test_counts_by_spool():
    values = [
        hit(0, params={"id": "a"}),
        hit(1, params={"id": "a"}),
        hit(1, params={"id": "a"}),
        hit(2, params={"v": "x"}),
        hit(7, spool=2, at=BASE_MS + 5),
        b"nope",
        hit(3, v=9),
        hit(3, v=9),
    ]
    loaded = Run().load(records(values))
    counts = {count.spool_id: count for count in loaded.counts}
    first = counts[1]
    assert (first.seq_min, first.seq_max, first.inserted, first.duplicate, first.rejected, first.resent) == (
        0,
        3,
        1,
        1,
        2,
        2,
    )
    assert (counts[2].seq_min, counts[2].inserted, counts[2].received_at) == (7, 1, BASE_MS + 5)
    assert (counts[0].rejected, counts[0].received_at) == (1, 0)
    assert [(row.site, row.spool_seq) for row in loaded.rejected] == [("shop", 2), ("", 0), ("", 3)]


def test_a_rejected_hits_site_is_kept_where_it_is_known():
    loaded = Run().load(records([hit(0, event={"s": "blog", "v": "x"})]))
    assert loaded.rejected[0].site == "blog"


def test_rejected_hits_leave_no_trace_in_sessions():
    late = BASE_MS + RULE.gap_ms
    values = [
        hit(0, params={"id": "a"}),
        hit(1, at=late, params={"id": "b", "v": "-1"}),  # would stretch the session, and its id would be known
        hit(2, at=late + 1, params={"id": "b"}),
    ]
    loaded = Run().load(records(values))
    assert [event.session_start for _, event in loaded.events] == [BASE_MS, late + 1]


def test_a_hit_with_a_new_id_that_comes_behind_its_visitors_later_hits_finds_their_session():
    """Its collector was away for days, another took the visitor's next hits: `new_visitor` says nothing of the log."""
    other = [hit(0, spool=2, at=BASE_MS + 1), hit(1, spool=2, visitor=8, at=BASE_MS + 9 * DAY_MS)]
    first = hit(0, at=BASE_MS, new_visitor=True)
    made = run([*other, first], cuts=(1, 2))
    mine = [row for row in made.clickhouse.rows("events") if row["visitor_id"] == 7]
    assert len({row["session_id"] for row in mine}) == 1
    assert made.looked_up


# sessions equal the reference

step = st.sampled_from(
    [0, 0, 1, MINUTE_MS, RULE.gap_ms - 1, RULE.gap_ms, RULE.gap_ms + 1, 6 * HOUR_MS, RULE.length_ms_max, 2 * DAY_MS]
)
late = st.sampled_from([0, 0, 0, 1, RULE.gap_ms, RULE.gap_ms + 1, 5 * HOUR_MS, RULE.length_ms_max - 1, 3 * DAY_MS])
one = st.tuples(
    step,
    late,
    st.sampled_from(["shop", "shop", "blog"]),
    st.sampled_from([7, 7, 7, 8, 0]),
    st.sampled_from(["", "", "", "utm_source=a", "utm_source=b", "gclid=1", "utm_source=a&gclid=1"]),
    st.sampled_from(["", "1", "2", "3"]),
    st.booleans(),
)


def stream(parts):
    """Hits of one spool; every part is (time since the last, how late, site, visitor, campaign, id, new visitor)."""
    now = BASE_MS
    values = []
    for seq, (since, behind, site, visitor, campaign, event_id, new) in enumerate(parts):
        now += since
        params = {"s": site, "u": f"https://shop.example/?{campaign}", "t": now - behind, "id": event_id}
        values.append(hit(seq, visitor=visitor, at=now, params=params, new_visitor=new))
    return values


def check_sessions(rows, of_sites=MappingProxyType({})):
    """Stored sessions and rates are the references'; the campaign that an event carried is read from its page's URL."""
    carried_rows = [row | dict.fromkeys(CAMPAIGN_FIELDS, "") | carried(row) for row in rows]
    places, opened = sessions(carried_rows, of_sites=of_sites)
    names = {}
    for row, place in zip(rows, places, strict=True):
        if place == NO_SESSION:
            assert (row["session_id"], row["session_start"]) == (0, 0)
            continue
        names.setdefault(place, row["session_id"])
        assert row["session_id"] == names[place]
        assert row["session_start"] == opened[place].opened_ts
        assert tuple(row[name] for name in CAMPAIGN_FIELDS) == opened[place].campaign
    assert len(set(names.values())) == len(opened)
    labelled = {place for place, row in enumerate(rows) if row["bot_reason"]}
    assert labelled == too_fast(rows, places, RULE.events_per_minute_max)


def carried(row):
    pairs = dict(pair.split("=") for pair in row["url_query"].split("&") if pair)
    found = {"utm_source": pairs["utm_source"]} if "utm_source" in pairs else {}
    return found | ({"click_id": pairs["gclid"], "click_id_type": "gclid"} if "gclid" in pairs else {})


@slowly
@given(st.lists(one, min_size=1, max_size=40))
def test_sessions_equal_the_reference(parts):
    check_sessions(run(stream(parts)).clickhouse.rows("events"))


BLOG = msgspec.structs.replace(RULE, gap_ms=6 * HOUR_MS, length_ms_max=3 * DAY_MS)
OF_SITES = msgspec.structs.replace(RULE, sites={"blog": BLOG})


@slowly
@given(st.lists(one, min_size=1, max_size=40), st.lists(st.integers(1, 39), max_size=8), st.booleans())
def test_sessions_of_a_site_with_its_own_rule_equal_the_reference_whatever_the_batches(parts, cuts, restarts):
    values = stream(parts)
    whole = run(values, keep_ms=10_000 * DAY_MS, rule=OF_SITES)
    assert run(values, cuts, keep_ms=0, rule=OF_SITES, restarts=restarts).rows() == whole.rows()
    check_sessions(whole.clickhouse.rows("events"), {"blog": (BLOG.gap_ms, BLOG.length_ms_max)})


@slowly
@given(st.lists(one, min_size=2, max_size=40), st.lists(st.integers(1, 39), max_size=8), st.booleans())
def test_batches_eviction_and_restarts_show_in_no_result(parts, cuts, restarts):
    values = stream(parts)
    whole = run(values, keep_ms=10_000 * DAY_MS).rows()
    assert run(values, cuts, keep_ms=0, restarts=restarts).rows() == whole
    assert run(values, range(len(values)), keep_ms=0).rows() == whole


@pytest.mark.parametrize("seed", range(6))
def test_long_streams_with_lookups(seed):
    random = Random(seed)
    now, values = BASE_MS, []
    for seq in range(300):
        now += random.choice((0, 1, 1, 60_000, RULE.gap_ms, RULE.gap_ms + 1, 3 * HOUR_MS))
        t = now - random.choice((0, 0, 0, RULE.gap_ms, DAY_MS, random.randrange(6 * DAY_MS)))
        url = "https://shop.example/?" + random.choice(("", "", "", "utm_source=a", "utm_source=b", "gclid=1"))
        params = {"u": url, "t": t, "id": str(random.randrange(60)), "e": random.choice(("A", "B"))}
        if random.random() < 0.05:
            params["v"] = "wrong"
        source = random.choice(("pixel", "pixel", "server"))
        values.append(hit(seq, visitor=random.randrange(4), at=now, params=params, source=source))
    rule = msgspec.structs.replace(RULE, event_ids_max=5)
    whole = run(values, keep_ms=10_000 * DAY_MS, rule=rule)
    cuts = random.sample(range(300), 40)
    evicted = run(values, cuts, keep_ms=0, rule=rule)
    rebuilt = run(values, cuts, keep_ms=0, rule=rule, restarts=True)
    assert whole.looked_up == 0
    assert evicted.looked_up > 0
    assert evicted.rows() == rebuilt.rows() == whole.rows()
    check_sessions(whole.clickhouse.rows("events"))
    assert any(row["bot_reason"] for row in whole.clickhouse.rows("events"))
    view, stored = Counter(), Counter()
    for row in evicted.clickhouse.rows("session_parts"):
        view[row["session_id"]] += row["events"]
    for row in evicted.clickhouse.rows("events"):
        stored[row["session_id"]] += bool(row["session_id"])
    assert view == +stored
