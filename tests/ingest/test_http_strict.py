import pytest

from ingest.counters import Refusal
from ingest.http_strict import HttpLimits, RefusedError, StrictReader

LIMITS = HttpLimits(target_bytes_max=256, head_bytes_max=1024, headers_max=10, body_bytes_max=1024)
H = b"Host: a.example\r\n"
GET = b"GET /p.gif?a=1 HTTP/1.1\r\n"
POST = b"POST /e HTTP/1.1\r\n" + H
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
UPGRADE = b"Connection: upgrade\r\nUpgrade: h2c\r\n"


def read(*pieces):
    """Every whole request as (method, path, query, body, keep-alive), and the refusal that ends it, if any."""
    reader, found = StrictReader(LIMITS), []
    try:
        for piece in pieces:
            at = 0
            while at < len(piece):
                at, request = reader.feed(piece, at)
                if request is not None:
                    found.append((request.method, request.path, request.query, request.body, request.keep_alive))
                    assert not reader.begun
    except RefusedError as error:
        found.append(error.reason)
    return found


PX = (b"GET", b"/p.gif", b"a=1", b"", True)
GOOD = [
    (GET + H + b"\r\n", [PX]),
    (b"\r\n\r\n" + GET + H + b"\r\n\r\n" + GET + H + b"\r\n", [PX, PX]),
    (GET + H + b"Connection: close\r\n\r\n", [(*PX[:4], False)]),
    (b"GET /p.gif?a=1 HTTP/1.0\r\n\r\n", [(*PX[:4], False)]),
    (b"GET /p.gif?a=1 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", [PX]),
    (b"GET http://a.example/p.gif?a=1 HTTP/1.1\r\n" + H + b"\r\n", [PX]),
    (b"GET http://a.example?a=1 HTTP/1.1\r\n" + H + b"\r\n", [(b"GET", b"/", b"a=1", b"", True)]),
    (b"OPTIONS * HTTP/1.1\r\n" + H + b"\r\n", [(b"OPTIONS", b"*", b"", b"", True)]),
    (b"GET /p.gif?a=1#x HTTP/1.1\r\n" + H + b"\r\n", [PX]),
    (GET + b"Host:\r\n\r\n", [PX]),
    (GET + b"Host: [::1]:80\r\n\r\n", [PX]),
    (POST + b"Content-Length: 3\r\n\r\nabc" + GET + H + b"\r\n", [(b"POST", b"/e", b"", b"abc", True), PX]),
    (POST + b"Content-Length: 0\r\n\r\n" + GET + H + b"\r\n", [(b"POST", b"/e", b"", b"", True), PX]),
    (POST + b"Content-Length: 4\r\n\r\n\r\n\r\n" + GET + H + b"\r\n", [(b"POST", b"/e", b"", b"\r\n\r\n", True), PX]),
    (CHUNKED + b"3\r\nabc\r\n4\r\n\r\n\r\n\r\n0\r\n\r\n" + GET + H + b"\r\n",
     [(b"POST", b"/e", b"", b"abc\r\n\r\n", True), PX]),
    (CHUNKED + b"3;x=y\r\nabc\r\n0\r\nTrailer: x\r\n\r\n" + GET + H + b"\r\n",
     [(b"POST", b"/e", b"", b"abc", True), PX]),
    (GET + H + UPGRADE + b"\r\n" + GET + H + b"\r\n", [PX, PX]),
    (POST + UPGRADE + b"Content-Length: 3\r\n\r\nGET" + GET + H + b"\r\n", [(b"POST", b"/e", b"", b"GET", True), PX]),
    (POST + UPGRADE + b"Transfer-Encoding: chunked\r\n\r\n3\r\nGET\r\n0\r\n\r\n" + GET + H + b"\r\n",
     [(b"POST", b"/e", b"", b"GET", True), PX]),
]  # fmt: skip
BAD = {
    "no host": GET + b"\r\n",
    "two hosts": GET + H + H + b"\r\n",
    "host with blank": GET + b"Host: a b\r\n\r\n",
    "host list": GET + b"Host: a, b@c\r\n\r\n",
    "two hosts in 1.0": b"GET / HTTP/1.0\r\n" + H + H + b"\r\n",
    "HTTP/0.9": b"GET /\r\n",
    "HTTP/0.9 named": b"GET / HTTP/0.9\r\n" + H + b"\r\n",
    "HTTP/1.2": b"GET / HTTP/1.2\r\n" + H + b"\r\n",
    "HTTP/2.0": b"GET / HTTP/2.0\r\n" + H + b"\r\n",
    "HTTP/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "RTSP": b"GET / RTSP/1.0\r\n" + H + b"\r\n",
    "two blanks": b"GET  / HTTP/1.1\r\n" + H + b"\r\n",
    "blank in target": b"GET /a b HTTP/1.1\r\n" + H + b"\r\n",
    "tab in line": b"GET\t/ HTTP/1.1\r\n" + H + b"\r\n",
    "lower-case method": b"get / HTTP/1.1\r\n" + H + b"\r\n",
    "unknown method": b"FOO / HTTP/1.1\r\n" + H + b"\r\n",
    "TLS hello": b"\x16\x03\x01\x02\x00\x01\x00",
    "NUL in target": b"GET /\x00 HTTP/1.1\r\n" + H + b"\r\n",
    "high byte in target": b"GET /p.gif?a=\xff HTTP/1.1\r\n" + H + b"\r\n",
    "CONNECT": b"CONNECT a:80 HTTP/1.1\r\n" + H + b"\r\n",
    "bare LF line": b"GET / HTTP/1.1\n" + H + b"\r\n",
    "bare LF field": GET + b"Host: a\n\r\n",
    "bare LF end": GET + H + b"\n",
    "bare CR": GET + H + b"X: a\rb\r\n\r\n",
    "NUL in field": GET + H + b"X: a\x00b\r\n\r\n",
    "control in field": GET + H + b"X: a\x01b\r\n\r\n",
    "obs-fold": GET + H + b"X: a\r\n b\r\n\r\n",
    "blank before field": GET + b" " + H + b"\r\n",
    "blank before colon": GET + b"Host : a\r\n\r\n",
    "no colon": GET + H + b"nonsense\r\n\r\n",
    "empty name": GET + H + b": a\r\n\r\n",
    "name no token": GET + H + b"a(b: c\r\n\r\n",
    "two lengths": POST + b"Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
    "conflicting lengths": POST + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
    "length list": POST + b"Content-Length: 3, 3\r\n\r\nabc",
    "signed length": POST + b"Content-Length: +3\r\n\r\nabc",
    "negative length": POST + b"Content-Length: -1\r\n\r\n",
    "hex length": POST + b"Content-Length: 0x3\r\n\r\nabc",
    "empty length": POST + b"Content-Length:\r\n\r\n",
    "huge length": POST + b"Content-Length: 99999999999999999999999\r\n\r\n",
    "both lengths": POST + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "both lengths, turned": POST + b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
    "coding twice": POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "coding list": POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "unknown coding": POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "identity": POST + b"Transfer-Encoding: identity\r\n\r\n",
    "chunked in 1.0": b"POST /e HTTP/1.0\r\n" + H + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunk size no hex": CHUNKED + b"xyz\r\nabc\r\n0\r\n\r\n",
    "chunk size 0x": CHUNKED + b"0x3\r\nabc\r\n0\r\n\r\n",
    "chunk size blank": CHUNKED + b"3 \r\nabc\r\n0\r\n\r\n",
    "chunk size overflow": CHUNKED + b"fffffffffffffffff\r\nabc\r\n0\r\n\r\n",
    "chunk too long": CHUNKED + b"3\r\nabcd\r\n0\r\n\r\n",
    "chunk bare LF": CHUNKED + b"3\nabc\r\n0\r\n\r\n",
    "negative chunk": CHUNKED + b"-3\r\nabc\r\n0\r\n\r\n",
    "upgrade with both lengths": POST + UPGRADE + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
}  # fmt: skip
LIMITED = [
    (b"GET /" + b"a" * 256 + b" HTTP/1.1\r\n" + H + b"\r\n", Refusal.TARGET_TOO_LONG),
    (b"GET /" + b"a" * 5000, Refusal.TARGET_TOO_LONG),
    (GET + H + b"X: " + b"a" * 1024 + b"\r\n\r\n", Refusal.HEAD_TOO_LARGE),
    (GET + H + b"X: " + b"a" * 1024, Refusal.HEAD_TOO_LARGE),
    (GET + H + b"X: a\r\n" * 10 + b"\r\n", Refusal.HEAD_TOO_LARGE),
    (POST + b"Content-Length: 1025\r\n\r\n", Refusal.BODY_TOO_LARGE),
    (CHUNKED + b"401\r\n" + b"a" * 1025 + b"\r\n0\r\n\r\n", Refusal.BODY_TOO_LARGE),
    (CHUNKED + b"1;" + b"x" * 3000 + b"\r\na\r\n0\r\n\r\n", Refusal.BODY_TOO_LARGE),
    (CHUNKED + b"0\r\n" + b"X: a\r\n" * 10 + b"\r\n", Refusal.HEAD_TOO_LARGE),
]


