"""The worker's tables in ClickHouse: state read whole from `events` and `batches`, batches inserted under one token.

- `load` is for a batch that nobody has begun to insert: every insert carries the batch's token.
- `heal` is for every other one. By the token the engine drops what is there already, also in the view's target, but not
  surely and not for ever; so it is looked which rows are there, and what is missing is inserted under a further token.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from consumers.batch import Batch, Loaded, RejectedRecord, SpoolCount
from consumers.batch_rules import BatchRules
from consumers.rows import Columns, batch_columns, event_columns, rejected_columns
from consumers.session_state import VisitorKey, unpacked
from consumers.store import Place, Resume, SessionRow
from schemas.errors import FatalError, RetryError
from schemas.event import Event
from schemas.hit import name_text
from schemas.session import Session, SessionRule

logger = logging.getLogger(__name__)

VISITORS_PER_QUERY = (
    2_000  # of at most 111 bytes each, with a session's id: below ClickHouse's max_query_size of 256 KiB
)
NAMES_PER_QUERY = 2_000
HEALS_MAX = 5  # what is not there then was not lost by kills, each within some microseconds, but left by its retention
T = TypeVar("T")
R = TypeVar("R")

# Of `batches`, as `events` is large: the newest time is that of a spool with an event in the batch.
_RESUME = """
SELECT
    spool_id,
    countIf(batch_last < {before:UInt64}),
    maxIf(seq_max, batch_last < {before:UInt64}),
    toUnixTimestamp64Milli(maxIf(received_at, inserted > 0 AND batch_last < {before:UInt64})),
    max(batch_last)
FROM batches
WHERE log_partition = {partition:UInt32} AND topic = {topic:String}
GROUP BY spool_id"""

# A row is as store.SessionRow, with the session as schemas.session.Session is in JSON, and its keys as
# schemas.session_membership.event_key writes them.
_SESSIONS = """
SELECT
    log_partition, site, visitor_id,
    (
        session_id,
        toUnixTimestamp64Milli(any(session_start)),
        toUnixTimestamp64Milli(min(ts)) AS first_ms,
        toUnixTimestamp64Milli(max(ts)) AS last_ms,
        min(log_offset),
        any(channel),
        [any(utm_source), any(utm_medium), any(utm_campaign), any(utm_term), any(utm_content), any(click_id),
         any(click_id_type)],
        arraySlice(
            arraySort(
                (key, offset) -> offset,
                groupArrayIf(
                    concat(event_name, '\\0', event_id, if(source = 'server', '\\0server', '')), event_id != ''),
                groupArrayIf(log_offset, event_id != '')),
            -{ids:Int64}),
        countEqual(
            groupArrayIf(intDiv(toUnixTimestamp64Milli(ts), 60000), source != 'server'), intDiv(last_ms, 60000))
    )
FROM events
WHERE visitor_id != 0 AND """

# All of several partitions: whoever is not among them has offset 0, before which there is nothing.
_OF_PARTITIONS = """ts >= fromUnixTimestamp64Milli({since:Int64})
  AND log_offset < transform(log_partition, {partitions:Array(UInt32)}, {befores:Array(UInt64)}, toUInt64(0))
GROUP BY site, visitor_id, session_id, log_partition
HAVING last_ms >= transform(log_partition, {partitions:Array(UInt32)}, {ended_after:Array(Int64)}, toInt64(0))"""

_OF_VISITORS = """log_partition = {partition:UInt32} AND log_offset < {before:UInt64}
  AND (site, visitor_id) IN ({visitors})
