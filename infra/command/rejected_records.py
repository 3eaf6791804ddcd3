"""Rejected records as ClickHouse has them: chosen by filter, read in pages, judged by the worker's own steps."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple, Protocol

from infra.command.errors import UserError
from infra.report_options import TIME_MS_MAX, ReportError, instant_ms
from schemas.hit import name_text, parsed_name
from schemas.rejection import Reason

PAGE_ROWS = 500
NAMES_PER_QUERY = 2_000

_COLUMNS = """
SELECT toUnixTimestamp64Milli(received_at) AS at_ms, toString(reason), detail, toString(site), spool_id, spool_seq,
       toString(topic), log_partition, log_offset, JSONExtractString(raw, 'replay_of'), {raw}
FROM rejected
WHERE """
_ORDER = "received_at, log_partition, log_offset, topic"
_REASONS = "SELECT toString(reason) AS why, count() AS n FROM rejected WHERE {where} GROUP BY why ORDER BY n DESC, why"
_BEHIND = (
    "(toUnixTimestamp64Milli(received_at), log_partition, log_offset, toString(topic)) > "
    "({at_ms:Int64}, {after_partition:UInt32}, {after_offset:UInt64}, {after_topic:String})"
)
_PRESENT = (
    "SELECT spool_id, spool_seq, replay_of FROM events WHERE replay_of IN ({texts}) OR (spool_id, spool_seq) IN ({ids})"
)


class Client(Protocol):
    """What is needed of ClickHouse."""

    def query(self, sql: str, parameters: dict[str, Any] | None = None) -> list[tuple[Any, ...]]:
        """Return the rows of a query."""
        ...


class Wanted(NamedTuple):
    """Which records: a condition in SQL with bound parameters."""

    where: str
    parameters: dict[str, Any]


class Found(NamedTuple):
    """One rejected record. `spool_id` 0: it names no hit. `replay_of`: the hit that it replays already, or ""."""

    received_at_ms: int
    reason: str
    detail: str
    site: str
    spool_id: int
    spool_seq: int
    topic: str
    partition: int
    offset: int
    replay_of: str
    raw: bytes

    @property
    def name(self) -> str:
        """The record's name: its hit's, or its place in the log."""
        if self.spool_id:
            return name_text(self.spool_id, self.spool_seq)
        return f"{self.topic}:{self.partition}:{self.offset}"

    @property
    def root(self) -> str:
        """The name that a replay of it gives in `replay_of`: of a rejected replay, the first hit's."""
        return self.replay_of if parsed_name(self.replay_of) else self.name

    def as_object(self, *, replayed: bool) -> dict[str, Any]:
        """Return the record without its bytes, for tables, JSON and CSV."""
        return {
            "received_at": datetime.fromtimestamp(self.received_at_ms / 1000, UTC).isoformat(timespec="milliseconds"),
            "received_at_ms": self.received_at_ms,
            "reason": self.reason,
            "detail": self.detail,
            "site": self.site,
            "name": self.name,
            "topic": self.topic,
            "partition": self.partition,
            "offset": self.offset,
            "replay_of": self.replay_of,
            "replayed": replayed,
        }


def wanted(
    *, reasons: Sequence[str] = (), names: Sequence[str] = (), site: str = "", since: str = "", until: str = ""
) -> Wanted:
    """Return the condition for these filters, each "" or empty for any. Raises UserError."""
    unknown = [reason for reason in reasons if reason not in set(Reason)]
    if unknown:
        raise UserError(f"--reason {unknown[0]!r} is not known: use {', '.join(Reason)}")
    now = datetime.now(UTC)
    try:
        since_ms = instant_ms(since, "--since", "UTC", now) if since else 0
        until_ms = instant_ms(until, "--until", "UTC", now) if until else TIME_MS_MAX
    except ReportError as error:
        raise UserError(str(error)) from None
    where = [
        "received_at >= fromUnixTimestamp64Milli({since_ms:Int64})",
        "received_at < fromUnixTimestamp64Milli({until_ms:Int64})",
    ]
    parameters: dict[str, Any] = {"since_ms": since_ms, "until_ms": until_ms}
    if site:
        where.append("site = {site:String}")
        parameters["site"] = site
    if reasons:
        where.append("has({reasons:Array(String)}, toString(reason))")
        parameters["reasons"] = list(reasons)
    if names:
        where.append(f"({' OR '.join(_named(name, place, parameters) for place, name in enumerate(names))})")
    return Wanted(" AND ".join(where), parameters)


