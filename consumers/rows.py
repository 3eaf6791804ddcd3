"""Step 7: what a batch became, as columns of ClickHouse's tables. Pure.

Shapes: DateTime64(3) an int of ms since 1970 UTC; IPv6 text; items tuples in the order sku, name, category, price, qty;
String str or bytes; the rest as in `schemas.event.Event`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address
from typing import Any, Final

from consumers.batch import Batch, RejectedRecord, SpoolCount
from schemas.event import Event

Columns = Mapping[str, Sequence[Any]]

NO_ADDRESS: Final = "::"
ADDRESSES_CACHED_MAX = 65_536
_COUNT_FIELDS: Final[tuple[str, ...]] = (
    "spool_id",
    "seq_min",
    "seq_max",
    "received_at",
    "inserted",
    "rejected",
    "duplicate",
    "filtered",
    "resent",
)


def event_columns(batch: Batch, events: Sequence[tuple[int, Event]]) -> Columns:
    """Return the columns of `events` for (offset, event) pairs, of which there is at least one."""
    rows = [event for _, event in events]
    return {
        "site": [event.site for event in rows],
        "event_name": [event.event_name for event in rows],
        "visitor_id": [event.visitor_id for event in rows],
        "ts_source": [event.ts_source for event in rows],
        "source": [event.source for event in rows],
        "spool_id": [event.spool_id for event in rows],
        "spool_seq": [event.spool_seq for event in rows],
        "event_id": [event.event_id for event in rows],
        "user_id": [event.user_id for event in rows],
        "session_id": [event.session_id for event in rows],
        "channel": [event.channel for event in rows],
        "utm_source": [event.utm_source for event in rows],
        "utm_medium": [event.utm_medium for event in rows],
        "utm_campaign": [event.utm_campaign for event in rows],
        "utm_term": [event.utm_term for event in rows],
        "utm_content": [event.utm_content for event in rows],
        "click_id": [event.click_id for event in rows],
        "click_id_type": [event.click_id_type for event in rows],
        "ref_host": [event.ref_host for event in rows],
        "url_host": [event.url_host for event in rows],
        "url_path": [event.url_path for event in rows],
        "url_query": [event.url_query for event in rows],
        "title": [event.title for event in rows],
        "value": [event.value for event in rows],
        "currency": [event.currency for event in rows],
        "order_id": [event.order_id for event in rows],
        "items": [event.items for event in rows],
        "props": [event.props for event in rows],
        "ab": [event.ab for event in rows],
        "consent": [event.consent for event in rows],
        "country": [event.country for event in rows],
        "region": [event.region for event in rows],
        "city": [event.city for event in rows],
        "os": [event.os for event in rows],
        "os_version": [event.os_version for event in rows],
        "browser": [event.browser for event in rows],
        "browser_version": [event.browser_version for event in rows],
        "device": [event.device for event in rows],
        "is_bot": [event.is_bot for event in rows],
        "bot_reason": [event.bot_reason for event in rows],
        "open_by": [event.open_by for event in rows],
        "open_reason": [event.open_reason for event in rows],
        "lang": [event.lang for event in rows],
        "screen_w": [event.screen_w for event in rows],
        "screen_h": [event.screen_h for event in rows],
        "ip": [address_text(event.ip) for event in rows],
        "replay_of": [event.replay_of for event in rows],
        "ts": [event.ts for event in rows],
        "received_at": [event.received_at for event in rows],
        "session_start": [event.session_start for event in rows],
        "log_offset": [offset for offset, _ in events],
        **_origin(batch, len(rows)),
    }


def rejected_columns(batch: Batch, rejected: Sequence[RejectedRecord]) -> Columns:
    """Return the columns of `rejected`. A record that names no time gets the batch's."""
    return {
        "received_at": [row.received_at or batch.at_ms for row in rejected],
        "reason": [row.rejection.reason.value for row in rejected],
        "detail": [row.rejection.detail for row in rejected],
        "raw": [row.record.value for row in rejected],
        "site": [row.site for row in rejected],
        "spool_id": [row.spool_id for row in rejected],
        "spool_seq": [row.spool_seq for row in rejected],
        "topic": [batch.topic] * len(rejected),
        "log_offset": [row.record.offset for row in rejected],
        **_origin(batch, len(rejected)),
    }


def batch_columns(batch: Batch, counts: Sequence[SpoolCount]) -> Columns:
    """Return the columns of `batches`: one row per spool in the batch."""
    columns: dict[str, Sequence[Any]] = {name: [getattr(row, name) for row in counts] for name in _COUNT_FIELDS}
    columns["received_at"] = [row.received_at or batch.at_ms for row in counts]
    return {"topic": [batch.topic] * len(counts), **columns, **_origin(batch, len(counts))}


def numbered(values: Sequence[str]) -> tuple[list[str], list[int]]:
    """Return the different values, in the order in which they first come, and of each value its number among these."""
    numbers: dict[str, int] = {}
    found: list[int] = []
    last: str | None = None
    number = 0
    for value in tuple(values):
        if value is not last:  # one that comes again is the same object more often than not
            known = numbers.get(value)
            if known is None:
                known = numbers[value] = len(numbers)
            number, last = known, value
        found.append(number)
    return list(numbers), found


@lru_cache(maxsize=ADDRESSES_CACHED_MAX)
def address_text(text: str) -> str:
    """Return an address as IPv6 text, IPv4 mapped; no address, or none at all: "::"."""
    if not text:
        return NO_ADDRESS
    try:
        address = IPv6Address(text) if ":" in text else IPv4Address(text)
    except ValueError:
        return NO_ADDRESS
    v4 = address if isinstance(address, IPv4Address) else address.ipv4_mapped
    return f"::ffff:{v4}" if v4 else str(IPv6Address(int(address)))  # without a zone, which ClickHouse does not know


def _origin(batch: Batch, rows: int) -> dict[str, Sequence[Any]]:
    return {
        "log_partition": [batch.partition] * rows,
        "batch_first": [batch.first] * rows,
        "batch_last": [batch.last] * rows,
    }
