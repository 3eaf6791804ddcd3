"""Builds hits, byte for byte as `schemas/hit.py` and `schemas/hit.schema.json` describe them. Pure.

- The result is always valid UTF-8 JSON, whatever bytes came in: a value that is UTF-8 is kept as that text, any other
  is read as latin-1, so that no byte is lost.
- `{"key":"` and the 16 digits behind it stand first. Optional members are left out when they are empty.
- A member is a bytes fragment `,"name":value`, so that a header line seen before is encoded once and not per hit.
"""

from __future__ import annotations

from collections.abc import Sequence

import orjson

from schemas.hit import HIT_VERSION, PREFIX

HIT_FIXED_BYTES = 256  # all that is not members or the event is shorter
PLAIN = bytes(byte for byte in range(0x20, 0x7F) if byte not in b'"\\')  # ASCII that JSON writes as it is


def text_member(name: bytes, value: bytes) -> bytes:
    """Return the fragment of a text member; b"" for an empty value."""
    if not value:
        return b""
    if not value.translate(None, PLAIN):
        return b',"%b":"%b"' % (name, value)
    try:
        text = value.decode()
    except UnicodeDecodeError:
        text = value.decode("latin-1")
    return b',"%b":%b' % (name, orjson.dumps(text))


class HitBuilder:
    """Builds the hits of one spool; `at` sets the time of those that follow."""

    def __init__(self, spool_id: str) -> None:
        self._name = b'","v":%d,"spool_id":"%b","spool_seq":' % (HIT_VERSION, spool_id.encode())
        self.at(0)

    def at(self, now_ms: int) -> None:
        """Set `received_at`, in ms since 1970."""
        self._pixel = b',"received_at":%d,"source":"pixel","visitor_id":"' % now_ms
        self._beacon = b',"received_at":%d,"source":"beacon","visitor_id":"' % now_ms

    def pixel(self, seq: int, visitor: bytes, new: bool, *members: bytes) -> bytes:  # noqa: FBT001  the hot path
        """Return the hit of a pixel request; `members` are fragments, `new` whether it made the visitor's id."""
        return b"".join(
            (
                PREFIX,
                visitor,
                self._name,
                b"%d" % seq,
                self._pixel,
                visitor,
                b'","new_visitor":true' if new else b'"',
                *members,
                b"}",
            )
        )

    def beacons(self, seq: int, visitor: bytes, members: bytes, events: Sequence[bytes], *, new: bool) -> list[bytes]:
        """Return the hits of a POST's events, each a JSON object's bytes, numbered from `seq`."""
        front = PREFIX + visitor + self._name
        mark = b'","new_visitor":true' if new else b'"'
        back = b"".join((self._beacon, visitor, mark, members, b',"event":'))
        return [b"%b%d%b%b}" % (front, seq + place, back, event) for place, event in enumerate(events)]
