"""A record's bytes become a hit or a rejection, whatever they are."""

import msgspec
import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.simulated_hits import BASE_MS, hit

from consumers.decode import decode, name_in, name_of
from schemas.hit import Hit
from schemas.rejection import Reason, Rejection


def reason(value):
    decoded = decode(value)
    assert isinstance(decoded, Rejection), decoded
    assert decoded.detail
    return decoded.reason


def test_a_hit_comes_out_as_it_was_written():
    decoded = decode(hit(5, spool=3, visitor=9, at=1_750_000_000_123, params={"e": "Search"}, ip="192.0.2.0"))
    assert isinstance(decoded, Hit)
    assert (decoded.spool_id, decoded.spool_seq, decoded.visitor_id) == (f"{3:016x}", 5, f"{9:016x}")
    assert (decoded.received_at, decoded.query, decoded.ip) == (1_750_000_000_123, "s=shop&e=Search", "192.0.2.0")


def test_a_hit_without_consent_has_an_event_and_no_visitor():
    assert decode(hit(consent="denied_gpc", visitor=0, event={})).consent == "denied_gpc"
    assert decode(hit(consent="granted")).consent == "granted"


def test_a_field_that_this_release_does_not_know_is_ignored():
    assert isinstance(decode(hit(later="x")), Hit)


@pytest.mark.parametrize(
    "value",
    [b"", b"{", b"nope", b"\xff\xfe", b"[1", b"null x", hit()[:-1], hit() + b"}", b"[" * 100_000, b'"\xff"'],
)
def test_no_json(value):
    assert reason(value) is Reason.BAD_JSON


@pytest.mark.parametrize(
    "value",
    [
        b"null",
        b"[]",
        b"1",
        b"{}",
        hit(spool_seq="1"),
        hit(spool_seq=-1),
        hit(spool_seq=1.5),
        hit(spool_id="1"),
        hit(spool_id="G" * 16),
        hit(visitor_id=f"{255:016X}"),
        hit(key="x" * 16),
        hit(received_at=None),
        hit(received_at=1_750_000_000),  # seconds
        hit(received_at=1 << 60),
        hit(source="carrier pigeon"),
        orjson.dumps(orjson.loads(hit()) | {"event": [1]}),
        hit(user_agent=5),
        hit(new_visitor="yes"),
        hit(consent="granted_by_the_moon"),
        hit(consent="denied_gpc"),  # with a visitor
        hit(consent="denied_gpc", visitor=0),  # with a query
        hit(consent="denied_gpc", event={}),
    ],
)
def test_json_but_no_hit(value):
    assert reason(value) is Reason.BAD_HIT


@pytest.mark.parametrize("value", [hit(v=2), hit(v=0), b'{"v":2,"other":"shape"}', hit(v=2, spool_seq="seven")])
def test_a_format_that_this_release_does_not_know(value):
    assert reason(value) is Reason.BAD_VERSION


def test_deep_json_is_a_rejection_not_a_crash():
    deep = orjson.dumps({"v": 1})[:-1] + b',"event":{"a":' + b"[" * 5000 + b"]" * 5000 + b"}}"
    assert isinstance(decode(deep), Rejection)


def test_the_name_is_read_where_the_rest_cannot_be():
    assert name_of(decode(hit(5, spool=3))) == (3, 5, BASE_MS)
    assert name_in(hit(5, spool=3, v=2, source=9, event={"a": "b"})) == (3, 5, BASE_MS)
    assert name_in(hit(5, spool=3, received_at="soon")) == (3, 5, 0)
    assert name_in(hit(5, spool=3)[:-1] + b',"event":{"v":1e999}}') == (3, 5, BASE_MS)


@pytest.mark.parametrize(
    "value", [b"", b"{}", b"[]", b"\xff", hit(spool_id="x"), hit(spool_id=1), hit(spool_seq=-1), hit(spool_seq=True)]
)
def test_a_record_without_a_name(value):
    assert name_in(value) is None


slowly = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


@slowly
@given(st.binary(max_size=200))
def test_any_bytes(value):
    assert isinstance(decode(value), (Hit, Rejection))
    name_in(value)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@slowly
@given(st.dictionaries(st.sampled_from(Hit.__struct_fields__), json_values))
def test_any_values_in_a_hits_fields(changes):
    value = msgspec.json.encode(msgspec.json.decode(hit()) | changes)
    assert isinstance(decode(value), (Hit, Rejection))
