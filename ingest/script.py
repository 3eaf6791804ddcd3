"""`GET /pixel.js`: the browser snippet (`pixel.js`), with this deployment's paths filled in.

Promise: the same bytes from every collector of a deployment, under an ETag that changes with them; comments and
indentation stay at home.
"""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

from ingest.http_response import response
from ingest.http_strict import Request
from schemas.settings import Settings

MAX_AGE_S = 3600
SOURCE = Path(__file__).with_name("pixel.js")


class Script(NamedTuple):
    """The snippet's path, its answers to GET and HEAD, and the answer to whoever has it already."""

    path: bytes
    etag: bytes
    whole: bytes
    head: bytes
    unchanged: bytes

    def answer(self, request: Request) -> tuple[int, bytes]:
        """Return the status and the answer of a GET or HEAD (RFC 9110, section 13.1.2: weak comparison)."""
        known = request.header(b"if-none-match") or b""
        if known.strip() == b"*" or self.etag in [tag.strip().removeprefix(b"W/") for tag in known.split(b",")]:
            return 304, self.unchanged
        return 200, self.head if request.method == b"HEAD" else self.whole


def script_of(settings: Settings) -> Script:
    """Return the script that these settings serve."""
    lines = (line.strip() for line in SOURCE.read_text().splitlines())
    text = "\n".join(line for line in lines if line and not line.startswith("//")) + "\n"
    for name, path in (
        ("$SCRIPT$", settings.script_path),
        ("$EVENTS$", settings.events_path),
        ("$PIXEL$", settings.pixel_path),
    ):
        text = text.replace(name, path)
    body = text.encode()
    etag = b'"%b"' % sha256(body).hexdigest()[:16].encode()
    kept = b"ETag: %b\r\nCache-Control: public, max-age=%d\r\n" % (etag, MAX_AGE_S)
    lines_of_body = b"Content-Type: text/javascript; charset=utf-8\r\nCross-Origin-Resource-Policy: cross-origin\r\n"
    whole = response(200, lines_of_body + b"X-Content-Type-Options: nosniff\r\n" + kept, body)
    head = whole[: -len(body)]
    return Script(settings.script_path.encode(), etag, whole, head, response(304, kept, None))