def _named(name: str, place: int, parameters: dict[str, Any]) -> str:
    ids = parsed_name(name)
    if ids:
        return f"(spool_id = {ids[0]} AND spool_seq = {ids[1]})"
    topic, partition, offset = ["", "", *name.rsplit(":", 2)][-3:]
    if not topic or not all(part.isascii() and part.isdigit() and len(part) <= 19 for part in (partition, offset)):
        raise UserError(
            f"{name!r} is no name of a rejected record: write <spool id>:<number> or <topic>:<partition>:<offset> "
            "as `hitstream rejected list` shows it"
        )
    parameters[f"topic_{place}"] = topic
    return f"(topic = {{topic_{place}:String}} AND log_partition = {int(partition)} AND log_offset = {int(offset)})"


def reasons(client: Client, which: Wanted) -> list[tuple[str, int]]:
    """Return (reason, records) of the wanted records, the most first."""
    sql = _REASONS.format(where=which.where)
    return [(str(why), int(count)) for why, count in client.query(sql, which.parameters)]


def newest(client: Client, which: Wanted, limit: int, *, with_raw: bool = False) -> list[Found]:
    """Return the newest of the wanted records, without their bytes unless asked."""
    order = ", ".join(f"{column} DESC" for column in _ORDER.split(", "))
    sql = f"{_columns(with_raw=with_raw)}{which.where} ORDER BY {order} LIMIT {int(limit)}"
    return [_found(row) for row in client.query(sql, which.parameters)]


def pages(client: Client, which: Wanted) -> Iterator[list[Found]]:
    """Yield the wanted records with their bytes, the oldest first, PAGE_ROWS at a time."""
    where, parameters = which.where, which.parameters
    while True:
        sql = f"{_columns(with_raw=True)}{where} ORDER BY {_ORDER} LIMIT {PAGE_ROWS}"
        page = [_found(row) for row in client.query(sql, parameters)]
        if page:
            yield page
        if len(page) < PAGE_ROWS:
            return
        last = page[-1]
        where = f"{which.where} AND {_BEHIND}"
        after = {"after_partition": last.partition, "after_offset": last.offset, "after_topic": last.topic}
        parameters = which.parameters | {"at_ms": last.received_at_ms} | after


def present(client: Client, found: Sequence[Found]) -> set[str]:
    """Return the roots, of these records, that have a row in `events`, as themselves or as a replay."""
    roots = sorted({record.root for record in found if parsed_name(record.root)})
    rows: set[str] = set()
    for start in range(0, len(roots), NAMES_PER_QUERY):
        part = roots[start : start + NAMES_PER_QUERY]  # hex digits and numbers, so the lists cannot carry SQL
        texts = ",".join(f"'{name}'" for name in part)
        sql = _PRESENT.format(texts=texts, ids=",".join(str(parsed_name(name)) for name in part))
        for spool_id, spool_seq, replay_of in client.query(sql):
            rows |= {name_text(int(spool_id), int(spool_seq)), str(replay_of)}
    return rows.intersection(roots)


def _columns(*, with_raw: bool) -> str:
    return _COLUMNS.replace("{raw}", "base64Encode(raw)" if with_raw else "''")


def _found(row: tuple[Any, ...]) -> Found:
    at_ms, reason, detail, site, spool_id, spool_seq, topic, partition, offset, replay_of, raw = row
    numbers = (int(spool_id), int(spool_seq), topic, int(partition), int(offset))
    return Found(int(at_ms), reason, detail, site, *numbers, replay_of, b64decode(raw))
