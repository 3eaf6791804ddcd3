"""Answers of an HTTP/1.1 server, read as a client must read them (RFC 9112, 6.3). Pure: bytes in, answers out.

Promise: an answer is complete exactly when its last byte is: none to HEAD, 204 and 304 has a body; else chunked, else
Content-Length, else everything until the connection ends. Bytes beyond it are left in `pending`, so that a caller sees
a server that answered twice. Head and body are bounded; what breaks the rules raises BadAnswerError.
"""

from __future__ import annotations

import re
from typing import NamedTuple

HEAD_BYTES_MAX = 64 * 1024
BODY_BYTES_MAX = 16 * 1024 * 1024
STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9]{2})(?: [^\r\n]*)?\Z")
NO_BODY = (204, 304)


class BadAnswerError(Exception):
    """The server's bytes are no HTTP/1.1 answer, or end in the middle of one."""


class Answer(NamedTuple):
    """One final answer; header names in lower case; `keep_alive` says that the connection may be used again."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes
    keep_alive: bool

    def header(self, name: bytes) -> bytes | None:
        """Return the first value of a header, its name given in lower case."""
        for key, value in self.headers:
            if key == name:
                return value
        return None


class AnswerReader:
    """Reads the answers of one connection, one outstanding request at a time."""

    def __init__(self) -> None:
        self.pending = bytearray()
        self._head_only = False
        self._head: Answer | None = None  # complete but for its body
        self._length: int | None = None  # of the body; None: until the connection ends
        self._chunked = False

    def expect(self, method: str) -> None:
        """Make ready for the answer to a request; `method` decides whether it has a body."""
        self._head_only = method == "HEAD"
        self._head = None

    def feed(self, data: bytes) -> Answer | None:
        """Take bytes; return the answer once it is complete. Raises BadAnswerError."""
        self.pending += data
        if self._head is None and not self._read_head():
            return None
        return self._read_body()

    def end(self) -> Answer | None:
        """Return the answer that the connection's end completes, or None when none was begun."""
        if self._head is None:
            if self.pending:
                raise BadAnswerError("the connection ended inside the head of an answer")
            return None
        if self._chunked or self._length is not None:
            raise BadAnswerError("the connection ended inside the body of an answer")
        return self._complete(bytes(self.pending), len(self.pending))

    def _read_head(self) -> bool:
        """Read heads until that of a final answer (a 1xx is none) is complete."""
        while True:
            end = self.pending.find(b"\r\n\r\n")
            if end < 0 or end > HEAD_BYTES_MAX:
                if len(self.pending) > HEAD_BYTES_MAX:
                    raise BadAnswerError(f"the head of an answer is longer than {HEAD_BYTES_MAX} bytes")
                return False
            lines = bytes(self.pending[:end]).split(b"\r\n")
            del self.pending[: end + 4]
            status_line = STATUS_LINE.match(lines[0])
            if status_line is None:
                raise BadAnswerError(f"{lines[0][:80]!r} is no status line")
            status = int(status_line[2])
            if status >= 200:
                self._begin(status, status_line[1] == b"1", lines[1:])
                return True

    def _begin(self, status: int, is_1_1: bool, lines: list[bytes]) -> None:  # noqa: FBT001  a bit of the status line
        headers = []
        length: int | None = None
        chunked = False
        keep_alive = is_1_1
        for line in lines:
            name, colon, value = line.partition(b":")
            if not colon or not name or name != name.strip():
                raise BadAnswerError(f"{line[:80]!r} is no header field")
            name, value = name.lower(), value.strip()
            headers.append((name, value))
            if name == b"content-length":
                if not value.isdigit() or length not in (None, int(value)):
                    raise BadAnswerError(f"Content-Length {value[:40]!r} is wrong or differs from an earlier one")
                length = int(value)
            elif name == b"transfer-encoding":
                chunked = value.lower().endswith(b"chunked")
            elif name == b"connection":
                keep_alive = b"close" not in value.lower() and (is_1_1 or b"keep-alive" in value.lower())
        self._chunked = chunked
        self._length = None if chunked else length
        if self._head_only or status in NO_BODY:
            self._chunked, self._length = False, 0
        elif not chunked and length is None:
            keep_alive = False
        self._head = Answer(status, headers, b"", keep_alive)

    def _read_body(self) -> Answer | None:
        if self._chunked:
            return self._read_chunks()
        available = len(self.pending)
        if max(available, self._length or 0) > BODY_BYTES_MAX:
            raise BadAnswerError(f"the body of an answer is longer than {BODY_BYTES_MAX} bytes")
        if self._length is None or available < self._length:
            return None
        return self._complete(bytes(self.pending[: self._length]), self._length)

    def _read_chunks(self) -> Answer | None:
        """Look whether the whole chunked body is there; answers are small, so it is read again from its start."""
        body = bytearray()
        at = 0
        while (line_end := self.pending.find(b"\r\n", at)) >= 0:
            try:
                size = int(bytes(self.pending[at:line_end]).partition(b";")[0], 16)
            except ValueError:
                raise BadAnswerError(f"{bytes(self.pending[at:line_end])[:40]!r} is no chunk size") from None
            at = line_end + 2
            if size == 0:
                return self._read_trailer(bytes(body), at)
            if len(body) + size > BODY_BYTES_MAX:
                raise BadAnswerError(f"the body of an answer is longer than {BODY_BYTES_MAX} bytes")
            if len(self.pending) < at + size + 2:
                return None
            body += self.pending[at : at + size]
            at += size
            if self.pending[at : at + 2] != b"\r\n":
                raise BadAnswerError("a chunk is longer than its size")
            at += 2
        return None

    def _read_trailer(self, body: bytes, at: int) -> Answer | None:
        while (line_end := self.pending.find(b"\r\n", at)) >= 0:
            if line_end == at:
                return self._complete(body, at + 2)
            at = line_end + 2
        return None

    def _complete(self, body: bytes, taken: int) -> Answer:
        assert self._head is not None, "a body is read after its head"
        answer = self._head._replace(body=body)
        del self.pending[:taken]
        self._head = None
        return answer
