"""What the edge reads of a query or an event is what the worker reads of the hit, wherever the worker can read it."""

import orjson
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from ingest.given import CHOICE, CHOICE_ESCAPED, NAMES, UNREADABLE, given_in_event, given_in_query
from ingest.hit_builder import json_text
from schemas.parameters import NUMBERS, TIMES, RejectError, from_json, from_query, number, time_ms

PIECES = st.sampled_from(
    ["s", "e", "u", "c", "v", "t", "cur", "p.k", "%63", "%73", "c%", "=", "=", "&", "&", "1", "0", "a", "%31", "%zz",
     "+", "%00", "%c3%a4", "%ff", "ä", '"', "\\"]
)  # fmt: skip
QUERIES = st.lists(PIECES, max_size=14).map("".join)


def read(query):
    return given_in_query(json_text(query.encode()))


def number_of(name, value):
    return time_ms(name, value) if name in TIMES else number(name, value)


@pytest.mark.parametrize(
    ("query", "c"),
    [
        ("s=a&c=0", "0"),
        ("c=0", "0"),
        ("%63=0", "0"),
        ("s=a&%63=%30", "0"),
        ("s=a&c=1&c=0", "1"),
        ("s=a&c=&c=0", "0"),
        ("s=a&c=analytics%2Cads", "analytics,ads"),
        ("s=a&c=analytics+", "analytics "),
        ("s=a&c=%zz", UNREADABLE),
        ("s=a&c=%00", UNREADABLE),
        ("s=a&c=%ff&c=1", UNREADABLE),
        ("s=a&c", None),
        ("s=a&cur=EUR&sec=1&C=0", None),
    ],
)
def test_c_in_a_query(query, c):
    assert read(query).get("c") == c
    if c is not None:
        assert CHOICE in query.encode() or CHOICE_ESCAPED in query.encode()


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(QUERIES)
@example("%63=1&c=0")
@example("c%=1&c=0")
def test_a_query_is_read_as_the_worker_reads_it(query):
    found = read(query)
    if found.get("c"):
        assert CHOICE in query.encode() or CHOICE_ESCAPED in query.encode()
    try:
        theirs = from_query(query)
    except RejectError:
        return
    mine = {name: number_of(name, value) if name in NUMBERS else value for name, value in found.items()}
    assert mine == {name: value for name, value in theirs.items() if name in NAMES}


JSON = st.none() | st.booleans() | st.integers(-3, 3) | st.floats(allow_nan=False) | st.text(max_size=3)


@given(st.dictionaries(st.sampled_from([*NAMES, "uid", "p.k"]), JSON | st.lists(JSON, max_size=2), max_size=5))
@example({"t": 0.5})
def test_an_event_is_read_as_the_worker_reads_it(event):
    found = given_in_event(event)
    assert orjson.dumps(found)
    try:
        theirs = from_json(event)
    except RejectError:
        return
    assert found.keys() == theirs.keys() & NAMES
    for name, value in found.items():
        if name in NUMBERS:
            assert number_of(name, value) == theirs[name]
        else:
            assert str(value) == theirs[name] or name == "c"
