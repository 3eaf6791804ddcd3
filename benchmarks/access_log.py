r"""Replay of a real web server log: a line of Apache's combined format -> the hit a pixel on that page would send.

Promise: one request a well-formed line, in file order, streamed; a line that is none is counted and passed over. The
hit has `u` = https://HOST/<path?query>, `r` = the referrer unless '-', `t` = the line's time in ms, `id` = `line-<n>`
with n the line's number from 1, the line's user agent and, as X-Forwarded-For, its client address.

The log knows no cookies. So each (client address, user agent) pair is one visitor with a fixed `_hs` cookie: its id is
a 64-bit hash of the pair and never 0, its birth the second before the pair's first line. The sender keeps a visitor on
one connection, so log order per visitor is file order.

Apache escapes what it does not print: `\"`, `\\`, `\n`, `\t`, `\xhh`. The bytes behind are read as UTF-8, else as
latin-1, as the collector reads headers. A last field without its closing quote (a line cut by a log shipper) is taken
as it is.
"""

from __future__ import annotations

import gzip
import re
from calendar import timegm
from collections.abc import Iterable, Iterator
from datetime import datetime
from hashlib import blake2b
from pathlib import Path
from typing import IO, NamedTuple, cast
from urllib.parse import quote

from benchmarks.traffic import Header, Request, pixel, visitor_cookie

LINE = re.compile(
    rb'(?P<address>\S+) \S+ .*?\[(?P<time>[^\]]+)\] "(?P<request>(?:[^"\\]|\\.)*)" (?P<status>\d{3}) (?:\d+|-)'
    rb' "(?P<referrer>(?:[^"\\]|\\.)*)" "(?P<agent>(?:[^"\\]|\\.)*)(?:"|$)'
)
ESCAPE = re.compile(rb"\\(x[0-9A-Fa-f]{2}|.)")
ESCAPED = {b"n": b"\n", b"t": b"\t", b"r": b"\r", b"b": b"\b", b"v": b"\v", b"f": b"\f"}
CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")  # not allowed in a header value; a tab is
NOT_IN_URL = re.compile(r"[\x00-\x20\x7f]")  # a browser percent-encodes these wherever they stand
LINE_BYTES_MAX = 64 * 1024


class Line(NamedTuple):
    """One line of the log, unescaped; `number` counts from 1, `target` is path and query, '' means '-'."""

    number: int
    address: str
    time_ms: int
    target: str
    referrer: str
    user_agent: bytes


class AccessLog:
    """A combined-format log, plain or gzip, read as a stream each time it is iterated.

    Counts of the newest reading: `lines` read and, of these, `malformed`. At most `LINE_BYTES_MAX` of a line are
    read; what is longer counts as malformed.
    """

    def __init__(self, path: Path, *, host: str = "www.semicomplete.com", site: str = "semicomplete") -> None:
        self.path = path
        self.host = host
        self.site = site
        self.lines = 0
        self.malformed = 0

    def __iter__(self) -> Iterator[Request]:
        """Yield the requests in file order, hits numbered by the line: number = line number - 1."""
        births: dict[int, int] = {}
        for line in self.read():
            visitor = visitor_of(line.address, line.user_agent)
            birth_s = births.setdefault(visitor, line.time_ms // 1000 - 1)
            yield self._request(line, visitor, birth_s)

    def read(self) -> Iterator[Line]:
        """Yield the well-formed lines, counting all and the malformed."""
        self.lines = self.malformed = 0
        with _opened(self.path) as file:
            for raw in _bounded_lines(file):
                self.lines += 1
                line = parse(raw, self.lines)
                if line is None:
                    self.malformed += 1
                else:
                    yield line

    def _request(self, line: Line, visitor: int, birth_s: int) -> Request:
        parameters: dict[str, str | int | None] = {
            "s": self.site,
            "u": f"https://{self.host}{line.target}",
            "r": line.referrer or None,
            "id": f"line-{line.number}",
            "t": line.time_ms,
        }
        headers: list[Header] = [visitor_cookie(visitor, birth_s)]
        if line.user_agent:
            headers.append((b"User-Agent", line.user_agent))
        request = pixel(parameters, headers, client_ip=line.address, visitor=visitor)
        return request._replace(number=line.number - 1, note="access log")


def visitor_of(address: str, user_agent: bytes) -> int:
    """Return the visitor id of a pair: its 64-bit hash, never 0."""
    digest = blake2b(address.encode() + b"\n" + user_agent, digest_size=8).digest()
    return int.from_bytes(digest, "big") or 1


def parse(raw: bytes, number: int) -> Line | None:
    """Return the line, or None when it is no combined-format line of a request for a path."""
    match = LINE.match(raw.rstrip(b"\r\n"))
    if match is None:
        return None
    target = _target(match["request"])
    time_ms = _time_ms(match["time"])
    if not target or time_ms is None:
        return None
    referrer = match["referrer"]
    agent = match["agent"]
    return Line(
        number,
        match["address"].decode("latin-1"),
        time_ms,
        target,
        "" if referrer == b"-" else _url_text(referrer),
        b"" if agent == b"-" else CONTROL.sub(b" ", _unescaped(agent)).strip(),
    )


def _target(request: bytes) -> str:
    """Return path and query of a request line `METHOD target [HTTP/x]`; '' when there is none."""
    head, _, version = request.rpartition(b" ")
    target = (head if version.startswith(b"HTTP/") else request).partition(b" ")[2]
    absolute = re.match(rb"https?://[^/?#]*", target, re.IGNORECASE)
    if absolute:
        target = target[absolute.end() :] or b"/"
    return _url_text(target) if target.startswith(b"/") else ""


def _url_text(escaped: bytes) -> str:
    """Return a URL's text; spaces and control characters percent-encoded."""
    return NOT_IN_URL.sub(lambda match: quote(match[0]), _text(_unescaped(escaped)))


def _text(raw: bytes) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def _unescaped(raw: bytes) -> bytes:
    if b"\\" not in raw:
        return raw

    def byte(match: re.Match[bytes]) -> bytes:
        code = match[1]
        return bytes([int(code[1:], 16)]) if len(code) == 3 else ESCAPED.get(code, code)

    return ESCAPE.sub(byte, raw)


def _time_ms(raw: bytes) -> int | None:
    try:
        time = datetime.strptime(raw.decode("ascii"), "%d/%b/%Y:%H:%M:%S %z")
    except ValueError:
        return None
    return timegm(time.utctimetuple()) * 1000


def _opened(path: Path) -> IO[bytes]:
    with path.open("rb") as file:
        compressed = file.read(2) == b"\x1f\x8b"
    if compressed:
        return cast("IO[bytes]", gzip.open(path, "rb"))  # a GzipFile reads lines as any binary file does
    return path.open("rb")


def _bounded_lines(file: IO[bytes]) -> Iterable[bytes]:
    """Yield lines; a longer one is yielded as its first bytes without a line end, which no pattern matches."""
    while chunk := file.readline(LINE_BYTES_MAX):
        if len(chunk) == LINE_BYTES_MAX and not chunk.endswith(b"\n"):
            rest = chunk
            while rest and not rest.endswith(b"\n"):
                rest = file.readline(LINE_BYTES_MAX)
            chunk = b"\n"
        yield chunk
