"""The worker's tables in ClickHouse: state read whole from `events` and `batches`, batches inserted under one token.

- `load` may be called any number of times: every insert carries the batch's token, so the engine drops repeats, heals
  an insert that a kill cut in half, and does the same for the view's target.
- `heal` looks which rows are there, for a batch so old that its token may be forgotten, and makes the view's target
  agree with them: a kill may have filled one and not the other.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from typing import Any, Protocol, TypeVar

from consumers.batch import Batch, Loaded
from consumers.batch_rules import BatchRules
from consumers.rows import Columns, batch_columns, event_columns, rejected_columns
from consumers.session_state import VisitorKey, unpacked
from consumers.store import Place, Resume, SessionRow
from schemas.errors import FatalError
from schemas.hit import name_text
from schemas.session import Session, SessionRule

VISITORS_PER_QUERY = 2_000  # of at most 90 bytes each: below ClickHouse's max_query_size of 256 KiB
NAMES_PER_QUERY = 2_000
T = TypeVar("T")

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

_OF_BATCH = """
log_partition = {partition:UInt32} AND visitor_id != 0 AND session_id IN (
    SELECT session_id FROM events WHERE log_partition = {partition:UInt32} AND batch_first = {first:UInt64}
       AND batch_last = {last:UInt64} AND visitor_id != 0)"""

# A session's rows all lie in one log partition, and whoever heals owns it, so nothing else changes these sums.
_DIFFERENT = """
SELECT session_id FROM
(
    SELECT session_id, toInt64(count()) AS rows FROM events WHERE {of_batch} GROUP BY session_id
    UNION ALL
    SELECT session_id, -toInt64(sum(events)) AS rows FROM session_parts
    WHERE session_id IN (SELECT session_id FROM events WHERE {of_batch}) GROUP BY session_id
)
GROUP BY session_id HAVING sum(rows) != 0""".replace("{of_batch}", _OF_BATCH)

_VIEW = "SELECT as_select FROM system.tables WHERE database = currentDatabase() AND name = 'session_parts_mv'"
_VIEW_ROWS = "WHERE visitor_id != 0"
_FORGET = "DELETE FROM session_parts WHERE "
_FORGET_ON_CLUSTER = "DELETE FROM session_parts_local ON CLUSTER '{cluster}' WHERE "  # waits for every host
_VIEW_READS_LOCAL = "events_local AS events"  # one shard's; infra/cluster_ddl.py
_COUNT_ANEW = "INSERT INTO session_parts (* EXCEPT (entry, exit))"  # the view fills all others, in their order


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

    def insert(self, table: str, columns: Columns, *, token: str) -> None:
        """Insert columns of equal length as one block under a deduplication token."""
        ...

    def command(self, sql: str) -> None:
        """Run a statement that returns no rows."""
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
        self._forget = _FORGET_ON_CLUSTER.format(cluster=cluster) if cluster else _FORGET

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
        place = {"topic": batch.topic, "partition": batch.partition, "first": batch.first, "last": batch.last}
        return int(self._client.query(_COUNTED, place)[0][0])

    def load(self, batch: Batch, loaded: Loaded) -> None:
        """Insert events, then rejected, then batches, each under the batch's token."""
        self._insert_events(loaded, batch, batch.token)
        self._insert_rest(loaded, batch, batch.token)

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
        token = f"{batch.token}:healed-from-{here}"
        self._insert_events(missing, batch, token)
        self._mend_sessions(batch)
        self._insert_rest(missing, batch, token)

    def _insert_events(self, loaded: Loaded, batch: Batch, token: str) -> None:
        if loaded.events:
            self._client.insert("events", event_columns(batch, loaded.events), token=token)

    def _insert_rest(self, loaded: Loaded, batch: Batch, token: str) -> None:
        if loaded.rejected:
            self._client.insert("rejected", rejected_columns(batch, loaded.rejected), token=token)
        if loaded.counts:
            self._client.insert("batches", batch_columns(batch, loaded.counts), token=token)

    def _mend_sessions(self, batch: Batch) -> None:
        """Make the batch's sessions anew where they count other rows than `events` holds.

        Not atomic: in between they are missing, and what a death leaves here the next attempt finds.
        """
        place = {"partition": batch.partition, "first": batch.first, "last": batch.last}
        different = sorted(int(row[0]) for row in self._client.query(_DIFFERENT, place))
        for start in range(0, len(different), VISITORS_PER_QUERY):
            listed = f"session_id IN ({','.join(map(str, different[start : start + VISITORS_PER_QUERY]))})"
            view = str(self._client.query(_VIEW)[0][0])
            if view.count(_VIEW_ROWS) != 1:
                raise FatalError(f"session_parts_mv is not as migrations made it: {view}")
            select = view.replace(_VIEW_READS_LOCAL, "events AS events")
            select = select.replace(_VIEW_ROWS, f"{_VIEW_ROWS} AND {listed}")
            self._client.command(self._forget + listed)
            # Its block may equal one that was inserted and deleted before, and must not count as its repeat.
            self._client.command(f"{_COUNT_ANEW} {select} SETTINGS insert_deduplicate = 0")

    def _present(self, table: str, key: str, batch: Batch) -> list[int]:
        place = {"partition": batch.partition, "first": batch.first, "last": batch.last}
        return [int(row[0]) for row in self._client.query(_PRESENT.format(key=key, table=table), place)]
