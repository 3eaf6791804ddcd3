"""Step 7: what a batch became, as ClickHouse takes it. Pure, but that events are given their place in the log here.

Events, which are many and wide, are lines of JSON: one C call encodes all of them, and the server parses each value by
its column's type. Shapes: DateTime64(3) seconds since 1970 UTC with three decimals; IPv6 text; Decimal text; items
lists in the order sku, name, category, price, qty; Map an object; the rest int, bool or text.

The other tables have a few rows a batch and take columns. Shapes: DateTime64(3) an int of ms since 1970 UTC; String
str or bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address
from typing import Any, Final, NamedTuple

import msgspec

from consumers.batch import Batch, RejectedRecord, SpoolCount
from schemas.event import COLUMNS, Event

Columns = Mapping[str, Sequence[Any]]

NO_ADDRESS: Final = "::"
ADDRESSES_CACHED_MAX = 65_536
_COUNT_FIELDS = SpoolCount.__struct_fields__
_encoder: Final = msgspec.json.Encoder(decimal_format="string")


class JsonRows(NamedTuple):
    """Rows as lines of JSON: each a list of values in the order of `columns`, and maybe more, which no column takes."""

    columns: Sequence[str]
    lines: bytes


Rows = Columns | JsonRows


def event_rows(batch: Batch, events: Sequence[tuple[int, Event]]) -> JsonRows:
    """Return the rows of `events` for (offset, event) pairs; each event's place in the log is written into it."""
    partition, first, last = batch.partition, batch.first, batch.last
    for offset, event in events:
        event.ip = address_text(event.ip)
        event.ts_s = event.ts / 1000
        event.received_s = event.received_at / 1000
        event.session_start_s = event.session_start / 1000
        event.log_partition = partition
        event.log_offset = offset
        event.batch_first = first
        event.batch_last = last
    return JsonRows(COLUMNS, _encoder.encode_lines([event for _, event in events]))


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
