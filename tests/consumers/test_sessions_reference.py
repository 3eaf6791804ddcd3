"""The session reference against examples worked out by hand from CONTRACT's text."""

from support.sessions_reference import NO_SESSION, carried_campaign, sessions

MINUTE = 60_000
HOUR = 60 * MINUTE
BASE = 1_700_000_000_000


def row(offset, minutes, *, visitor=7, site="shop", ms=0, **campaign):
    return {
        "site": site,
        "visitor_id": visitor,
        "ts": BASE + minutes * MINUTE + ms,
        "log_partition": 0,
        "log_offset": offset,
        **campaign,
    }


def indexes(*rows):
    return sessions(rows)[0]


def test_a_gap_of_exactly_30_minutes_joins_and_one_ms_more_opens():
    assert indexes(row(0, 0), row(1, 30)) == [0, 0]
    assert indexes(row(0, 0), row(1, 30, ms=1)) == [0, 1]


def test_a_late_event_stretches_the_span_backwards_inclusive():
    assert indexes(row(0, 30), row(1, 0)) == [0, 0]
    assert indexes(row(0, 30, ms=1), row(1, 0)) == [0, 1]


def test_the_span_is_stretched_on_both_sides_by_what_joined():
    found, opened = sessions([row(0, 60), row(1, 40), row(2, 80), row(3, 10), row(4, 110)])
    assert found == [0, 0, 0, 0, 0]
    assert (opened[0].first_ts, opened[0].last_ts) == (BASE + 10 * MINUTE, BASE + 110 * MINUTE)
    assert opened[0].opened_ts == BASE + 60 * MINUTE, "the opener's time is never rewritten"
    assert opened[0].rows == 5


def test_a_session_stays_below_24_hours():
    steps = [row(i, i * 30) for i in range(48)]  # to 23 h 30
    assert set(indexes(*steps)) == {0}
    assert indexes(*steps, row(48, 24 * 60 - 1, ms=59_999))[-1] == 0
    assert indexes(*steps, row(48, 24 * 60))[-1] == 1, "24 h exactly is not below 24 h"


def test_a_late_event_may_not_stretch_a_session_to_24_hours():
    steps = [row(i, i * 30) for i in range(48)]
    assert indexes(*steps, row(48, -29))[-1] == 0
    assert indexes(*steps, row(48, -30))[-1] == 1


def test_a_campaign_that_differs_opens_and_the_same_one_joins():
    ads = {"utm_source": "google", "utm_medium": "cpc"}
    assert indexes(row(0, 0), row(1, 1, **ads), row(2, 2, **ads), row(3, 3)) == [0, 1, 1, 1]
    assert indexes(row(0, 0, **ads), row(1, 1, utm_source="google")) == [0, 1], "the set counts, not one of it"
    assert indexes(row(0, 0, **ads), row(1, 1)) == [0, 0], "an event that carries nothing joins"


def test_a_click_id_counts_as_campaign_with_its_type():
    assert indexes(
        row(0, 0, click_id="x", click_id_type="gclid"),
        row(1, 1, click_id="x", click_id_type="gclid"),
        row(2, 2, click_id="y", click_id_type="gclid"),
        row(3, 3, click_id="y", click_id_type="fbclid"),
    ) == [0, 0, 1, 2]


def test_only_the_one_session_found_by_time_is_asked_for_its_campaign():
    # By time the event at minute 12 belongs to B; that A has its campaign does not bring it back to A.
    a, b = {"utm_source": "a"}, {"utm_source": "b"}
    assert indexes(row(0, 0, **a), row(1, 10, **b), row(2, 12, **a)) == [0, 1, 2]


def test_the_latest_start_not_after_the_event_wins():
    a, b = {"utm_source": "a"}, {"utm_source": "b"}
    rows = [row(0, 0, **a), row(1, 20, **b), row(2, 10), row(3, 20), row(4, 25)]
    assert indexes(*rows) == [0, 1, 0, 1, 1]


def test_of_equal_starts_the_session_opened_last_is_taken():
    a, b = {"utm_source": "a"}, {"utm_source": "b"}
    assert indexes(row(0, 0, **a), row(1, 0, **b), row(2, 5)) == [0, 1, 1]


def test_with_every_start_after_the_event_the_earliest_start_is_taken():
    a, b = {"utm_source": "a"}, {"utm_source": "b"}
    assert indexes(row(0, 20, **b), row(1, 10, **a), row(2, 0)) == [0, 1, 1]
    assert indexes(row(0, 10, **a), row(1, 20, **b), row(2, 0)) == [0, 1, 0]


def test_start_is_that_of_the_span_not_of_the_opener():
    # A opened at 30 and was stretched back to 5; B opened at 10. At 12 the latest start not after it is B's.
    a, b = {"utm_source": "a"}, {"utm_source": "b"}
    rows = [row(0, 30, **a), row(1, 5), row(2, 10, **b), row(3, 12), row(4, 7)]
    assert indexes(*rows) == [0, 0, 1, 1, 0]


def test_sessions_never_merge_when_an_event_bridges_them():
    assert indexes(row(0, 0), row(1, 50), row(2, 25)) == [0, 1, 0]
    assert indexes(row(0, 0), row(1, 50), row(2, 25), row(3, 52), row(4, 54)) == [0, 1, 0, 1, 1]


def test_log_order_decides_not_the_order_of_the_rows():
    a = {"utm_source": "a"}
    late, early = row(9, 0, **a), row(1, 1)
    assert sessions([late, early])[0] == [1, 0]


def test_a_site_may_have_its_own_gap_and_length():
    rows = [row(0, 0), row(1, 20), row(2, 0, site="blog"), row(3, 10, site="blog"), row(4, 21, site="blog")]
    assert sessions(rows, of_sites={"blog": (10 * MINUTE, HOUR)})[0] == [0, 0, 1, 1, 2]
    assert sessions(rows, of_sites={"blog": (HOUR, 21 * MINUTE)})[0] == [0, 0, 1, 1, 2]


def test_sites_and_visitors_are_apart_and_no_visitor_has_no_session():
    assert indexes(row(0, 0), row(1, 0, visitor=8), row(2, 0, site="blog"), row(3, 0, visitor=0)) == [
        0,
        1,
        2,
        NO_SESSION,
    ]


def test_carried_campaign_reads_utm_and_the_first_click_id_type():
    query = "utm_source=a%20b&utm_medium=&gclid=1&fbclid=2&utm_source=c&q=tent"
    assert carried_campaign(query, ("gclid", "fbclid")) == {
        "utm_source": "a b",
        "click_id": "1",
        "click_id_type": "gclid",
    }
    assert carried_campaign("q=tent", ("gclid",)) == {}
