"""The strict reading of HTTP/1.x requests: llhttp decides, and what it lets through that we must not is refused here.

One message at a time, fed in any pieces, with the same result for any split:

- llhttp gets the request line, then the rest of the head, then the body, each in bytes that end exactly where our own
  framing says that part ends (CR LF, CR LF CR LF, Content-Length). Where llhttp and our framing disagree about an end,
  the request is malformed: no way of reading it differently is left to us or to a proxy in front.
- Refused beyond llhttp: versions other than 1.0 and 1.1, several blanks in the request line, no Host in 1.1 or two in
  either, a Host that is none, a Transfer-Encoding that is not just `chunked`, any in 1.0, and all that passes a limit.
- CONNECT is refused. Upgrade is ignored: the request is an ordinary one, its body too, and nothing is ever switched.
- The absolute form of a target (`http://host/path`) is read as its path, as RFC 9112 3.2.2 demands.
- All leniency flags of llhttp are off.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final, NamedTuple

import httptools

from ingest.counters import Refusal

CRLF: Final = b"\r\n"
HEAD_END: Final = b"\r\n\r\n"

REQUEST_LINE = re.compile(rb"([A-Z-]+) ([!-~]+) HTTP/1\.([01])\r\n").fullmatch
HOST = re.compile(rb"(?:[A-Za-z0-9._~!$&'()*+,;=%-]*|\[[0-9A-Fa-f:.]+\])(?::[0-9]{0,5})?").fullmatch
_ABSOLUTE = re.compile(rb"[Hh][Tt][Tt][Pp][Ss]?://[^/?#]+").match


class HttpLimits(NamedTuple):
    """Limits of one request, from the settings of the same names."""

    target_bytes_max: int
    head_bytes_max: int
    headers_max: int
    body_bytes_max: int


class Request(NamedTuple):
    """A whole, well-formed request. Names of `headers` are lower-case, values without blanks around them."""

    method: bytes
    path: bytes
    query: bytes
    headers: dict[bytes, list[bytes]]
    body: bytes
    http_1_0: bool
    keep_alive: bool
    head_bytes: int

    def header(self, name: bytes) -> bytes | None:
        """Return a field's value; the first where the field may stand once only, None when it is absent."""
        values = self.headers.get(name)
        return values[0] if values else None

    def joined(self, name: bytes, separator: bytes) -> bytes | None:
        """Return the values of all fields of this name, joined; None when there is none."""
        values = self.headers.get(name)
        return separator.join(values) if values else None


class RefusedError(Exception):
    """The request is refused; raised while it is read, nothing behind it on the connection can be trusted.

    `lines` are header lines that the answer must have.
    """

    def __init__(self, reason: Refusal, lines: bytes = b"") -> None:
        super().__init__(reason)
        self.reason = reason
        self.lines = lines


