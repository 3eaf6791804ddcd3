"""Step 7: what a batch became, as columns for ClickHouse. Pure.

Shapes per column type: DateTime64(3) int ms since 1970 UTC; IPv6 16 bytes; Decimal a Decimal; items tuples in the order
sku, name, category, price, qty; Map a dict; the rest int or str.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from ipaddress import IPv6Address, ip_address
from operator import attrgetter
from typing import Any

from consumers.batch import Batch, RejectedRecord, SpoolCount
from schemas.event import Event

Columns = Mapping[str, Sequence[Any]]

NO_ADDRESS = bytes(16)
ADDRESSES_CACHED_MAX = 65_536
_EVENT_FIELDS = tuple(name for name in Event.__struct_fields__ if name != "ip")
_event_values = attrgetter(*_EVENT_FIELDS)
_COUNT_FIELDS = SpoolCount.__struct_fields__


def event_columns(batch: Batch, events: Sequence[tuple[int, Event]]) -> Columns:
    """Return the columns of `events` for (offset, event) pairs; there is at least one."""
    values = zip(*[_event_values(event) for _, event in events], strict=True)
    columns: dict[str, Sequence[Any]] = dict(zip(_EVENT_FIELDS, values, strict=True))
    columns["ip"] = [packed_address(event.ip) for _, event in events]
    columns["log_offset"] = [offset for offset, _ in events]
    return columns | _origin(batch, len(events))


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
def packed_address(text: str) -> bytes:
    """Return an address as the 16 bytes of an IPv6 one, IPv4 mapped; no address, or none at all: zeros."""
    if not text:
        return NO_ADDRESS
    try:
        address = ip_address(text)
    except ValueError:
        return NO_ADDRESS
    return address.packed if isinstance(address, IPv6Address) else b"\0" * 10 + b"\xff\xff" + address.packed


def _origin(batch: Batch, rows: int) -> dict[str, Sequence[Any]]:
    return {
        "log_partition": [batch.partition] * rows,
        "batch_first": [batch.first] * rows,
        "batch_last": [batch.last] * rows,
    }
