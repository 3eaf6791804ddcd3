"""Builds hits, byte for byte as `schemas/hit.py` and `schemas/hit.schema.json` describe them. Pure.

- The result is always valid UTF-8 JSON, whatever bytes came in: a value that is UTF-8 is kept as that text, any other
  is read as latin-1, so that no byte is lost.
- `{"key":"` and the 16 digits behind it stand first. Optional members are left out when they are empty.
- A member is a bytes fragment `,"name":value`, so that a header line seen before is encoded once and not per hit.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import orjson

from schemas.hit import HIT_VERSION, PREFIX

HIT_FIXED_BYTES: Final = 320  # all that is not members or the event is shorter
NEW: Final = b'","new_visitor":true'  # behind the visitor's id
KNOWN: Final = b'"'
OF_DAYS: Final = b'","visitor_before":"%b","visitor_after":"%b'  # behind a cookieless visitor's id; KNOWN follows
NO_VISITOR: Final = b"0" * 16
# Header fields that many requests share, as lower-case names, and the hit's members made of them.
COMMON_MEMBERS = {
    b"user-agent": b"user_agent",
    b"accept-language": b"accept_language",
    b"sec-ch-ua": b"ch_ua",
    b"sec-ch-ua-mobile": b"ch_ua_mobile",
    b"sec-ch-ua-platform": b"ch_ua_platform",
    b"sec-ch-ua-platform-version": b"ch_ua_platform_version",
    b"sec-ch-ua-model": b"ch_ua_model",
    b"sec-ch-ua-full-version-list": b"ch_ua_full_version_list",
}
PLAIN: Final = bytes(byte for byte in range(0x20, 0x7F) if byte not in b'"\\')  # ASCII that JSON writes as it is


def json_text(value: bytes) -> bytes:
    """Return the inside of the JSON string of a value."""
    if not value.translate(None, PLAIN):
        return value
    try:
        text = value.decode()
    except UnicodeDecodeError:
        text = value.decode("latin-1")
    return orjson.dumps(text)[1:-1]


def text_member(name: bytes, text: bytes) -> bytes:
    """Return the fragment of a text member, from the inside of its JSON string; b"" for an empty one."""
    return b',"%b":"%b"' % (name, text) if text else b""


def common_members(texts: Iterable[bytes | None]) -> bytes:
    """Return the fragment of the fields of COMMON_MEMBERS, from the insides of their JSON strings in that order."""
    return b"".join(text_member(name, text or b"") for name, text in zip(COMMON_MEMBERS.values(), texts, strict=True))


class HitBuilder:
    """Builds the hits of one spool; `at` sets the time of those that follow."""

    def __init__(self, spool_id: str) -> None:
        self._front = b'","v":%d,"spool_id":"%b","spool_seq":' % (HIT_VERSION, spool_id.encode())
        self.at(0)

    def at(self, now_ms: int) -> None:
        """Set `received_at`, in ms since 1970."""
        self._received = b',"received_at":%d,"source":"' % now_ms
        self._pixel = self._received + b'pixel","visitor_id":"'
        self._beacon = self._received + b'beacon","visitor_id":"'

    def pixel(  # noqa: PLR0913, PLR0917  the hot path: the parts of a hit
        self, seq: int, key: bytes, visitor: bytes, mark: bytes, ip: bytes, members: bytes, referer: bytes, query: bytes
    ) -> bytes:
        """Return the hit of a pixel request, under a log key that is the visitor where he has a cookie.

        `mark` is NEW or KNOWN, for whether the request made the visitor's id, with what else stands behind the id; `ip`
        and `members` are fragments, `referer` and `query` insides of JSON strings.
        """
        front = (PREFIX, key, self._front, b"%d" % seq, self._pixel, visitor, mark, ip, members)
        if referer and query:
            return b"".join((*front, b',"referer":"', referer, b'","query":"', query, b'"}'))
        text = text_member(b"referer", referer) + text_member(b"query", query)
        return b"".join((*front, text, b"}"))

    def beacon(self, seq: int, visitor: bytes, mark: bytes, members: bytes, event: bytes) -> bytes:
        """Return the hit of one of a POST's events, a JSON object's bytes."""
        front = (PREFIX, visitor, self._front, b"%d" % seq, self._beacon, visitor)
        return b"".join((*front, mark, members, b',"event":', event, b"}"))

    def event(  # noqa: PLR0913, PLR0917  the parts of a hit
        self, seq: int, source: bytes, key: bytes, visitor: bytes, mark: bytes, members: bytes, event: bytes
    ) -> bytes:
        """Return the hit of one JSON event from `source`, under a log key that need not be the visitor."""
        rest = (b'","visitor_id":"', visitor, mark, members, b',"event":', event, b"}")
        return b"".join((PREFIX, key, self._front, b"%d" % seq, self._received, source, *rest))
