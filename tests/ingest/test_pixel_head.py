"""The fast path against the strict reader: what the one accepts, the other reads the same way."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from support.heads import LIMITS, LINES, ODD_LINES, changed, changes_of, strictly

from ingest.consent import DNT, GPC
from ingest.pixel_head import HeaderLines, PixelHeads

START = b"GET /p.gif?s=shop&e=PageView&u=https%3A%2F%2Fshop.example%2F HTTP/1.1"
STARTS = [
    START,
    b"GET /p.gif? HTTP/1.1",
    b"GET /p.gif HTTP/1.1",
    b"GET /p.gif?a=%zz&b=%00 HTTP/1.1",
    b'GET /p.gif?a="\\ HTTP/1.1',
    b"GET /p.gif?a#b HTTP/1.1",
    b"GET /p.gif?a b HTTP/1.1",
    b"GET /p.gif?a=\xc3\xa9 HTTP/1.1",
    b"GET /p.gif?a HTTP/1.0",
    b"GET /p.gif?a HTTP/1.1 HTTP/1.1",
    b"GET  /p.gif?a HTTP/1.1",
    b"HEAD /p.gif?a HTTP/1.1",
    b"GET /p.gif?" + b"a" * 293 + b" HTTP/1.1",
    b"GET /p.gif?" + b"a" * 294 + b" HTTP/1.1",
]  # fmt: skip


def heads_of(address="x-forwarded-for", *, proxied=False):
    return PixelHeads("/p.gif", address, LIMITS, proxied=proxied)


def check(head):
    """Whether the fast path took it; fails when the strict reader would have read it differently."""
    taken = [_check(head, heads_of(proxied=proxied)) for proxied in (False, True)]
    assert taken[0] or not taken[1]
    return taken[0]


def _check(head, heads):
    fields = heads.recognize(head)
    assert heads.recognize(head) == fields, "the second look differs from the first"
    if fields is None:
        return False
    request = strictly(head)
    assert request is not None, "accepted what the strict reader refuses"
    assert (request.method, request.path, request.body) == (b"GET", b"/p.gif", b"")
    assert request.keep_alive
    assert not request.http_1_0
    wanted = heads.fields_of(request)
    assert [field or None for field in fields] == [field or None for field in wanted]
    return True


def test_a_browsers_request_is_recognized():
    assert check(b"\r\n".join([START, *LINES]) + b"\r\n\r\n")


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("odd", [None, *ODD_LINES])
def test_every_odd_start_and_line(start, odd):
    check(b"\r\n".join([start, *LINES, *([] if odd is None else [odd])]) + b"\r\n\r\n")


@pytest.mark.parametrize("name", [b"Referer", b"Cookie", b"User-Agent", b"Sec-CH-UA", b"X-Forwarded-For"])
@pytest.mark.parametrize("values", [(b"", b" a"), (b" a", b""), (b" a", b" b"), (b" ", b" a")])
def test_repeated_fields_in_any_order_and_spelling(name, values):
    for one, two in ((name, name), (name.lower(), name), (name, name.upper())):
        check(b"\r\n".join([START, LINES[0], one + b":" + values[0], two + b":" + values[1]]) + b"\r\n\r\n")


def test_what_must_be_left_to_the_strict_reader_is():
    for odd in ODD_LINES:
        head = b"\r\n".join([START, LINES[0], odd]) + b"\r\n\r\n"
        if strictly(head) is None or any(
            word in odd.lower() for word in (b"length", b"close", b"encoding", b"expect", b"upgrade")
        ):
            assert heads_of().recognize(head) is None, odd


@given(
    st.sampled_from(STARTS),
    st.lists(st.sampled_from(LINES + ODD_LINES), max_size=24),
    st.sampled_from([b"\r\n\r\n", b"\r\n", b"\n\n", b"\r\n\r\n\r\n", b"\r\n\r\nGET / HTTP/1.1\r\n"]),
)
def test_generated_heads(start, lines, end):
    check(b"\r\n".join([start, *lines]) + end)


VALID = b"\r\n".join([START, *LINES]) + b"\r\n\r\n"


@given(changes_of(VALID))
@example([("d", VALID.index(b"\r\n"), 0)])
@example([("d", len(VALID) - 1, 0)])
def test_mutations_of_a_valid_head(changes):
    check(changed(VALID, changes))


def test_lines_of_visitors_are_not_cached_and_the_cache_is_bounded(monkeypatch):
    monkeypatch.setattr("ingest.pixel_head.LINES_CACHED_MAX", 3)
    lines = HeaderLines(b"x-forwarded-for")
    for line in LINES:
        lines[line]
        assert len(lines) <= 3
    for line in (b"Cookie: a", b"Referer: b", b"X-Forwarded-For: c", b"Traceparent: d"):
        lines[line]
        assert line not in lines
    long = b"User-Agent: " + b"a" * 600
    assert lines[long] is not None
    assert long not in lines


def test_the_address_header_is_the_chosen_one():
    head = START + b"\r\nHost: a\r\nX-Real-IP: 1.2.3.4\r\nX-Forwarded-For: 5.6.7.8\r\n\r\n"
    for name, value in ((b"x-real-ip", b"1.2.3.4"), (b"x-forwarded-for", b"5.6.7.8")):
        heads = heads_of(name.decode())
        assert heads.recognize(head)[1] == heads.fields_of(strictly(head))[1] == value


@pytest.mark.parametrize(
    ("lines", "signals"),
    [
        (b"", 0),
        (b"Sec-GPC: 1\r\n", GPC),
        (b"sec-gpc:1\r\n", GPC),
        (b"DNT: 1\r\n", DNT),
        (b"DNT: 1\r\nSec-GPC: 1\r\n", GPC | DNT),
        (b"DNT: 0\r\nSec-GPC: ?1\r\n", 0),
        (b"DNT: 0\r\nDNT: 1\r\n", DNT),
        (b"Sec-GPC: 1\r\nSec-GPC: 0\r\n", GPC),
        (b"Sec-GPC: 0, 1\r\n", GPC),
        (b"Sec-GPC: 11\r\nDNT: null\r\n", 0),
    ],
)
def test_signals_are_known_whoever_reads_them(lines, signals):
    head = START + b"\r\nHost: a\r\n" + lines + b"Referer: https://a/\r\n\r\n"
    heads = heads_of()
    assert heads.fields_of(strictly(head))[6] == signals
    for _ in range(2):
        fields = heads.recognize(head)
        assert fields is None or fields[6] == signals