GROUP BY site, visitor_id, session_id, log_partition"""

_COUNTED = """
SELECT sum(inserted + rejected + duplicate + filtered + resent) FROM batches
WHERE topic = {topic:String} AND log_partition = {partition:UInt32}
  AND batch_first = {first:UInt64} AND batch_last = {last:UInt64}"""

# Any table of ours may be the fullest: the view's targets, and `batches`, get a part from each batch as well.
_PARTS = """
SELECT max(parts) FROM
(
    SELECT count() AS parts FROM {parts}
    WHERE active AND database = {database:String} GROUP BY hostName(), table, partition_id
)"""
_PARTS_OF_SERVER = "system.parts"
_PARTS_OF_CLUSTER = "clusterAllReplicas('{cluster}', system.parts)"
_DATABASE = "SELECT currentDatabase()"  # on a cluster's other hosts it is another one's

_RULES = "SELECT rules FROM batch_rules WHERE name = {name:String}"

# A replay is rare, and its hit may be of any time: this reads the partition's ids whole.
_REPLAYED = """
SELECT spool_id, spool_seq, replay_of FROM events
WHERE log_partition = {partition:UInt32} AND log_offset < {before:UInt64}
  AND (replay_of IN ({texts}) OR (spool_id, spool_seq) IN ({names}))"""

_PRESENT = """
SELECT {key} FROM {table}
WHERE log_partition = {{partition:UInt32}} AND batch_first = {{first:UInt64}} AND batch_last = {{last:UInt64}}"""

_OFFSETS = " AND log_offset BETWEEN {first:UInt64} AND {last:UInt64}"  # `events` has an index of them, not of batches
_OF_BATCH = "visitor_id != 0 AND log_partition = {partition:UInt32}" + _OFFSETS

# What `session_parts` counts of the batch's sessions, and what `events` holds of them. A session's rows all lie in one
# log partition. One with a row from behind the batch is another worker's by now, who found it right before it went on.
_COUNTED_SESSIONS = """
SELECT session_id, sum(events), sum(engagements), sum(purchases) FROM session_parts
WHERE (site, session_start) IN (SELECT site, session_start FROM events WHERE {of_batch})
  AND session_id IN (SELECT session_id FROM events WHERE {of_batch})
GROUP BY session_id""".replace("{of_batch}", _OF_BATCH)
_HELD_SESSIONS = """
SELECT
    site, visitor_id, session_id,
    count(), countIf(event_name = 'Engagement'), countIf(event_name = 'Purchase'), any(shardNum())
FROM events
WHERE log_partition = {partition:UInt32}
  AND (site, visitor_id) IN (SELECT site, visitor_id FROM events WHERE {of_batch})
  AND session_id IN (SELECT session_id FROM events WHERE {of_batch})
