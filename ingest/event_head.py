"""The fast path of POSTs: recognizes a browser's common POST of events, whole in one read; no other is its business.

Promise: as `pixel_head.py`, which reads the head but for one line: what it accepts, `http_strict.py` reads exactly the
same way. That line is Content-Length, spelled so and as long as what follows the head; it is cut out, because it would
make a block of its own of every length.
"""

from __future__ import annotations

from typing import Final

from ingest.http_strict import HEAD_END, HttpLimits
from ingest.pixel_head import Fields, PixelHeads, cut_line

LENGTH_START: Final = b"\r\nContent-Length: "
LENGTH_DIGITS_MAX: Final = 9


class EventHeads:
    """Recognizes POSTs to the events path."""

    def __init__(self, events_path: str, address_header: str, limits: HttpLimits, *, proxied: bool = False) -> None:
        self._start = b"POST " + events_path.encode()
        self._head_bytes_max = limits.head_bytes_max
        self._body_bytes_max = limits.body_bytes_max
        self._fields = PixelHeads(events_path, address_header, limits, proxied=proxied, method=b"POST").recognize

    def recognize(self, data: bytes) -> tuple[Fields, bytes] | None:
        """Return fields and body of bytes that are exactly one common POST of events, else None."""
        end = data.find(HEAD_END) + len(HEAD_END)
        if not data.startswith(self._start) or not len(HEAD_END) <= end <= self._head_bytes_max:
            return None
        head, length = cut_line(data[:end], LENGTH_START)
        if length is None or not length.isdigit() or len(length) > LENGTH_DIGITS_MAX:
            return None
        body = data[end:]
        if int(length) != len(body) or len(body) > self._body_bytes_max:
            return None
        fields = self._fields(head)
        return None if fields is None else (fields, body)
