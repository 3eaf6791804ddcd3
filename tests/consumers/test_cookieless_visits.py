"""A cookieless visitor's visits are those that a cookie makes, across midnight too, in any order of the log."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.pipeline_run import run
from support.sessions_reference import CAMPAIGN_FIELDS, carried_campaign, sessions
from support.simulated_hits import BASE_MS, DAY_MS, HOUR_MS, MINUTE_MS, cookieless, hit

from consumers.decode import decode
from schemas.rejection import Reason
from schemas.session import SessionRule

MIDNIGHT_MS = (BASE_MS // DAY_MS + 1) * DAY_MS
MIDNIGHT_DAY = MIDNIGHT_MS // DAY_MS
GAP = SessionRule().gap_ms
# A visit that is shorter than half a day, and hits that come less than half a day late: never more than two days off.
RULE = SessionRule(length_ms_max=11 * HOUR_MS)


def loaded(values, cuts=(), **how):
    """Load hits in batches; return the rows of `events`."""
    return run(values, cuts, rule=RULE, **how).clickhouse.rows("events")


def visits(rows):
    """The visits as sets of log offsets."""
    ids = {row["session_id"] for row in rows}
    return {frozenset(row["log_offset"] for row in rows if row["session_id"] == ident) for ident in ids}


def visit(*times, at=lambda t: t, **params):
    """Hits of one cookieless visitor, by event time from midnight; `at` tells when one is received."""
    return [
        hit(
            seq,
            at=MIDNIGHT_MS + at(t),
            params={"t": MIDNIGHT_MS + t, "id": str(seq)} | params,
            **cookieless(7, MIDNIGHT_MS + at(t)),
        )
        for seq, t in enumerate(times)
    ]


def ids_of(rows):
    return [(row["visitor_id"] & 0xFFFFFFFF) - MIDNIGHT_DAY for row in rows]


def test_a_visit_across_midnight_is_one_under_the_id_it_began_with():
    rows = loaded(visit(-10 * MINUTE_MS, 0, 20 * MINUTE_MS))
    assert len(visits(rows)) == 1
    assert ids_of(rows) == [-1, -1, -1]


def test_the_next_visit_of_the_day_has_the_days_id_also_when_it_is_a_new_campaign():
    rows = loaded([*visit(-10 * MINUTE_MS, 0), *visit(0, 0, 10, GAP, u="https://a.example/?utm_source=x")[2:]])
    assert len(visits(rows)) == 2
    assert ids_of(rows) == [-1, -1, 0, 0]


@pytest.mark.parametrize("times", [(10, -10), (20 * MINUTE_MS, -5 * MINUTE_MS, 5 * MINUTE_MS, -29 * MINUTE_MS)])
def test_hits_that_reach_the_log_in_any_order_are_one_visit(times):
    assert len(visits(loaded(visit(*times)))) == 1


@pytest.mark.parametrize("restarts", [False, True])
@pytest.mark.parametrize("times", [(-MINUTE_MS, MINUTE_MS), (MINUTE_MS, -MINUTE_MS)])
def test_a_session_that_memory_has_lost_is_looked_up_under_the_other_days_id(times, restarts):
    """Another collector was days ahead, so that the session's visit seemed long over."""
    first, last = visit(*times)
    ahead = MIDNIGHT_MS + 5 * DAY_MS
    rows = loaded([first, hit(0, spool=2, visitor=8, at=ahead), last], (1, 2), keep_ms=0, restarts=restarts)
    assert {frozenset({0, 2}), frozenset({1})} == visits(rows)


def test_a_visit_that_began_before_midnight_and_is_heard_of_later_has_yesterdays_id():
    rows = loaded(visit(-5, -4, at=lambda t: t + HOUR_MS))
    assert ids_of(rows) == [-1, -1]


def test_a_clock_that_is_ahead_of_midnight_has_tomorrows_id():
    rows = loaded([*visit(5 * MINUTE_MS, at=lambda t: -MINUTE_MS), *visit(0, HOUR_MS)[1:]])
    assert len(visits(rows)) == 2
    assert ids_of(rows) == [0, 0]


