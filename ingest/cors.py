"""CORS for the events path: the exact Origin, credentials, `Vary: Origin`. Pure.

Promise: an Origin is echoed only when it has an Origin's form (RFC 6454: `null` or scheme://host[:port]); another one
gets an answer without `Access-Control-Allow-Origin`, which browsers then keep from the page.
"""

from __future__ import annotations

import re

PREFLIGHT_MAX_AGE_S = 7200
VARY = b"Vary: Origin\r\n"

_ORIGIN = re.compile(rb"null|[A-Za-z][A-Za-z0-9+.-]{0,31}://[A-Za-z0-9._~%\-\[\]:]{1,300}").fullmatch
_PREFLIGHT = (
    b"Access-Control-Allow-Methods: POST, OPTIONS\r\n"
    b"Access-Control-Allow-Headers: Content-Type\r\n"
    b"Access-Control-Max-Age: %d\r\n" % PREFLIGHT_MAX_AGE_S
)


def answer_lines(origin: bytes | None) -> bytes:
    """Return the header lines that every answer to a POST carries."""
    if origin is None or not _ORIGIN(origin):
        return VARY
    return b"Access-Control-Allow-Origin: " + origin + b"\r\nAccess-Control-Allow-Credentials: true\r\n" + VARY


def preflight_lines(origin: bytes | None) -> bytes:
    """Return the header lines of the answer to OPTIONS."""
    lines = answer_lines(origin)
    return lines if lines is VARY else lines + _PREFLIGHT
