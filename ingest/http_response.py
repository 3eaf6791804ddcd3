"""The answers, built once: bytes ready for the wire, as CONTRACT's table has them.

An answer that says nothing else keeps an HTTP/1.1 connection open. `closing` and `kept_alive` add the Connection line
where the request calls for one. Errors have no body, so that an answer to HEAD needs no second form.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

from ingest.counters import Refusal

GIF: Final = (
    b"GIF89a\x01\x00\x01\x00\x80\x00\x00\x00\x00\x00\xff\xff\xff"
    b"!\xf9\x04\x01\x00\x00\x00\x00,\x00\x00\x00\x00\x01\x00\x01\x00\x00\x02\x02D\x01\x00;"
)

_STATUS_LINES = {status.value: b"HTTP/1.1 %d %b\r\n" % (status, status.phrase.encode()) for status in HTTPStatus}
CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"

STATUS_OF = {
    Refusal.MALFORMED: 400,
    Refusal.TARGET_TOO_LONG: 414,
    Refusal.HEAD_TOO_LARGE: 431,
    Refusal.BODY_TOO_LARGE: 413,
    Refusal.TOO_MANY_EVENTS: 413,
    Refusal.HIT_TOO_LARGE: 413,
    Refusal.BAD_CONTENT_TYPE: 400,
    Refusal.BAD_BODY: 400,
    Refusal.UNAUTHORIZED: 401,
    Refusal.CROSS_ORIGIN: 403,
    Refusal.BAD_LINK: 400,
    Refusal.NOT_FOUND: 404,
    Refusal.METHOD_NOT_ALLOWED: 405,
    Refusal.SLOW_REQUEST: 408,
    Refusal.SPOOL_FULL: 503,
}


def response(status: int, lines: bytes = b"", body: bytes | None = b"") -> bytes:
    """Return an answer; `lines` are whole header lines. `body` None: none, and no length either (204)."""
    head = _STATUS_LINES[status]
    if body is None:
        return head + lines + b"\r\n"
    return head + b"Content-Length: %d\r\n" % len(body) + lines + b"\r\n" + body


def refusal(reason: Refusal, lines: bytes = b"") -> bytes:
    """Return the answer that refuses for `reason`."""
    return response(STATUS_OF[reason], b"Cache-Control: no-store\r\n" + lines)


def closing(answer: bytes) -> bytes:
    """Return the answer with `Connection: close`."""
    return _with_line(answer, b"Connection: close\r\n")


def kept_alive(answer: bytes) -> bytes:
    """Return the answer with `Connection: keep-alive`, as an HTTP/1.0 client that asked for it needs it."""
    return _with_line(answer, b"Connection: keep-alive\r\n")


def _with_line(answer: bytes, line: bytes) -> bytes:
    at = answer.index(b"\r\n") + 2
    return answer[:at] + line + answer[at:]


PIXEL_LINES: Final = (
    b"Content-Type: image/gif\r\n"
    b"Content-Length: %d\r\n"
    b"Cache-Control: no-store\r\n"
    b"Cross-Origin-Resource-Policy: cross-origin\r\n" % len(GIF)
)
PIXEL_START: Final = b"HTTP/1.1 200 OK\r\n" + PIXEL_LINES
PIXEL_END: Final = b"\r\n" + GIF
PIXEL: Final = PIXEL_START + PIXEL_END
PIXEL_HEAD: Final = PIXEL_START + b"\r\n"
assert len(GIF) == 43
