"""Hits built to make a worker crawl: the time of one stays in proportion to its bytes; nested JSON has its answer."""

from time import thread_time

import pytest
from support.simulated_hits import BASE_MS, hit, records

from consumers.batch import Batch, Loaded
from consumers.deduplicate import Marks
from consumers.enrich.caches import CACHES
from consumers.pipeline import finish, prepare
from consumers.rules import Enrichment, Rules
from consumers.session_state import SessionState
from schemas.limits import Limits
from schemas.rejection import Reason
from schemas.session import SessionRule

RULES = Rules(Limits(), {"shop": ("shop.example",)}, Enrichment(True, ("plz",), (r"[A-Z]{2}\d{6,}", r"(x+x+)+y")))
AGENT = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36"
)
FIELD_CHARS = 8_000
MIB = 1 << 20
PER_BYTE_MAX = 3.0  # of a plain hit's time per byte; docs/enrichment.md says so

UNITS = (
    *("a@b.", "é@é.", "%2540", "@", "%3D@a.", "eyJaaaaaaaaa.", "&token=", ";a=", "utm_source=a&", "%"),
    *("Mozilla/5.0 (", "Linux; Android 9; ", "1.", '"Not?A_Brand";v="8", ', "/?a=https%3A%2F%2F", "a", "x"),
)


def plain(seq):
    url = f"https://shop.example/tents/{seq}?utm_source=google&utm_medium=cpc&q=tent"
    return hit(seq, params={"u": url, "r": "https://www.google.com/", "ti": "A tent", "l": "de"}, user_agent=AGENT)


def full(unit, seq):
    """As much of the unit as fits everywhere: 200 KiB and more."""
    text = (unit * FIELD_CHARS)[:FIELD_CHARS]
    names = ("ch_ua", "ch_ua_platform", "ch_ua_platform_version", "ch_ua_model", "ch_ua_full_version_list")
    headers = dict.fromkeys(("user_agent", "accept_language", *names), text)
    event = {"u": f"https://shop.example/{text}", "r": f"https://other.example/{text}", "ti": text}
    props = {f"p.k{number}": text for number in range(12)}
    return hit(seq, event={"id": str(seq), **event, **props}, **headers)


def query(unit, seq):
    """A page whose query is the unit, again and again."""
    return hit(seq, params={"u": "https://shop.example/?" + (unit * 2_000)[:2_000], "id": seq}, user_agent=AGENT)


def seconds_per_byte(make):
    """The least of a few, each with empty caches and another hit."""
    found = []
    for seq in range(4):
        for cached in CACHES.values():
            cached.cache_clear()
        value = make(seq)
        batch = Batch("hits", 0, seq, seq, BASE_MS, records([value], seq))
        began = thread_time()
        prepare(batch.records, Marks(), RULES)
        found.append((thread_time() - began) / len(value))
    return min(found)


@pytest.fixture(scope="module")
def plain_seconds_per_byte():
    seconds_per_byte(plain)  # what is loaded at first use does not count
    return min(seconds_per_byte(plain) for _ in range(5))


@pytest.mark.parametrize("make", [full, query])
@pytest.mark.parametrize("unit", UNITS)
def test_a_hostile_hit_costs_per_byte_little_more_than_a_plain_one(unit, make, plain_seconds_per_byte):
    spent = seconds_per_byte(lambda seq: make(unit, seq))
    print(f"{spent / plain_seconds_per_byte:.2f} of a plain one's")
    assert spent < PER_BYTE_MAX * plain_seconds_per_byte, spent / plain_seconds_per_byte


def nested(opened, closed, size=MIB):
    depth = size // len(opened + closed)
    return opened * depth + b"1" + closed * depth


DEEP = [nested(b"[", b"]"), nested(b'{"a":', b"}"), b"[" * MIB, b'{"a":' * (MIB // 5)]


@pytest.mark.parametrize("json", DEEP, ids=["arrays", "objects", "open arrays", "open objects"])
@pytest.mark.parametrize("name", [b"x", b"items", b"p.x", b"u"])
def test_a_megabyte_of_nested_json_is_rejected_whatever_holds_it(json, name):
    value = hit(event={})[:-2] + b',"%b":%b}}' % (name, json)
    began = thread_time()
    loaded = loaded_of([value, json, hit(7)])
    assert thread_time() - began < 2
    assert [row.rejection.reason for row in loaded.rejected] == [Reason.BAD_JSON] * 2
    assert all(0 < len(row.rejection.detail) < 500 for row in loaded.rejected)
    assert [event.spool_seq for _, event in loaded.events] == [7], "those behind it go on"


@pytest.mark.parametrize(
    "wide", [b"[" + b"[],[]," * (MIB // 6) + b"[]]", b'{"a":' + b"[" + b"{}," * (MIB // 3) + b"{}]}"]
)
@pytest.mark.parametrize(
    ("name", "reasons"),
    [
        (b"x", []),
        (b"items", [Reason.TOO_MANY_ITEMS, Reason.BAD_ITEMS]),
        (b"p.x", [Reason.BAD_TYPE]),
        (b"u", [Reason.BAD_TYPE]),
    ],
)
def test_a_megabyte_of_wide_json_is_dropped_where_it_has_no_meaning_and_else_rejected(wide, name, reasons):
    loaded = loaded_of([hit(event={})[:-2] + b',"%b":%b}}' % (name, wide)])
    assert len(loaded.events) == (not reasons)
    assert {row.rejection.reason for row in loaded.rejected} <= set(reasons)


def test_nested_items_in_a_query_are_rejected():
    loaded = loaded_of([hit(params={"items": nested(b"[", b"]", 8_000).decode()})])
    assert [row.rejection.reason for row in loaded.rejected] == [Reason.BAD_ITEMS]


def loaded_of(values) -> Loaded:
    batch = Batch("hits", 0, 0, len(values) - 1, BASE_MS, records(values))
    return finish(prepare(batch.records, Marks(), RULES), SessionState(SessionRule(), 1 << 40))
