"""The fast path of POSTs against the strict reader: what the one accepts, the other reads the same way."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from support.heads import LIMITS, LINES, ODD_LINES, changed, changes_of, strictly

from ingest.event_head import EventHeads
from ingest.pixel_head import PixelHeads

START = b"POST /e HTTP/1.1"
BODY = b'{"s":"shop","e":"PageView"}'
OWN_LINES = [b"Content-Length: 27", b"Content-Type: text/plain;charset=UTF-8", b"Origin: https://shop.example"]
STARTS = [
    START,
    b"POST /e? HTTP/1.1",
    b"POST /e?a=b HTTP/1.1",
    b"POST /e?a#b HTTP/1.1",
    b"POST /e2 HTTP/1.1",
    b"POST /e HTTP/1.0",
    b"POST  /e HTTP/1.1",
    b"PUT /e HTTP/1.1",
    b"GET /e HTTP/1.1",
]
ODD_OWN_LINES = [
    b"Content-Length: 27",
    b"Content-Length: 026",
    b"Content-Length: 0",
    b"Content-Length: 28",
    b"Content-Length: -1",
    b"Content-Length: 2 7",
    b"Content-Length: 27 ",
    b"Content-Length: \xb2\xb7",
    b"Content-Length: 99999999999",
    b"content-length: 27",
    b"Content-Type:",
    b"Content-Type: image/gif",
    b"content-type: text/plain",
    b"Content-Type: bare\rcr",
    b"Content-Type: nul\x00",
    b"Origin: \t null \t",
    b"origin: https://second.example",
    b"Origin: bare\nlf",
    b"Origin:",
]
VALID = b"\r\n".join([START, *LINES[:2], *OWN_LINES, *LINES[2:]]) + b"\r\n\r\n" + BODY


def check(data):
    """Whether the fast path took it; fails when the strict reader would have read it differently."""
    heads = EventHeads("/e", "x-forwarded-for", LIMITS)
    posted = heads.recognize(data)
    assert heads.recognize(data) == posted, "the second look differs from the first"
    if posted is None:
        return False
    fields, body = posted
    request = strictly(data)
    assert request is not None, "accepted what the strict reader refuses"
    assert (request.method, request.path, request.body) == (b"POST", b"/e", body)
    assert request.keep_alive
    assert not request.http_1_0
    wanted = PixelHeads("/p.gif", "x-forwarded-for", LIMITS).fields_of(request)
    assert [field or None for field in fields] == [field or None for field in wanted]
    return True


@pytest.mark.parametrize("own", [OWN_LINES, OWN_LINES[::-1], OWN_LINES[:1]])
def test_a_browsers_post_is_recognized(own):
    assert check(b"\r\n".join([START, *LINES[:1], *own, *LINES[1:]]) + b"\r\n\r\n" + BODY)


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("odd", [*ODD_LINES, *ODD_OWN_LINES])
def test_every_odd_start_and_line_before_and_behind_the_own(start, odd):
    for lines in ([odd, *OWN_LINES], [*OWN_LINES, odd], [odd]):
        check(b"\r\n".join([start, *LINES, *lines]) + b"\r\n\r\n" + BODY)


@pytest.mark.parametrize("rest", [b"", BODY[:-1], BODY + b"\r\n", BODY + VALID, VALID])
def test_a_body_that_is_not_all_that_follows_is_left_to_the_strict_reader(rest):
    assert not check(b"\r\n".join([START, *LINES, *OWN_LINES]) + b"\r\n\r\n" + rest)


@pytest.mark.parametrize("size", [0, 1, 1024, 1025])
def test_bodies_up_to_the_limit_are_taken(size):
    head = b"\r\n".join([START, LINES[0], b"Content-Length: %d" % size]) + b"\r\n\r\n"
    assert check(head + b"x" * size) == (size <= LIMITS.body_bytes_max)


@pytest.mark.parametrize("size", [1800, 1900, 1984, 1985, 2000, 2048])
def test_a_head_past_the_limit_is_left_to_the_strict_reader(size):
    lines = [START, LINES[0], OWN_LINES[0], b"X-Long: " + b"x" * size]
    data = b"\r\n".join(lines) + b"\r\n\r\n" + BODY
    assert check(data) == (len(data) - len(BODY) <= LIMITS.head_bytes_max)


@given(
    st.sampled_from(STARTS),
    st.lists(st.sampled_from(LINES + ODD_LINES + 3 * OWN_LINES + ODD_OWN_LINES), max_size=16),
    st.sampled_from([b"\r\n\r\n", b"\r\n", b"\n\n", b"\r\n\r\n\r\n"]),
    st.sampled_from([BODY, b"", BODY[:-1], BODY + b"\n"]),
)
def test_generated_posts(start, lines, end, body):
    check(b"\r\n".join([start, *lines]) + end + body)


@given(changes_of(VALID))
@example([("d", VALID.index(b"\r\n"), 0)])
@example([("d", len(VALID) - 1, 0)])
def test_mutations_of_a_valid_post(changes):
    check(changed(VALID, changes))
