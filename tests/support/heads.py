"""Heads of requests, usual and odd, for tests of the fast paths against the strict reader."""

from hypothesis import strategies as st

from ingest.http_strict import HttpLimits, RefusedError, StrictReader

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
BYTES = st.sampled_from([*b'\r\n\x00\t :;=,/?#"\\%_aZ09\x7f\x80\xff']) | st.integers(0, 255)


def strictly(head):
    """The request that is exactly `head`, or None."""
    try:
        at, request = StrictReader(LIMITS).feed(head, 0)
    except RefusedError:
        return None
    return request if at == len(head) else None


def changes_of(valid):
    """A strategy: up to four bytes of `valid` replaced, inserted or deleted."""
    return st.lists(st.tuples(st.sampled_from("rid"), st.integers(0, len(valid) - 1), BYTES), min_size=1, max_size=4)


def changed(valid, changes):
    """What such changes make of it."""
    head = bytearray(valid)
    for kind, place, byte in changes:
        at = min(place, len(head) - 1)
        if kind == "r":
            head[at] = byte
        elif kind == "i":
            head.insert(at, byte)
        else:
            del head[at]
    return bytes(head)