class StrictReader:
    """Reads the requests of one connection, one after the other.

    `feed` takes bytes until one request is whole. `begun`: some of the next request is here, not all.
    """

    def __init__(self, limits: HttpLimits) -> None:
        self._limits = limits
        self._parser = httptools.HttpRequestParser(self)
        self._begin()

    def _begin(self) -> None:
        """Forget the last request; the next may begin."""
        self._stage: Stage = StrictReader._read_line
        self._raw = bytearray()
        self._method = self._target = b""
        self._http_1_0 = False
        self._headers: dict[bytes, list[bytes]] = {}
        self._fields = 0
        self._target_bytes = 0
        self._head_bytes = 0
        self._head_done = False
        self._body: list[bytes] = []
        self._body_bytes = 0
        self._body_left = 0
        self._chunked_bytes = 0
        self._complete = False
        self._keep_alive = False
        self._upgrade = False
        self._expects = False
        self._refused: RefusedError | None = None

    @property
    def begun(self) -> bool:
        """Whether a request is under way."""
        return self._raw != b"" or self._stage is not StrictReader._read_line

    @property
    def wants_continue(self) -> bool:
        """Whether the client waits for `100 Continue` before its body; true once a request."""
        wants = self._expects and not self._body_bytes
        self._expects = False
        return wants

    def feed(self, data: bytes, at: int) -> tuple[int, Request | None]:
        """Read on in `data` from `at`; return where it stopped, and the request if it is whole now.

        Without a request all of `data` was taken. Raises RefusedError.
        """
        try:
            while at < len(data):
                at = self._stage(self, data, at)
                if self._complete:
                    return at, self._take()
        except httptools.HttpParserError as error:
            raise (self._refused or RefusedError(Refusal.MALFORMED)) from error
        return at, None

    # stages: each takes bytes from `at` on and returns the place behind them

    def _read_line(self, data: bytes, at: int) -> int:
        if not self._raw:
            while data.startswith(CRLF, at):  # empty lines before a request are ignored (RFC 9112 2.2)
                at += 2
            if at == len(data):
                return at
        elif self._raw == b"\r" and data[at] == ord("\n"):
            self._raw.clear()
            return at + 1
        if self._raw == b"" and data[at:] == b"\r":
            self._raw += b"\r"
            return at + 1
        return self._read_until(CRLF, data, at)

    def _read_fields(self, data: bytes, at: int) -> int:
        return self._read_until(HEAD_END, data, at)

    def _read_until(self, end: bytes, data: bytes, at: int) -> int:
        """Feed llhttp up to the end of the request line or of the head, and not past the limit of a head."""
        raw = self._raw
        held = len(raw)
        raw += data[at : at + self._limits.head_bytes_max - held]
        found = raw.find(end, max(held - len(end) + 1, 0))
        if found >= 0:
            del raw[found + len(end) :]
        stop = at + len(raw) - held
        self._parse(data[at:stop])
        if found < 0 and stop < len(data):
            raise RefusedError(Refusal.HEAD_TOO_LARGE)
        if self._head_done != (found >= 0 and end is HEAD_END):
            raise RefusedError(Refusal.MALFORMED)
        if found >= 0:
            self._end_line() if end is CRLF else self._end_head()
        return stop

    def _end_line(self) -> None:
        match = REQUEST_LINE(self._raw)
        if match is None or match[1] == b"CONNECT":
            raise RefusedError(Refusal.MALFORMED)
        self._method, self._target, minor = match.groups()
        self._http_1_0 = minor == b"0"
        self._stage = StrictReader._read_fields

    def _end_head(self) -> None:
        headers = self._headers
        host = headers.get(b"host")
        valid = self._http_1_0 if host is None else len(host) == 1 and HOST(host[0]) is not None
        coding = headers.get(b"transfer-encoding")
        if coding is not None:
            valid = valid and not self._http_1_0 and len(coding) == 1 and coding[0].lower() == b"chunked"
            self._stage = StrictReader._read_chunks
        length = headers.get(b"content-length")
        if length is not None:
            valid = valid and coding is None and len(length) == 1 and length[0].isdigit()
            self._stage = StrictReader._read_length
        if not valid:
            raise RefusedError(Refusal.MALFORMED)
        self._body_left = int(length[0]) if length is not None else 0
        if self._body_left > self._limits.body_bytes_max:
            raise RefusedError(Refusal.BODY_TOO_LARGE)
        self._head_bytes = len(self._raw)
        self._raw.clear()
        has_body = coding is not None or self._body_left > 0
        if has_body and self._upgrade:
            framing = b"Transfer-Encoding: chunked" if coding is not None else b"Content-Length: %d" % self._body_left
            self._read_body_anyway(framing)
        elif self._complete == has_body:  # llhttp and we disagree about a body
            raise RefusedError(Refusal.MALFORMED)
        expectation = headers.get(b"expect", [b""])[0].lower()
        self._expects = has_body and not self._http_1_0 and expectation == b"100-continue"

    def _read_body_anyway(self, framing: bytes) -> None:
        """Have llhttp read the body of a request with Upgrade, which it takes for the start of another protocol."""
        headers, keep_alive = self._headers, self._keep_alive
        self._headers, self._fields = {}, 0
        self._head_done = self._complete = False
        self._parser.feed_data(b"POST / HTTP/1.1\r\n" + framing + HEAD_END)
        self._headers, self._keep_alive = headers, keep_alive

    def _read_length(self, data: bytes, at: int) -> int:
        piece = data[at : at + self._body_left]
        self._body_left -= len(piece)
        self._parse(piece)
        if self._complete != (self._body_left == 0):
            raise RefusedError(Refusal.MALFORMED)
        return at + len(piece)

    def _read_chunks(self, data: bytes, at: int) -> int:
        """Feed llhttp up to the next CR LF CR LF, the only place where a chunked body can end."""
        tail = bytes(self._raw[-3:])
        straddling = (tail + data[at : at + 3]).find(HEAD_END)
        if straddling >= 0:
            stop = at + straddling + 4 - len(tail)
        else:
            found = data.find(HEAD_END, at)
            stop = found + 4 if found >= 0 else len(data)
        piece = data[at:stop]
        self._chunked_bytes += len(piece)
        if self._chunked_bytes > self._limits.body_bytes_max + self._limits.head_bytes_max:
            raise RefusedError(Refusal.BODY_TOO_LARGE)
        self._raw[:] = (tail + piece)[-3:]
        self._parse(piece)
        if self._complete and not (tail + piece).endswith(HEAD_END):
            raise RefusedError(Refusal.MALFORMED)
        return stop

    def _parse(self, piece: bytes) -> None:
        try:
            self._parser.feed_data(piece)
        except httptools.HttpParserUpgrade as upgrade:  # ignored: the message is whole, and the next is HTTP again
            if upgrade.args[0] != len(piece) or not self._complete:
                raise RefusedError(Refusal.MALFORMED) from upgrade
            self._parser = httptools.HttpRequestParser(self)
            self._upgrade = True
        if self._refused is not None:
            raise self._refused

    def _take(self) -> Request:
        path = self._target
        absolute = _ABSOLUTE(path)
        if absolute is not None:
            path = path[absolute.end() :]
        path, _, query = path.partition(b"#")[0].partition(b"?")
        body = b"".join(self._body)
        request = Request(
            self._method,
            path or b"/",
            query,
            self._headers,
            body,
            self._http_1_0,
            self._keep_alive,
            self._head_bytes,
        )
        self._begin()
        return request

    # llhttp's callbacks; what they raise ends parsing there, so that the first fault in byte order counts

    def _refuse(self, reason: Refusal) -> None:
        self._refused = self._refused or RefusedError(reason)
        raise self._refused

    def on_url(self, url: bytes) -> None:
        """Count the target."""
        self._target_bytes += len(url)
        if self._target_bytes > self._limits.target_bytes_max:
            self._refuse(Refusal.TARGET_TOO_LONG)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a field; those of a trailer are counted and dropped."""
        self._fields += 1
        if self._fields > self._limits.headers_max:
            self._refuse(Refusal.HEAD_TOO_LARGE)
        if not self._head_done:
            self._headers.setdefault(name.lower(), []).append(value.strip(b" \t"))

    def on_headers_complete(self) -> None:
        """Note that llhttp sees the head's end."""
        self._head_done = True
        self._keep_alive = self._parser.should_keep_alive()

    def on_body(self, body: bytes) -> None:
        """Take a piece of the body."""
        self._body_bytes += len(body)
        if self._body_bytes > self._limits.body_bytes_max:
            self._refuse(Refusal.BODY_TOO_LARGE)
        self._body.append(body)

    def on_message_complete(self) -> None:
        """Note that llhttp sees the message's end."""
        self._complete = True


Stage = Callable[[StrictReader, bytes, int], int]
