"""The hit: what the edge keeps of one event, as self-contained JSON (`hit.schema.json` is its public schema).

Promise: every consumer needs just these bytes. The log key stands at a fixed place, so that the forwarder
partitions without parsing: `payload[KEY_START:KEY_END]` is 16 lower-case hex digits in every hit.
"""

from __future__ import annotations

import re
from typing import Any, Final
from zlib import crc32

import msgspec

HIT_VERSION: Final = 1
PREFIX = b'{"key":"'
KEY_START = len(PREFIX)
KEY_END = KEY_START + 16

HEX_ID = re.compile(r"[0-9a-f]{16}")
NAME = re.compile(r"([0-9a-f]{16}):(0|[1-9][0-9]{0,19})")

SOURCES = ("pixel", "beacon", "server", "click", "email")


class Hit(msgspec.Struct, frozen=True, gc=False):
    """One hit as it stands in the spool, in Kafka and in the dead letter.

    `key` is the log key: the visitor id, a cookieless visitor's bucket, or a random value where there is no visitor.
    `spool_id` (16 hex digits) and `spool_seq` are the hit's name. `received_at` is in ms since 1970 UTC. A pixel hit
    carries the request's raw `query`; a beacon, server or denied hit carries its JSON `event`. `consent` is the verdict
    (`schemas/consent.py`): of a denied hit there is no visitor, and only what names nobody. `ch_*` are the client hints
    Sec-CH-UA*. `visitor_before` and `visitor_after` are what yesterday's and tomorrow's salt make of a cookieless
    visitor, or "". Header values are text: UTF-8 where they are UTF-8, else latin-1. `ip` is what `ip_keep` left of the
    client address, or "". `replay_of` is the name of the rejected hit that this one replays, or "".
    """

    key: str
    v: int
    spool_id: str
    spool_seq: int
    received_at: int
    source: str
    visitor_id: str
    new_visitor: bool = False
    ip: str = ""
    user_agent: str = ""
    referer: str = ""
    accept_language: str = ""
    ch_ua: str = ""
    ch_ua_mobile: str = ""
    ch_ua_platform: str = ""
    ch_ua_platform_version: str = ""
    ch_ua_model: str = ""
    ch_ua_full_version_list: str = ""
    query: str = ""
    event: dict[str, Any] | None = None
    replay_of: str = ""
    consent: str = ""
    visitor_before: str = ""
    visitor_after: str = ""


def partition_of(key: bytes, partitions: int) -> int:
    """Return the log partition of a 16-digit key: crc32(key) mod n, librdkafka's `consistent` partitioner."""
    return crc32(key) % partitions


def name_text(spool_id: int, spool_seq: int) -> str:
    """Return a hit's name as text, as `replay_of` holds it: `<spool id, 16 hex digits>:<seq>`."""
    return f"{spool_id:016x}:{spool_seq}"


def parsed_name(text: str) -> tuple[int, int] | None:
    """Return (spool id, seq) of a name as `name_text` writes it; None for any other text."""
    match = NAME.fullmatch(text)
    if match is None or int(match[2]) >= 1 << 64:
        return None
    return int(match[1], 16), int(match[2])
