"""The dead letter: every rejected record, with its reason and where it came from, as a record of topic `hits.rejected`.

- A batch's letters are put before its rows are inserted, so before it is acknowledged: none is lost. After a crash they
  may be put again: readers know repeats by the key, the record's name.
- A letter's value is JSON by `schemas/rejected.schema.json`. Raw bytes are `raw` where they are UTF-8, else
  `raw_base64`. What makes a letter too large for a broker's default limit is cut to RAW_BYTES_MAX; `raw_bytes` says how
  many there were, and the table `rejected` has them all.
- Only the event log on Kafka has such a topic; with the local log the table alone keeps rejected records.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import orjson

from consumers.batch import Batch, RejectedRecord
from schemas.hit import name_text

RAW_BYTES_MAX = 512 * 1024
TEXT_BYTES_MAX = 700 * 1024  # as JSON: about what base64 makes of RAW_BYTES_MAX; a record of 1 MiB takes both


class Letter(NamedTuple):
    """One record of `hits.rejected`: the rejected record's name as key, and JSON."""

    key: bytes
    value: bytes


class DeadLetter(Protocol):
    """Where letters go."""

    def put(self, records: Sequence[Letter]) -> None:
        """Return when all of them are kept, in any order. Raises RetryError, and then some may be; FatalError."""
        ...


def letters(batch: Batch, rejected: Sequence[RejectedRecord]) -> list[Letter]:
    """Return the letters of a batch's rejected records."""
    return [_letter(batch, row) for row in rejected]


def record_name(topic: str, partition: int, offset: int, spool_id: int, spool_seq: int) -> str:
    """Return the name of a rejected record: its hit's, or its place in the log where it has none (spool id 0)."""
    return name_text(spool_id, spool_seq) if spool_id else f"{topic}:{partition}:{offset}"


def _letter(batch: Batch, row: RejectedRecord) -> Letter:
    name = record_name(batch.topic, batch.partition, row.record.offset, row.spool_id, row.spool_seq)
    content: dict[str, Any] = {
        "v": 1,
        "name": name,
        "reason": row.rejection.reason.value,
        "detail": row.rejection.detail,
        "received_at": row.received_at or batch.at_ms,
        "topic": batch.topic,
        "partition": batch.partition,
        "offset": row.record.offset,
    }
    if row.site:
        content["site"] = row.site
    if row.spool_id:
        content |= {"spool_id": f"{row.spool_id:016x}", "spool_seq": row.spool_seq}
    raw = row.record.value
    content["raw_bytes"] = len(raw)
    return Letter(name.encode(), _with_raw(content, raw[:RAW_BYTES_MAX]))


def _with_raw(content: dict[str, Any], raw: bytes) -> bytes:
    try:
        text = orjson.dumps(content | {"raw": raw.decode()})
    except UnicodeDecodeError:
        text = b""
    if text and len(text) <= TEXT_BYTES_MAX:
        return text
    return orjson.dumps(content | {"raw_base64": b64encode(raw).decode()})