def test_yesterdays_repeat_is_one_today():
    again = hit(1, at=MIDNIGHT_MS + 5, params={"t": MIDNIGHT_MS - 5, "id": "0"}, **cookieless(7, MIDNIGHT_MS + 5))
    assert len(loaded([*visit(-5), again])) == 1


@pytest.mark.parametrize("name", ["visitor_before", "visitor_after"])
def test_an_id_of_another_day_that_is_none_is_rejected(name):
    assert decode(hit(**{name: "7"})).reason is Reason.BAD_HIT


# against cookie mode, and against the reference

step = st.sampled_from([0, 1, MINUTE_MS, GAP - 1, GAP, GAP + 1, 3 * HOUR_MS, 9 * HOUR_MS])
late = st.sampled_from([0, 0, 0, 1, GAP, GAP + 1, 5 * HOUR_MS, 11 * HOUR_MS, -5 * MINUTE_MS])
campaign = st.sampled_from(["", "", "", "utm_source=a", "utm_source=b"])
part = st.tuples(step, late, st.sampled_from([7, 7, 8]), campaign, st.sampled_from(["", "1", "2"]))
disorder = st.lists(st.tuples(st.integers(0, 39), st.integers(0, 3)), max_size=10)
slowly = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


def streams(parts, swaps):
    """The same hits twice, in one order of the log: with a cookie's id, and cookieless."""
    now, made = MIDNIGHT_MS - 2 * HOUR_MS, []
    for since, behind, visitor, carried, event_id in parts:
        now += since
        params = {"u": f"https://shop.example/?{carried}", "t": now - behind, "id": event_id}
        made.append((visitor, now, params))
    for place, on in swaps:
        if place < len(made):
            made.insert(place + on, made.pop(place))
    return tuple(
        [hit(seq, visitor=who, at=at, params=params, **ids(who, at)) for seq, (who, at, params) in enumerate(made)]
        for ids in (lambda *_: {}, cookieless)
    )


@slowly
@given(st.lists(part, min_size=1, max_size=40), disorder)
def test_visits_are_those_of_a_cookie_whatever_the_order_of_the_log(parts, swaps):
    with_cookie, without = map(loaded, streams(parts, swaps))
    assert visits(without) == visits(with_cookie)
    assert [row["log_offset"] for row in without] == [row["log_offset"] for row in with_cookie]


@slowly
@given(st.lists(part, min_size=1, max_size=40))
def test_visitors_of_a_day_are_those_of_a_cookie(parts):
    """By the day on which a visit was opened, as the report on sessions has it for hits that come in order."""
    in_order = [(since, 0, *rest) for since, _, *rest in parts]
    with_cookie, without = map(loaded, streams(in_order, ()))
    assert by_day(without) == by_day(with_cookie)


def by_day(rows):
    opened = {(row["session_start"] // DAY_MS, row["visitor_id"]) for row in rows}
    days = {day for day, _ in opened}
    return {day: sum(one == day for one, _ in opened) for day in days}


@slowly
@given(st.lists(part, min_size=1, max_size=40), disorder, st.lists(st.integers(1, 39), max_size=8), st.booleans())
def test_sessions_and_ids_equal_the_reference_whatever_the_batches(parts, swaps, cuts, restarts):
    values = streams(parts, swaps)[1]
    rows = loaded(values, cuts, keep_ms=0, restarts=restarts)
    places, opened = sessions(
        [as_sent(row, decode(values[row["log_offset"]])) for row in rows], GAP, RULE.length_ms_max
    )
    names = {}
    for row, place in zip(rows, places, strict=True):
        assert row["session_id"] == names.setdefault(place, row["session_id"])
        assert row["visitor_id"] == opened[place].visitor_id
    assert len(set(names.values())) == len(opened)


def as_sent(row, of_hit):
    """A row with the ids that its hit named and the campaign that its page carried."""
    names = {name: int(getattr(of_hit, name), 16) for name in ("visitor_id", "visitor_before", "visitor_after")}
    return row | dict.fromkeys(CAMPAIGN_FIELDS, "") | names | carried_campaign(row["url_query"], ())
