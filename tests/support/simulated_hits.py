"""Hits for tests: the bytes of a record as the collector writes them, with just the fields that a test is about."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

import msgspec

from consumers.log_reader.port import Record
from schemas.hit import HIT_VERSION

BASE_MS = 1_750_000_000_000  # 2025-06-15
MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
DAY_MS = 24 * HOUR_MS
MONTH_MS = 31 * DAY_MS


def hit(
    seq: int = 0,
    *,
    spool: int = 1,
    visitor: int = 7,
    at: int = BASE_MS,
    params: Mapping[str, Any] | None = None,
    event: Mapping[str, Any] | None = None,
    **fields: Any,
) -> bytes:
    """Return a hit's JSON. `params` become the raw query (on top of `s=shop`), `event` a JSON event (likewise)."""
    hit = {
        "key": f"{visitor:016x}",
        "v": HIT_VERSION,
        "spool_id": f"{spool:016x}",
        "spool_seq": seq,
        "received_at": at,
        "source": "pixel" if event is None else "beacon",
        "visitor_id": f"{visitor:016x}",
    }
    if event is None:
        hit["query"] = urlencode({"s": "shop"} | dict(params or {}))
    else:
        hit["event"] = {"s": "shop"} | dict(event)
    return msgspec.json.encode(hit | fields)


def cookieless(visitor: int, at: int) -> dict[str, str]:
    """Return what a hit of a cookieless visitor says of ids at a time: one of each day, under a log key that stays."""
    day = at // DAY_MS
    return {"key": f"{visitor:016x}"} | {
        name: f"{day_id(visitor, day + away):016x}"
        for name, away in (("visitor_id", 0), ("visitor_before", -1), ("visitor_after", 1))
    }


def day_id(visitor: int, day: int) -> int:
    """Return the id that a cookieless visitor has on a day since 1970."""
    return visitor << 32 | day


def records(values: list[bytes], start: int = 0) -> list[Record]:
    """Return values as records of one partition, from offset `start` on."""
    return [Record(start + place, value[8:24], value) for place, value in enumerate(values)]
