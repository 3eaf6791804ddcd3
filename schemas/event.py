"""The event: a hit that passed validation, enriched and in its session; its fields are the columns of `events`."""

from __future__ import annotations

from decimal import Decimal
from typing import NamedTuple

import msgspec

ZERO = Decimal(0)


class Item(NamedTuple):
    """One item of a cart or order; `price` in major units of the event's currency."""

    sku: str
    name: str
    category: str
    price: Decimal
    qty: int


class Event(msgspec.Struct, gc=False, array_like=True, kw_only=True):
    """One row of `events`. Times are ms since 1970 UTC, ids 64-bit integers (0: none), empty text: none.

    `array_like`: as JSON it is a list of its values in the order of its fields. The first ones are the table's columns
    (`COLUMNS`); of these, `consumers/rows.py` writes in those from `ts_s` on: the times in seconds, as ClickHouse reads
    numbers in JSON, and the event's place in the log and its batch.
    """

    site: str
    event_name: str
    visitor_id: int
    ts_source: str
    source: str
    spool_id: int
    spool_seq: int
    event_id: str = ""
    user_id: str = ""
    session_id: int = 0
    channel: str = ""
    utm_source: str = ""
    utm_medium: str = ""
    utm_campaign: str = ""
    utm_term: str = ""
    utm_content: str = ""
    click_id: str = ""
    click_id_type: str = ""
    ref_host: str = ""
    url_host: str = ""
    url_path: str = ""
    url_query: str = ""
    title: str = ""
    value: Decimal = ZERO
    currency: str = ""
    order_id: str = ""
    items: tuple[Item, ...] = ()
    props: dict[str, str] = {}
    ab: str = ""
    consent: str = ""
    country: str = ""
    region: str = ""
    city: str = ""
    os: str = ""
    os_version: str = ""
    browser: str = ""
    browser_version: str = ""
    device: str = ""
    is_bot: bool = False
    bot_reason: str = ""
    open_by: str = ""
    open_reason: str = ""
    lang: str = ""
    screen_w: int = 0
    screen_h: int = 0
    ip: str = ""
    replay_of: str = ""
    ts_s: float = 0.0
    received_s: float = 0.0
    session_start_s: float = 0.0
    log_partition: int = 0
    log_offset: int = 0
    batch_first: int = 0
    batch_last: int = 0
    ts: int
    received_at: int
    session_start: int = 0


_IN_MS = ("ts", "received_at", "session_start")  # they end an event's list, and no column takes them
_IN_S = {"ts_s": "ts", "received_s": "received_at", "session_start_s": "session_start"}
COLUMNS = tuple(_IN_S.get(name, name) for name in Event.__struct_fields__ if name not in _IN_MS)
