"""The worker's tables in ClickHouse: state read whole from `events` and `batches`, batches inserted under one token.

- `load` may be called any number of times: every insert carries the batch's token, so the engine drops repeats, heals
  an insert that a kill cut in half, and does the same for the view's target.
- `heal` looks which rows are there, for a batch so old that its token may be forgotten.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from consumers.batch import Batch, Loaded
from consumers.rows import Columns, batch_columns, event_columns, rejected_columns
from consumers.session_state import VisitorKey
from consumers.store import Resume
from schemas.session import Session, SessionRule

VISITORS_PER_QUERY = 5_000

_RESUME_MARKS = """
SELECT spool_id, max(seq_max) FROM batches
WHERE log_partition = {partition:UInt32} AND topic = {topic:String} AND batch_last < {before:UInt64}
GROUP BY spool_id"""

_RESUME_END = """
SELECT max(batch_last), count() FROM batches WHERE log_partition = {partition:UInt32} AND topic = {topic:String}"""

_RESUME_NEWEST = """
SELECT toUnixTimestamp64Milli(max(received_at)), count() FROM events
WHERE log_partition = {partition:UInt32} AND log_offset < {before:UInt64}"""

_SESSIONS = """
SELECT
    site, visitor_id, session_id,
    toUnixTimestamp64Milli(any(session_start)),
    toUnixTimestamp64Milli(min(ts)) AS first_ms,
    toUnixTimestamp64Milli(max(ts)) AS last_ms,
    min(log_offset) AS opened_at,
    any(channel),
    [any(utm_source), any(utm_medium), any(utm_campaign), any(utm_term), any(utm_content), any(click_id),
     any(click_id_type)],
    arraySlice(arraySort(groupArrayIf((log_offset, event_name, event_id), event_id != '')), -{ids:Int64})
FROM events
WHERE log_partition = {partition:UInt32} AND log_offset < {before:UInt64} AND visitor_id != 0
  AND """

_ENDED_AFTER = """ts >= fromUnixTimestamp64Milli({since:Int64})
GROUP BY site, visitor_id, session_id
HAVING last_ms >= {ended_after:Int64}
ORDER BY opened_at"""

_OF_VISITORS = """(site, visitor_id) IN ({visitors})
GROUP BY site, visitor_id, session_id
ORDER BY opened_at"""

_PRESENT = """
SELECT {key} FROM {table}
WHERE log_partition = {{partition:UInt32}} AND batch_first = {{first:UInt64}} AND batch_last = {{last:UInt64}}"""


class Client(Protocol):
    """What the store needs of ClickHouse; `clickhouse_client.ClickHouse` has it."""

    def query(self, sql: str, parameters: dict[str, Any] | None = None) -> list[tuple[Any, ...]]:
        """Return the rows of a query."""
        ...

    def insert(self, table: str, columns: Columns, *, token: str) -> None:
        """Insert columns as one block under a deduplication token."""
        ...


class ClickHouseStore:
    """Fills the port `consumers.store.Store` over one client; used by one worker thread."""

    def __init__(self, client: Client, rule: SessionRule) -> None:
        self._client = client
        self._rule = rule

    def resume(self, topic: str, partition: int, before: int) -> Resume:
        """Return the state that the partition's batches before offset `before` left."""
        place = {"topic": topic, "partition": partition, "before": before}
        marks = [(int(spool), int(seq)) for spool, seq in self._client.query(_RESUME_MARKS, place)]
        last, batches = self._client.query(_RESUME_END, place)[0]
        newest, events = self._client.query(_RESUME_NEWEST, place)[0]
        return Resume(marks, int(newest) if events else 0, int(last) if batches else None)

    def sessions(
        self, partition: int, before: int, *, ended_after_ms: int | None = None, visitors: Iterable[VisitorKey] = ()
    ) -> list[tuple[VisitorKey, Session]]:
        """Return sessions, whole, as the partition's events before offset `before` make them."""
        place = {"partition": partition, "before": before, "ids": self._rule.event_ids_max}
        if ended_after_ms is not None:
            since = max(ended_after_ms - self._rule.length_ms_max, 0)
            place |= {"since": since, "ended_after": ended_after_ms}
            return [_session(row) for row in self._client.query(_SESSIONS + _ENDED_AFTER, place)]
        wanted = sorted(visitors)
        found = []
        for start in range(0, len(wanted), VISITORS_PER_QUERY):
            # Sites passed validation and ids are numbers, so the list cannot carry SQL.
            listed = ",".join(f"('{site}',{visitor})" for site, visitor in wanted[start : start + VISITORS_PER_QUERY])
            sql = _SESSIONS + _OF_VISITORS.replace("{visitors}", listed)
            found += [_session(row) for row in self._client.query(sql, place)]
        return found

    def load(self, batch: Batch, loaded: Loaded) -> None:
        """Insert events, then rejected, then batches, each under the batch's token."""
        self._insert(batch, loaded, batch.token)

    def heal(self, batch: Batch, loaded: Loaded) -> None:
        """Insert the rows of an old batch that are not there.

        Under a token of its own, as the batch's may or may not be remembered; each call looks anew.
        """
        events = set(self._present("events", "log_offset", batch))
        rejected = set(self._present("rejected", "log_offset", batch))
        spools = set(self._present("batches", "spool_id", batch))
        missing = Loaded(
            [(offset, event) for offset, event in loaded.events if offset not in events],
            [row for row in loaded.rejected if row.record.offset not in rejected],
            [row for row in loaded.counts if row.spool_id not in spools],
        )
        here = len(events) + len(rejected) + len(spools)
        self._insert(batch, missing, f"{batch.token}:healed-from-{here}")

    def _insert(self, batch: Batch, loaded: Loaded, token: str) -> None:
        if loaded.events:
            self._client.insert("events", event_columns(batch, loaded.events), token=token)
        if loaded.rejected:
            self._client.insert("rejected", rejected_columns(batch, loaded.rejected), token=token)
        if loaded.counts:
            self._client.insert("batches", batch_columns(batch, loaded.counts), token=token)

    def _present(self, table: str, key: str, batch: Batch) -> list[int]:
        place = {"partition": batch.partition, "first": batch.first, "last": batch.last}
        return [int(row[0]) for row in self._client.query(_PRESENT.format(key=key, table=table), place)]


def _session(row: Sequence[Any]) -> tuple[VisitorKey, Session]:
    site, visitor, ident, start, first, last, opened_at, channel, campaign, event_ids = row
    session = Session(
        id=ident,
        start=start,
        first_ts=first,
        last_ts=last,
        opened_at=opened_at,
        channel=channel,
        campaign=tuple(campaign),
        event_ids={(name, event_id): None for _, name, event_id in event_ids} or None,
    )
    return (site, visitor), session
