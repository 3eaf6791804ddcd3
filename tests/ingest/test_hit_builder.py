"""Every hit that is built is a hit by the public schema and by the worker's decoder."""

import json
from pathlib import Path

import msgspec
import orjson
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

import schemas
from ingest.hit_builder import (
    COMMON_MEMBERS,
    HIT_FIXED_BYTES,
    KNOWN,
    NEW,
    NO_VISITOR,
    HitBuilder,
    common_members,
    json_text,
    text_member,
)
from schemas.consent import DENIED
from schemas.hit import KEY_END, KEY_START, Hit

SCHEMA = json.loads((Path(schemas.__file__).parent / "hit.schema.json").read_text())
VALID = Draft202012Validator(SCHEMA)
IDS = st.integers(1, (1 << 64) - 1).map(lambda number: b"%016x" % number)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 63), (1 << 64) - 1) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
EVENTS = st.lists(st.dictionaries(st.text(), JSON, max_size=4), min_size=1, max_size=3)
BYTES = st.binary()
MS_MAX = (1 << 53) - 1


def text(value):
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")


def test_the_schema_is_a_schema_and_refuses_what_is_no_hit():
    Draft202012Validator.check_schema(SCHEMA)
    good = {"key": "0" * 15 + "1", "v": 1, "spool_id": "a" * 16, "spool_seq": 0, "received_at": 1, "source": "pixel"}
    good["visitor_id"] = good["key"]
    assert VALID.is_valid(good)
    for change in (
        {"key": "X"},
        {"v": 2},
        {"spool_seq": -1},
        {"source": "fax"},
        {"event": {}},
        {"more": 1},
        {"ip": ""},
    ):
        assert not VALID.is_valid({**good, **change}), change
    assert not VALID.is_valid({**good, "source": "beacon"})
    denied = {**good, "visitor_id": "0" * 16, "consent": "denied_gpc", "event": {"s": "shop"}}
    assert VALID.is_valid(denied)
    for change in ({"visitor_id": good["key"]}, {"event": {"uid": "u"}}, {"ip": "192.0.2.0"}, {"query": "s=shop"}):
        assert not VALID.is_valid({**denied, **change}), change
    assert set(SCHEMA["properties"]) == set(Hit.__struct_fields__)


@given(
    st.tuples(IDS, IDS),
    st.integers(0, (1 << 63) - 1),
    st.integers(0, MS_MAX),
    st.booleans(),
    st.tuples(BYTES, BYTES, BYTES),
)
def test_pixel_hits(ids, seq, now_ms, new, texts):
    (spool_id, visitor_id), (agent, referer, query) = ids, texts
    builder = HitBuilder(spool_id.decode())
    builder.at(now_ms)
    members = common_members([json_text(agent), *(len(COMMON_MEMBERS) - 1) * [None]])
    payload = builder.pixel(
        seq, visitor_id, visitor_id, NEW if new else KNOWN, b"", members, json_text(referer), json_text(query)
    )
    hit = msgspec.json.decode(payload, type=Hit)
    VALID.validate(orjson.loads(payload))
    assert payload[KEY_START:KEY_END] == visitor_id
    assert len(payload) <= HIT_FIXED_BYTES + len(members) + len(json_text(referer)) + len(json_text(query))
    assert hit == Hit(
        visitor_id.decode(), 1, spool_id.decode(), seq, now_ms, "pixel", visitor_id.decode(), new,
        user_agent=text(agent), referer=text(referer), query=text(query),
    )  # fmt: skip


@given(IDS, st.integers(0, 1 << 40), st.booleans(), st.binary(), EVENTS)
def test_beacon_hits(visitor_id, seq, new, referer, events):
    builder = HitBuilder("00000000000000ff")
    builder.at(1_700_000_000_123)
    members = text_member(b"ip", b"192.0.2.0") + text_member(b"referer", json_text(referer))
    bodies = [orjson.dumps(event) for event in events]
    mark = NEW if new else KNOWN
    payloads = [builder.beacon(seq + place, visitor_id, mark, members, body) for place, body in enumerate(bodies)]
    for place, (payload, event) in enumerate(zip(payloads, events, strict=True)):
        hit = msgspec.json.decode(payload, type=Hit)
        VALID.validate(orjson.loads(payload))
        assert (hit.spool_seq, hit.source, hit.new_visitor) == (seq + place, "beacon", new)
        assert (hit.received_at, hit.ip, hit.referer) == (1_700_000_000_123, "192.0.2.0", text(referer))
        assert payload.endswith(b',"event":%b}' % orjson.dumps(event))


@given(IDS, st.sampled_from(sorted(DENIED)), st.sampled_from([b"pixel", b"beacon"]))
def test_denied_hits(key, verdict, source):
    builder = HitBuilder("00000000000000ff")
    builder.at(MS_MAX)
    mark = KNOWN + b',"consent":"%b"' % verdict.encode()
    payload = builder.event((1 << 63) - 1, source, key, NO_VISITOR, mark, b"", b'{"s":"shop"}')
    VALID.validate(orjson.loads(payload))
    hit = msgspec.json.decode(payload, type=Hit)
    assert (payload[KEY_START:KEY_END], hit.visitor_id, hit.consent) == (key, "0" * 16, verdict)
    assert hit.event == {"s": "shop"}
    assert len(payload) <= HIT_FIXED_BYTES + len(b'{"s":"shop"}')


def test_bytes_stand_as_documented():
    builder = HitBuilder("00000000000000ff")
    builder.at(1)
    assert builder.pixel(7, b"00000000000000ab", b"00000000000000ab", NEW, b"", b"", b"", b"a") == (
        b'{"key":"00000000000000ab","v":1,"spool_id":"00000000000000ff","spool_seq":7,"received_at":1,'
        b'"source":"pixel","visitor_id":"00000000000000ab","new_visitor":true,"query":"a"}'
    )


def test_every_common_field_has_its_member():
    texts = [b"%d" % place for place in range(len(COMMON_MEMBERS))]
    made = orjson.loads(b"{" + common_members(texts)[1:] + b"}")
    assert made == {name.decode(): str(place) for place, name in enumerate(COMMON_MEMBERS.values())}
    assert set(made) <= set(Hit.__struct_fields__)
    assert {name.replace(b"sec-", b"").replace(b"-", b"_") for name in COMMON_MEMBERS} == set(COMMON_MEMBERS.values())