GROUP BY site, visitor_id, session_id
HAVING max(log_offset) <= {last:UInt64}""".replace("{of_batch}", _OF_BATCH)
_KEY = ("site", "visitor_id", "session_id")
_SUMS = ("events", "engagements", "purchases")
_NOTHING = [0] * len(_SUMS)
_SUMS_MODULO = 1 << 64  # sums of UInt64 wrap, so a number can be taken off them

_VIEW = "SELECT as_select FROM system.tables WHERE database = currentDatabase() AND name = 'session_parts_mv'"
_VIEW_ROWS = "WHERE visitor_id != 0"
_VIEW_READS_LOCAL = "events_local AS events"  # one shard's; infra/cluster_ddl.py


class _Rows(NamedTuple, Generic[R]):
    """Rows of a batch in one table: their `key` column, how to read it of a row, and how rows become columns.

    `also` is what holds of the table's rows, too, and finds them sooner.
    """

    table: str
    key: str
    key_of: Callable[[R], int]
    columns: Callable[[Batch, Sequence[R]], Columns]
    also: str = ""


_EVENTS = _Rows[tuple[int, Event]]("events", "log_offset", lambda row: row[0], event_columns, _OFFSETS)
_REJECTED = _Rows[RejectedRecord]("rejected", "log_offset", lambda row: row.record.offset, rejected_columns)
_COUNTS = _Rows[SpoolCount]("batches", "spool_id", lambda row: row.spool_id, batch_columns)


class Client(Protocol):
    """What the store needs of ClickHouse; `clickhouse_client.ClickHouse` has it."""

    def query(self, sql: str, parameters: dict[str, Any] | None = None) -> list[tuple[Any, ...]]:
        """Return the rows of a query."""
        ...

    def read(self, sql: str, parameters: dict[str, Any], kind: type[T]) -> list[T]:
        """Return the rows of a query as structs or tuples of a kind; the columns are its fields in order."""
        ...

    def stream(self, sql: str, parameters: dict[str, Any], kind: type[T]) -> Iterator[list[T]]:
        """Yield the rows of a query as `read` returns them, some at a time, as they come."""
        ...

    def query_columns(self, sql: str) -> dict[str, Sequence[Any]]:
        """Return the columns of a query by name."""
        ...

    def insert(self, table: str, columns: Columns, *, token: str, shard: int = 0) -> None:
        """Insert columns of equal length as one block under a deduplication token; 0: the shard is by the rows."""
        ...


class ClickHouseStore:
    """Fills the port `consumers.store.Store` over one client.

    `cluster` is the name of the ClickHouse cluster that has the tables, "" on a single server.
    """

    def __init__(self, client: Client, cluster: str = "") -> None:
        self._client = client
        self._kept: set[str] = set()
        self._database = ""
        self.count_parts = _PARTS.replace(
            "{parts}", _PARTS_OF_CLUSTER.format(cluster=cluster) if cluster else _PARTS_OF_SERVER
        )

    def resume(self, topic: str, partition: int, before: int) -> Resume:
        """Return the state that the partition's batches before offset `before` left."""
        place = {"topic": topic, "partition": partition, "before": before}
        rows = self._client.query(_RESUME, place)
        marks = [(int(spool), int(seq)) for spool, batches, seq, _, _ in rows if batches]
        return Resume(
            marks,
            max((int(newest) for _, _, _, newest, _ in rows), default=0),
            max((int(last) for *_, last in rows), default=None),
        )

    def all_sessions(self, places: Sequence[Place]) -> Iterator[SessionRow]:
        """Yield sessions, whole, as partitions' events before their offsets make them, ids as their rules say."""
        for ids in sorted({place.rule.event_ids_max for place in places}):
            group = [place for place in places if place.rule.event_ids_max == ids]
            sinces = [place.ended_after_ms - max(one.length_ms_max for one in place.rule.every()) for place in group]
            asked = {
                "ids": ids,
                "since": max(min(sinces), 0),
                "partitions": [place.partition for place in group],
                "befores": [place.before for place in group],
                "ended_after": [place.ended_after_ms for place in group],
            }
            for rows in self._client.stream(_SESSIONS + _OF_PARTITIONS, asked, SessionRow):
                yield from rows

    def sessions(
        self, partition: int, before: int, rule: SessionRule, visitors: Iterable[VisitorKey]
    ) -> list[tuple[VisitorKey, Session]]:
        """Return all sessions of visitors, as the partition's events before offset `before` make them; ids as above."""
        place = {"partition": partition, "before": before, "ids": rule.event_ids_max}
        wanted = sorted(visitors)
        found = []
        for start in range(0, len(wanted), VISITORS_PER_QUERY):
            # Sites passed validation and ids are numbers, so the list cannot carry SQL.
            listed = ",".join(f"('{site}',{visitor})" for site, visitor in wanted[start : start + VISITORS_PER_QUERY])
            sql = _SESSIONS + _OF_VISITORS.replace("{visitors}", listed)
            rows = self._client.read(sql, place, SessionRow)
            found += [((row.site, row.visitor), unpacked(bytes(row.packed))) for row in rows]
        return found

    def replayed(self, partition: int, before: int, names: AbstractSet[str]) -> set[str]:
        """Return those of `names` under which, or as whose replay, the partition has an event before `before`."""
        place = {"partition": partition, "before": before}
        found: set[str] = set()
        wanted = sorted(names)
        for start in range(0, len(wanted), NAMES_PER_QUERY):
            # Decoding let hex digits and numbers through, nothing that could carry SQL; int() makes sure.
            split = [name.split(":") for name in wanted[start : start + NAMES_PER_QUERY]]
            ids = [(int(spool, 16), int(seq)) for spool, seq in split]
            texts = ",".join(f"'{name_text(*name)}'" for name in ids)
            sql = _REPLAYED.replace("{texts}", texts).replace("{names}", ",".join(map(str, ids)))
            for spool_id, spool_seq, replay_of in self._client.query(sql, place):
                found |= {name_text(int(spool_id), int(spool_seq)), replay_of}
        return found & names

    def keep_rules(self, rules: BatchRules) -> None:
        """Keep rules under their name; known ones are left alone."""
        if rules.name not in self._kept and self.rules(rules.name) is None:
            self._client.insert("batch_rules", {"name": [rules.name], "rules": [rules.text]}, token=rules.name)
        self._kept.add(rules.name)

    def rules(self, name: str) -> BatchRules | None:
        """Return the rules that were kept under a name, None where there are none that this release can read."""
        found = self._client.query(_RULES, {"name": name})
        return BatchRules.from_text(found[0][0]) if found else None

    def parts(self) -> int:
        """Return how many active parts the fullest partition of a table has, on the host that has most."""
        self._database = self._database or str(self._client.query(_DATABASE)[0][0])
        return int(self._client.query(self.count_parts, {"database": self._database})[0][0])

    def counted(self, batch: Batch) -> int:
        """Return how many of a batch's records `batches` counts: all of them once the whole batch is loaded."""
        return int(self._client.query(_COUNTED, {"topic": batch.topic, **_place(batch)})[0][0])

    def load(self, batch: Batch, loaded: Loaded) -> None:
        """Insert events, rejected, then batches, each under the batch's token."""
        self._insert(_EVENTS, batch, loaded.events, batch.token)
        self._insert(_REJECTED, batch, loaded.rejected, batch.token)
        self._insert(_COUNTS, batch, loaded.counts, batch.token)

    def heal(self, batch: Batch, loaded: Loaded, *, is_remembered: bool) -> None:
        """Insert what is not there of a batch whose insert may have been begun, and make its sessions agree with it."""
        self._complete(_EVENTS, batch, loaded.events, is_remembered=is_remembered)
        self._mend_sessions(batch)
        self._complete(_REJECTED, batch, loaded.rejected, is_remembered=is_remembered)
        self._complete(_COUNTS, batch, loaded.counts, is_remembered=is_remembered)

    def _insert(self, kind: _Rows[R], batch: Batch, rows: Sequence[R], token: str) -> None:
        if rows:
            self._client.insert(kind.table, kind.columns(batch, rows), token=token)

    def _complete(self, kind: _Rows[R], batch: Batch, rows: Sequence[R], *, is_remembered: bool) -> None:
        """Insert rows that a table lacks; first under a token that is remembered, so what is under way adds nothing.

        The engine writes a block's token down before the block is in place. A kill between the two leaves a token
        that is known and rows that are not there; only looking tells. Two who heal at once look at the same, and so
        insert the same under one token. Such a one may be lost, too: then the next is taken.
        """
        if not rows:
            return
        if is_remembered:
            self._insert(kind, batch, rows, batch.token)
        for attempt in range(HEALS_MAX):
            present = set(self._present(kind, batch))
            missing = [row for row in rows if kind.key_of(row) not in present]
            if not missing:
                return
            self._insert(kind, batch, missing, f"{batch.token}:healed-{attempt}")
        logger.warning("%d rows of %s left %s at once; by its retention?", len(missing), batch.token, kind.table)

    def _present(self, kind: _Rows[R], batch: Batch) -> Iterator[int]:
        sql = _PRESENT.format(key=kind.key, table=kind.table) + kind.also
        return (int(row[0]) for row in self._client.query(sql, _place(batch)))

    def _mend_sessions(self, batch: Batch) -> None:
        """Insert into `session_parts` by what the batch's sessions count otherwise than `events`; tokens as above.

        It is asked first: what a later batch of another worker adds there is in `events` by then, and seen.
        """
        for attempt in range(HEALS_MAX):
            counted = {ident: sums for ident, *sums in self._client.query(_COUNTED_SESSIONS, _place(batch))}
            held = self._client.query(_HELD_SESSIONS, _place(batch))
            wrong = {
                (site, visitor, ident): [(rows - known) % _SUMS_MODULO for rows, known in zip(sums, here, strict=True)]
                for site, visitor, ident, *sums, _ in held
                if (here := counted.get(ident, _NOTHING)) != sums
            }
            if not wrong:
                return
            columns = self._session_columns(wrong)
            self._client.insert(
                "session_parts", columns, token=f"{batch.token}:sessions-{attempt}", shard=int(held[0][-1])
            )
        logger.warning("%d sessions of %s lose events while they are counted; by retention?", len(wrong), batch.token)

    def _session_columns(self, sums: Mapping[tuple[str, int, int], Sequence[int]]) -> dict[str, list[Any]]:
        """Return what the view makes of all events of sessions, with these sums instead of its own."""
        found = self._client.query(_VIEW)
        if not found:
            raise RetryError("session_parts_mv is not there; is a migration under way?")
        view = str(found[0][0]).replace(_VIEW_READS_LOCAL, "events AS events")
        if view.count(_VIEW_ROWS) != 1:
            raise FatalError(f"session_parts_mv is not as migrations made it: {view}")
        columns: dict[str, list[Any]] = defaultdict(list)
        wanted = sorted(sums)
        for start in range(0, len(wanted), VISITORS_PER_QUERY):
            some = wanted[start : start + VISITORS_PER_QUERY]
            listed = ",".join(f"('{site}',{visitor},{ident})" for site, visitor, ident in some)
            rows = f"{_VIEW_ROWS} AND (site, visitor_id, session_id) IN ({listed})"
            for name, values in self._client.query_columns(view.replace(_VIEW_ROWS, rows)).items():
                columns[name] += values
        left = dict(sums)  # a session's first row takes them, its others none
        taken = [left.pop(key, _NOTHING) for key in zip(*(columns[name] for name in _KEY), strict=True)]
        return {**columns, **{name: [numbers[at] for numbers in taken] for at, name in enumerate(_SUMS)}}


def _place(batch: Batch) -> dict[str, Any]:
    return {"partition": batch.partition, "first": batch.first, "last": batch.last}