@pytest.mark.parametrize(("data", "expected"), GOOD, ids=range(len(GOOD)))
def test_good_requests_at_every_split(data, expected):
    assert read(data) == expected
    for split in range(1, len(data)):
        assert read(data[:split], data[split:]) == expected, split
    assert read(*(data[at : at + 1] for at in range(len(data)))) == expected


@pytest.mark.parametrize("name", BAD)
def test_malformed_requests_at_every_split(name):
    data = BAD[name]
    assert read(data) == [Refusal.MALFORMED]
    assert read(GET + H + b"\r\n" + data) == [PX, Refusal.MALFORMED]
    for split in range(1, len(data)):
        assert read(data[:split], data[split:]) == [Refusal.MALFORMED], split


@pytest.mark.parametrize(("data", "reason"), LIMITED, ids=range(len(LIMITED)))
def test_what_passes_a_limit_at_every_split(data, reason):
    assert read(data) == [reason]
    for split in range(1, len(data), 3):
        assert read(data[:split], data[split:]) == [reason], split


def test_a_head_of_exactly_the_limit_is_read():
    fill = LIMITS.head_bytes_max - len(GET + H + b"X: \r\n\r\n")
    assert read(GET + H + b"X: " + b"a" * fill + b"\r\n\r\n") == [PX]
    assert read(GET + H + b"X: " + b"a" * (fill + 1) + b"\r\n\r\n") == [Refusal.HEAD_TOO_LARGE]


def test_100_continue_is_wanted_once_and_only_without_a_body_yet():
    head = POST + b"Expect: 100-continue\r\nContent-Length: 3\r\n\r\n"
    reader = StrictReader(LIMITS)
    assert reader.feed(head, 0) == (len(head), None)
    assert reader.wants_continue
    assert not reader.wants_continue
    assert reader.feed(b"abc", 0)[1].body == b"abc"
    reader.feed(head + b"a", 0)
    assert not reader.wants_continue


def test_repeated_fields_are_all_there():
    request = StrictReader(LIMITS).feed(GET + H + b"COOKIE: a=1\r\ncookie:  b=2 \r\n\r\n", 0)[1]
    assert request.joined(b"cookie", b"; ") == b"a=1; b=2"
    assert request.header(b"cookie") == b"a=1"
    assert request.header(b"absent") is None
