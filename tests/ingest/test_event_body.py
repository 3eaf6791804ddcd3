import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.counters import Refusal
from ingest.event_body import depth, parse_events
from ingest.http_strict import RefusedError


def parsed(body, content_type=b"application/json", events_max=3, depth_max=4):
    try:
        return parse_events(body, content_type, events_max, depth_max)
    except RefusedError as error:
        return error.reason


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"e":"A"}', [{"e": "A"}]),
        (b'[{"e":"A"},{"e":"B"}]', [{"e": "A"}, {"e": "B"}]),
        (b'{"events":[{"e":"A"}]}', [{"e": "A"}]),
        (b"[]", []),
        (b'{"events":[]}', []),
        (b"{}", [{}]),
        (b'{"e":1,"e":2}', [{"e": 2}]),
        (b' {"e":"\\u00e9"} ', [{"e": "é"}]),
        (b"", Refusal.BAD_BODY),
        (b"{", Refusal.BAD_BODY),
        (b"1", Refusal.BAD_BODY),
        (b'"x"', Refusal.BAD_BODY),
        (b"null", Refusal.BAD_BODY),
        (b"[1]", Refusal.BAD_BODY),
        (b'[{"e":1},null]', Refusal.BAD_BODY),
        (b"[[]]", Refusal.BAD_BODY),
        (b'{"events":{}}', Refusal.BAD_BODY),
        (b'{"events":null}', Refusal.BAD_BODY),
        (b'{"v":NaN}', Refusal.BAD_BODY),
        (b'{"v":Infinity}', Refusal.BAD_BODY),
        (b'{"v":1e999}', Refusal.BAD_BODY),
        (b'{"v":"\\ud800"}', Refusal.BAD_BODY),
        (b'{"v":"\xff"}', Refusal.BAD_BODY),
        (b'{"v":"\x00"}', Refusal.BAD_BODY),
        (b"\xef\xbb\xbf{}", Refusal.BAD_BODY),
        (b"{}{}", Refusal.BAD_BODY),
        (b"[{},{},{},{}]", Refusal.TOO_MANY_EVENTS),
        (b'{"a":[[[1]]]}', [{"a": [[[1]]]}]),
        (b'{"a":[[[[1]]]]}', Refusal.BAD_BODY),
        (b"[" * 65_000, Refusal.BAD_BODY),
        (b"[" * 500 + b"]" * 500, Refusal.BAD_BODY),
        (b'{"a":' * 900 + b"1" + b"}" * 900, Refusal.BAD_BODY),
    ],
)  # fmt: skip
def test_bodies(body, expected):
    assert parsed(body) == expected


@pytest.mark.parametrize(
    ("content_type", "fine"),
    [
        (None, True),
        (b"application/json", True),
        (b"Application/JSON; charset=utf-8", True),
        (b"text/plain;charset=UTF-8", True),
        (b"text/html", False),
        (b"application/x-www-form-urlencoded", False),
        (b"", False),
    ],
)
def test_content_types(content_type, fine):
    assert (parsed(b"{}", content_type) == [{}]) is fine
    assert fine or parsed(b"{}", content_type) is Refusal.BAD_CONTENT_TYPE


def test_brackets_in_text_are_no_depth():
    assert parsed(orjson.dumps({"a": "[" * 100})) == [{"a": "[" * 100}]


JSON = st.recursive(st.just(1), lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.just("a"), inner))


@given(st.lists(JSON, max_size=3) | st.builds(lambda items: {"events": items}, st.lists(JSON, max_size=3)))
def test_a_body_that_is_too_deep_is_refused_however_its_items_lie(value):
    found = parsed(orjson.dumps(value))
    items = value["events"] if isinstance(value, dict) else value
    too_deep = depth(value, 4) > 4
    assert found == (items if not too_deep and all(isinstance(item, dict) for item in items) else Refusal.BAD_BODY)
