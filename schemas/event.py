"""The event: a hit that passed validation, enriched and in its session; its fields become the columns of `events`.

A class of its own, as compiled its fields are read and written several times as fast as those of msgspec's structs.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Final, NamedTuple

from mypy_extensions import mypyc_attr

ZERO: Final = Decimal(0)
NO_PROPS: Final[dict[str, str]] = {}  # one for all: props are replaced, never changed


class Item(NamedTuple):
    """One item of a cart or order; `price` in major units of the event's currency."""

    sku: str
    name: str
    category: str
    price: Decimal
    qty: int


@mypyc_attr(acyclic=True)  # compiled, it costs the garbage collector nothing
class Event:
    """One event. Times are ms since 1970 UTC, ids 64-bit integers (0: none), empty text: none.

    It is made empty, and the worker's steps fill it in.
    """

    site: str = ""
    event_name: str = ""
    visitor_id: int = 0
    ts: int = 0
    ts_source: str = ""
    received_at: int = 0
    source: str = ""
    spool_id: int = 0
    spool_seq: int = 0
    event_id: str = ""
    user_id: str = ""
    session_id: int = 0
    session_start: int = 0
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
    props: dict[str, str] = NO_PROPS
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
