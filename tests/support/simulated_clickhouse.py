"""ClickHouse in memory, as far as the worker's guarantee depends on it; fills `clickhouse_store.Client`.

It behaves as the real one was measured to (FACTS):
- An insert is one block per table partition (month), each there or not; several are not atomic together, and the view's
  target is filled after the table. A kill between leaves the insert half-done; a killed client's insert may land later.
- A block's token is written down before its rows are in place: a kill between leaves it without rows (`Block.tear`).
- A block whose token is in its table's window adds nothing, whatever its rows are. The window is the table's, all log
  partitions share it, and it forgets the oldest. The view's target has a window of its own.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec

from consumers import clickhouse_store as sql
from consumers.rows import Columns
from schemas.errors import FatalError
from schemas.session_membership import event_key

Row = dict[str, Any]
COUNTS = ("inserted", "rejected", "duplicate", "filtered", "resent")
WINDOW = 100_000
SUMS_MODULO = 1 << 64
_PRESENT = re.compile(r"\s*SELECT (\w+) FROM (\w+)\s+WHERE log_partition = \{partition.*batch_last = \{last", re.DOTALL)
_REPLAYED_HEAD = sql._REPLAYED.partition("  AND (replay_of")[0]
_REPLAYED_NAME = re.compile(r"'([0-9a-f]{16}):(\d+)'")
_VISITOR = re.compile(r"\('([^']*)',(\d+)\)")
_SESSION = re.compile(r"\('([^']*)',(\d+),(\d+)\)")
_MONTH_MS = 31 * 86_400_000  # near enough to a calendar month: what counts is that blocks are cut


def rows_of(given: Columns) -> list[Row]:
    """Return what is inserted, row by row."""
    return [dict(zip(given, values, strict=True)) for values in zip(*given.values(), strict=True)]


class Table:
    """Rows and the tokens of the blocks that were inserted last; `window` 0 remembers nothing."""

    def __init__(self, window: int) -> None:
        self.rows: list[Row] = []
        self.blocks = 0
        self._window = window
        self._slots: dict[tuple[str, int], None] = {}

    def add(self, slot: tuple[str, int], rows: list[Row]) -> None:
        """Add a block unless its token is remembered."""
        if slot in self._slots:
            return
        self.rows += rows
        self.blocks += 1
        self._slots[slot] = None
        while len(self._slots) > self._window:
            del self._slots[next(iter(self._slots))]

    def forget(self) -> None:
        """Forget all tokens."""
        self._slots.clear()


class Block(NamedTuple):
    """What an insert adds to a table at once, under its token."""

    table: Table
    slot: tuple[str, int]
    rows: list[Row]

    def __call__(self) -> None:
        """Add it."""
        self.table.add(self.slot, self.rows)

    def tear(self) -> None:
        """Write down its token, and die."""
        self.table.add(self.slot, [])


class SimulatedClickHouse:
    """The tables `events`, `rejected`, `batches`, `batch_rules`, and `session_parts`, which a view fills."""

    def __init__(self, window: int = WINDOW) -> None:
        names = ("events", "rejected", "batches", "session_parts", "batch_rules")
        self.tables = {name: Table(window) for name in names}
        self.parts = 1

    def rows(self, table: str) -> list[Row]:
        """Return a table's rows."""
        return self.tables[table].rows

    def blocks_of(self, table: str, given: Columns, token: str) -> Iterator[Block]:
        """Yield what an insert does, one atomic block after the other."""
        rows = rows_of(given)
        if not rows:
            raise FatalError("an insert without rows")
        if table == "batch_rules":
            yield Block(self.tables[table], (token, 0), rows)
            return
        yield from self._cut(table, rows, "session_start" if table == "session_parts" else "received_at", token)
        if table == "events":
            yield from self._cut("session_parts", _parts(rows), "session_start", token)

    def _cut(self, table: str, rows: list[Row], time: str, token: str) -> Iterator[Block]:
        months: dict[int, list[Row]] = defaultdict(list)
        for row in rows:
            months[row[time] // _MONTH_MS].append(row)
        for month, block in months.items():
            yield Block(self.tables[table], (token, month), block)

    # the client

    def insert(self, table: str, columns: Any, *, token: str, shard: int = 0) -> None:
        """Insert at once and whole."""
        del shard
        for step in self.blocks_of(table, columns, token):
            step()

    def query(self, text: str, parameters: dict[str, Any] | None = None) -> list[tuple[Any, ...]]:
        """Answer the store's own queries, by what they mean."""
        given = parameters or {}
        answers = {
            sql._RESUME: self._resume,
            sql._COUNTED_SESSIONS: self._counted_sessions,
            sql._HELD_SESSIONS: self._held_sessions,
            sql._VIEW: lambda _: [(f"SELECT site FROM events {sql._VIEW_ROWS}",)],
            sql._COUNTED: self._counted,
            sql._RULES: self._rules,
            sql._DATABASE: lambda _: [("simulated",)],
            sql._PARTS.replace("{parts}", sql._PARTS_OF_SERVER): lambda _: [(self.parts,)],
        }
        if text in answers:
            return answers[text](given)
        if text.startswith(_REPLAYED_HEAD):
            return self._replayed(text, given)
        present = _PRESENT.match(text)
        if present is None:
            raise FatalError(f"the simulation does not know this query: {text}")
        return [(row[present[1]],) for row in self.rows(present[2]) if _of_batch(row, given)]

    def read(self, text: str, parameters: dict[str, Any], kind: Any) -> list[Any]:
        """Answer the store's own query for sessions, in rows of a kind."""
        found = self._sessions(text.removeprefix(sql._SESSIONS), parameters)
        return [msgspec.json.decode(msgspec.json.encode(row), type=kind) for row in found]

    def stream(self, text: str, parameters: dict[str, Any], kind: Any) -> Iterator[list[Any]]:
        """Answer as `read` does, a row at a time."""
        for row in self.read(text, parameters, kind):
            yield [row]

    def query_columns(self, text: str) -> dict[str, list[Any]]:
        """Answer the view's own query for some sessions: a row of `session_parts` for each of their events."""
        listed = {(site, int(visitor), int(ident)) for site, visitor, ident in _SESSION.findall(text)}
        rows = [row for row in self.rows("events") if (row["site"], row["visitor_id"], row["session_id"]) in listed]
        parts = [part for row in rows for part in _parts([row])]
        return {name: [part[name] for part in parts] for name in parts[0]} if parts else {}

    def forget(self) -> None:
        """Forget all tokens."""
        for table in self.tables.values():
            table.forget()

    def _counted(self, given: dict[str, Any]) -> list[tuple[Any, ...]]:
        found = [row for row in self.rows("batches") if _of(row, given) and _of_batch(row, given)]
        return [(sum(row[name] for row in found for name in COUNTS),)]

    def _rules(self, given: dict[str, Any]) -> list[tuple[Any, ...]]:
        return [(row["rules"],) for row in self.rows("batch_rules") if row["name"] == given["name"]]

    def _sessions_of_batch(self, given: dict[str, Any]) -> set[int]:
        rows = (row for row in self.rows("events") if row["visitor_id"] and row["log_partition"] == given["partition"])
        return {row["session_id"] for row in rows if given["first"] <= row["log_offset"] <= given["last"]}

    def _counted_sessions(self, given: dict[str, Any]) -> list[tuple[Any, ...]]:
        mine = self._sessions_of_batch(given)
        sums: dict[int, list[int]] = defaultdict(lambda: [0] * len(sql._SUMS))
        for row in self.rows("session_parts"):
            if row["session_id"] in mine:
                here = sums[row["session_id"]]
                here[:] = [(known + row[name]) % SUMS_MODULO for known, name in zip(here, sql._SUMS, strict=True)]
        return [(ident, *here) for ident, here in sums.items()]

    def _held_sessions(self, given: dict[str, Any]) -> list[tuple[Any, ...]]:
        mine = self._sessions_of_batch(given)
        groups: dict[tuple[Any, ...], list[Row]] = defaultdict(list)
        for row in self.rows("events"):
            if row["session_id"] in mine and row["log_partition"] == given["partition"]:
                groups[row["site"], row["visitor_id"], row["session_id"]].append(row)
        return [
            (*key, *(sum(part[name] for part in _parts(rows)) for name in sql._SUMS), 0)
            for key, rows in groups.items()
            if max(row["log_offset"] for row in rows) <= given["last"]
        ]

    def _resume(self, given: dict[str, Any]) -> list[tuple[Any, ...]]:
        spools: dict[int, list[Row]] = defaultdict(list)
        for row in self.rows("batches"):
            if _of(row, given):
                spools[row["spool_id"]].append(row)
        found = []
        for spool, rows in spools.items():
            before = [row for row in rows if row["batch_last"] < given["before"]]
            seq = max((row["seq_max"] for row in before), default=0)
            newest = max((row["received_at"] for row in before if row["inserted"]), default=0)
            found.append((spool, len(before), seq, newest, max(row["batch_last"] for row in rows)))
        return found

    def _events(self, befores: dict[int, int]) -> list[Row]:
        """Return the partitions' events before their offsets."""
        return [row for row in self.rows("events") if row["log_offset"] < befores.get(row["log_partition"], 0)]

    def _replayed(self, text: str, given: dict[str, Any]) -> list[tuple[Any, ...]]:
        names = {(int(spool, 16), int(seq)) for spool, seq in _REPLAYED_NAME.findall(text)}
        texts = {f"{spool:016x}:{seq}" for spool, seq in names}
        return [
            (row["spool_id"], row["spool_seq"], row["replay_of"])
            for row in self._events({given["partition"]: given["before"]})
            if row["replay_of"] in texts or (row["spool_id"], row["spool_seq"]) in names
        ]

    def _sessions(self, condition: str, given: dict[str, Any]) -> list[tuple[Any, ...]]:
        ended_after: dict[int, int] = {}
        if condition == sql._OF_PARTITIONS:
            ended_after = dict(zip(given["partitions"], given["ended_after"], strict=True))
            rows = self._events(dict(zip(given["partitions"], given["befores"], strict=True)))
            rows = [row for row in rows if row["ts"] >= given["since"]]
        else:
            wanted = {(site, int(visitor)) for site, visitor in _VISITOR.findall(condition)}
            rows = self._events({given["partition"]: given["before"]})
            rows = [row for row in rows if (row["site"], row["visitor_id"]) in wanted]
        groups: dict[tuple[Any, ...], list[Row]] = defaultdict(list)
        for row in sorted(rows, key=lambda row: row["log_offset"]):
            if row["visitor_id"]:
                groups[row["log_partition"], row["site"], row["visitor_id"], row["session_id"]].append(row)
        found = [(*key[:3], _session(key[3], group, given["ids"])) for key, group in groups.items()]
        return [row for row in found if row[3][3] >= ended_after.get(row[0], 0)]


def _session(ident: int, rows: list[Row], ids: int) -> tuple[Any, ...]:
    first, latest = rows[0], max(row["ts"] for row in rows) // 60_000
    names = ("utm_source", "utm_medium", "utm_campaign", "utm_term", "utm_content", "click_id", "click_id_type")
    keys = [event_key(row["event_name"], row["event_id"], is_server=row["source"] == "server") for row in rows]
    return (
        ident,
        first["session_start"],
        min(row["ts"] for row in rows),
        max(row["ts"] for row in rows),
        first["log_offset"],
        first["channel"],
        [first[name] for name in names],
        [key for key in keys if key][-ids:],
        sum(row["ts"] // 60_000 == latest and row["source"] != "server" for row in rows),
    )


def _parts(rows: list[Row]) -> list[Row]:
    groups: dict[tuple[Any, ...], list[Row]] = defaultdict(list)
    for row in rows:
        if row["visitor_id"]:
            groups[row["site"], row["visitor_id"], row["session_id"], row["session_start"]].append(row)
    return [
        {
            "site": site,
            "visitor_id": visitor,
            "session_id": ident,
            "session_start": start,
            "events": len(group),
            "engagements": sum(row["event_name"] == "Engagement" for row in group),
            "purchases": sum(row["event_name"] == "Purchase" for row in group),
            "first_ts": min(row["ts"] for row in group),
            "last_ts": max(row["ts"] for row in group),
        }
        for (site, visitor, ident, start), group in groups.items()
    ]


def _of(row: Row, given: dict[str, Any]) -> bool:
    return bool(row["log_partition"] == given["partition"] and row["topic"] == given["topic"])


def _of_batch(row: Row, given: dict[str, Any]) -> bool:
    place = (row["log_partition"], row["batch_first"], row["batch_last"])
    return place == (given["partition"], given["first"], given["last"])
