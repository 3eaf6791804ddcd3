"""Steady load: unique ids that are the hits' numbers, times within what counts as event time, sessions of all kinds."""

from itertools import islice
from urllib.parse import parse_qs, urlsplit

import orjson
from support.sessions_reference import carried_campaign, sessions

from benchmarks.steady import Profile, steady_hits

NOW_MS = 1_763_820_000_000
DAY_MS = 86_400_000


def events_of(request):
    if request.method == "POST":
        body = orjson.loads(request.body)
        return body if isinstance(body, list) else [body]
    return [{name: values[0] for name, values in parse_qs(urlsplit(request.target.decode()).query).items()}]


def test_the_same_seed_gives_the_same_hits_and_another_seed_others():
    first, same, other = (list(islice(steady_hits(seed, NOW_MS), 500)) for seed in (1, 1, 2))
    assert first == same != other


def test_ids_are_the_hits_numbers_dense_from_the_first():
    requests = list(islice(steady_hits(3, NOW_MS, first=700), 2_000))
    ids = [int(event["id"]) for request in requests for event in events_of(request)]
    assert ids == list(range(700, 700 + len(ids)))
    assert ids == [number for request in requests for number in request.numbers()]


def test_times_lie_within_six_days_and_two_hours_before_now():
    requests = islice(steady_hits(4, NOW_MS, Profile(visitors=20)), 20_000)
    times = [int(event["t"]) for request in requests for event in events_of(request)]
    assert min(times) >= NOW_MS - 6 * DAY_MS - DAY_MS // 12
    assert max(times) <= NOW_MS


def test_it_exercises_the_session_rule():
    rows = []
    for request in islice(steady_hits(5, NOW_MS, Profile(visitors=20)), 5_000):
        for event in events_of(request):
            campaign = carried_campaign(urlsplit(event["u"]).query, ("gclid", "fbclid"))
            place = len(rows)
            rows.append({"site": "s", "visitor_id": request.visitor, "ts": int(event["t"]), **campaign})
            rows[place] |= {"log_partition": 0, "log_offset": place}
    session_of_row, opened = sessions(rows)
    assert 200 < len(opened) < len(rows) / 4
    opened_by_campaign = [session for session in opened if any(session.campaign)]
    stretched_back = [session for session in opened if session.first_ts < session.opened_ts]
    assert len(opened_by_campaign) > 50
    assert len(stretched_back) > 20
    assert len(set(session_of_row)) == len(opened)
