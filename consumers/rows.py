"""Step 7: what a batch became, as columns of ClickHouse's tables. Pure.

Shapes: DateTime64(3) an int of ms since 1970 UTC; IPv6 text; items tuples in the order sku, name, category, price, qty;
String str or bytes; the rest as in `schemas.event.Event`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
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
# The columns of `events`, in the order of `_rows`.
COLUMNS: Final[tuple[str, ...]] = (
    *("site", "event_name", "visitor_id", "ts_source", "source", "spool_id", "spool_seq", "event_id", "user_id"),
    *("session_id", "channel", "utm_source", "utm_medium", "utm_campaign", "utm_term", "utm_content"),
    *("click_id", "click_id_type", "ref_host", "url_host", "url_path", "url_query", "title"),
    *("value", "currency", "order_id", "items", "props", "ab", "consent", "country", "region", "city"),
    *("os", "os_version", "browser", "browser_version", "device", "is_bot", "bot_reason", "open_by", "open_reason"),
    *("lang", "screen_w", "screen_h", "ip", "replay_of", "ts", "received_at", "session_start"),
    *("log_partition", "log_offset", "batch_first", "batch_last"),
)


def event_columns(batch: Batch, events: Sequence[tuple[int, Event]]) -> Columns:
    """Return the columns of `events` for (offset, event) pairs, of which there is at least one."""
    return dict(zip(COLUMNS, zip(*_rows(batch, events), strict=True), strict=True))


def _rows(batch: Batch, events: Sequence[tuple[int, Event]]) -> Iterator[tuple[object, ...]]:
    partition, first, last = batch.partition, batch.first, batch.last
    for offset, event in events:
        yield (
            event.site, event.event_name, event.visitor_id, event.ts_source, event.source, event.spool_id,
            event.spool_seq, event.event_id, event.user_id, event.session_id, event.channel, event.utm_source,
            event.utm_medium, event.utm_campaign, event.utm_term, event.utm_content, event.click_id,
            event.click_id_type, event.ref_host, event.url_host, event.url_path, event.url_query, event.title,
            event.value, event.currency, event.order_id, event.items, event.props, event.ab, event.consent,
            event.country, event.region, event.city, event.os, event.os_version, event.browser, event.browser_version,
            event.device, event.is_bot, event.bot_reason, event.open_by, event.open_reason, event.lang,
            event.screen_w, event.screen_h, address_text(event.ip), event.replay_of, event.ts,
            event.received_at, event.session_start, partition, offset, first, last,
        )  # fmt: skip


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
