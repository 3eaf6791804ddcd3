"""The fast path against the strict reader: what the one accepts, the other reads the same way."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ingest.consent import DNT, GPC
from ingest.http_strict import HttpLimits, RefusedError, StrictReader
from ingest.pixel_head import HeaderLines, PixelHeads

LIMITS = HttpLimits(target_bytes_max=300, head_bytes_max=2048, headers_max=20, body_bytes_max=1024)
LINES = [
    b"Host: t.example",
    b"Connection: keep-alive",
    b'sec-ch-ua: "Chromium";v="131", "Not_A Brand";v="24"',
    b"sec-ch-ua-mobile: ?0",
    b'sec-ch-ua-platform: "Linux"',
    b"User-Agent: Mozilla/5.0 (X11; Linux x86_64) Chrome/131.0.0.0",
    b"Accept: image/avif,*/*;q=0.8",
    b"Referer: https://shop.example/p/1",
    b"Accept-Language: en-US,en;q=0.9",
    b"Cookie: _ga=GA1.1.1; _hs=0123456789abcdef.1700000000",
]
START = b"GET /p.gif?s=shop&e=PageView&u=https%3A%2F%2Fshop.example%2F HTTP/1.1"
ODD_LINES = [
    b'User-Agent: "quoted\\"',
    b"User-Agent:",
    b"Referer:",
    b"Cookie:",
    b"Referer: https://second/",
    b"User-Agent: \xc3\xa9t\xc3\xa9",
    b"Referer: \xff\xfe",
    b"Referer:\t https://x/ \t",
    b"COOKIE: a=b",
    b"cookie: _hs=0123456789abcdef.1700000000",
    b"X-Forwarded-For: 192.0.2.1, 10.0.0.1",
    b"X-Forwarded-Proto: https",
    b"Sec-GPC: 1",
    b'Sec-CH-UA: "second";v="1"',
    b'Sec-CH-UA-Model: "Pixel \xc3\xa9 \\""',
    b"Sec-CH-UA-Platform-Version:",
    b'SEC-CH-UA-FULL-VERSION-LIST: "Chromium";v="131.0.6778.85"',
    b"Sec-GPC: 0",
    b"DNT: 1",
    b"dnt: 0, 1",
    b"X-Anything: at all",
    b"Host: other.example",
    b"Host: bad host",
    b"Connection: close",
    b"Connection: Keep-Alive",
    b"Connection: keep-alive, upgrade",
    b"Content-Length: 0",
    b"Content-Length: 3",
    b"Transfer-Encoding: chunked",
    b"Upgrade: h2c",
    b"Expect: 100-continue",
    b"Proxy-Connection: close",
    b"nonsense",
    b"",
    b" folded",
    b"Space : x",
    b"X: nul\x00",
    b"X: bare\rcr",
    b"X: bare\nlf",
    b"X: del\x7f",
]  # fmt: skip
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


def strictly(head):
    """The request that is exactly `head`, or None."""
    try:
        at, request = StrictReader(LIMITS).feed(head, 0)
    except RefusedError:
        return None
    return request if at == len(head) else None


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
BYTES = st.sampled_from([*b'\r\n\x00\t :;=,/?#"\\%_aZ09\x7f\x80\xff']) | st.integers(0, 255)


@given(st.lists(st.tuples(st.sampled_from("rid"), st.integers(0, len(VALID) - 1), BYTES), min_size=1, max_size=4))
@example([("d", VALID.index(b"\r\n"), 0)])
@example([("d", len(VALID) - 1, 0)])
def test_mutations_of_a_valid_head(changes):
    head = bytearray(VALID)
    for kind, place, byte in changes:
        at = min(place, len(head) - 1)
        if kind == "r":
            head[at] = byte
        elif kind == "i":
            head.insert(at, byte)
        else:
            del head[at]
    check(bytes(head))


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
    assert heads.fields_of(strictly(head))[-1] == signals
    for _ in range(2):
        fields = heads.recognize(head)
        assert fields is None or fields[-1] == signals
