"""CONTRACT's session rule in plain Python, written straight from its text, to hold the worker's sessions against.

No cleverness: every session of a visitor is kept and looked at for every row.

CONTRACT: *Session*, per site and visitor, decided in log order. Its span runs from the earliest to the latest `ts` of
its events. An event joins, among the visitor's sessions whose span stretched by 30 min on each side holds `ts` and
would stay below 24 h with it, the one with the latest start not after `ts` (equal starts: the one opened last), else
the one with the earliest start. It opens a new session if there is none, or if it carries `utm_*` or a click id and
that set differs from that session's. Sessions never merge. `session_start`, channel and campaign are the opener's and
are never rewritten. No visitor: no session.

A cookieless visitor has an id for every UTC day: a hit names its day's, the day before's and the day after's. All are
the same visitor; a session is known under the id of the day its opener happened on (of those three, the nearest), and
so are all rows of it (docs/identity.md).

Read so: a session's start is the start of its span, its campaign set the one its opener carried (perhaps none). Of
equal starts all after `ts` the one opened first is taken: the text is silent, and its "earliest" leans that way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

NO_SESSION = -1
UTM_FIELDS = ("utm_source", "utm_medium", "utm_campaign", "utm_term", "utm_content")
CAMPAIGN_FIELDS = (*UTM_FIELDS, "click_id", "click_id_type")
VISITOR_NAMES = ("visitor_id", "visitor_before", "visitor_after")
GAP_MS = 1_800_000
DAY_MS = 86_400_000
LENGTH_MS = 86_400_000
MINUTE_MS = 60_000

Row = Mapping[str, Any]


@dataclass
class Session:
    """One session: the index of the row that opened it, its visitor, its span. `opened_ts` is the opener's `ts`."""

    opener: int
    opened_ts: int
    first_ts: int
    last_ts: int
    campaign: tuple[str, ...]
    visitor_id: int
    rows: int = 1


def sessions(
    rows: Sequence[Row],
    gap_ms: int = GAP_MS,
    length_ms: int = LENGTH_MS,
    of_sites: Mapping[str, tuple[int, int]] = {},
) -> tuple[list[int], list[Session]]:
    """Return for each row the index of its session (NO_SESSION without a visitor), and the sessions as they opened.

    A row has `site`, `visitor_id` (int), `ts` (ms, int), `log_partition`, `log_offset` and the campaign fields *that
    the event itself carried* (absent or '' = not carried; see `carried_campaign`), not the session's, as `events` has.
    A cookieless row has *its hit's* `visitor_id`, `visitor_before` and `visitor_after`, and `received_at` (ms).
    Rows may come in any order; they are processed in log order. `of_sites` are gap and length of sites with their own.
    """
    order = sorted(range(len(rows)), key=lambda i: (rows[i]["log_partition"], rows[i]["log_offset"]))
    session_of_row = [NO_SESSION] * len(rows)
    opened: list[Session] = []
    of_visitor: dict[tuple[str, int], list[int]] = {}
    for i in order:
        row = rows[i]
        if row["visitor_id"] == 0:
            continue
        names = [row[name] for name in VISITOR_NAMES if row.get(name)]
        theirs = sorted(index for name in names for index in of_visitor.get((row["site"], name), ()))
        ts = row["ts"]
        campaign = tuple(row.get(name) or "" for name in CAMPAIGN_FIELDS)
        found = _session_to_join(opened, theirs, ts, *of_sites.get(row["site"], (gap_ms, length_ms)))
        if found is None or (any(campaign) and campaign != opened[found].campaign):
            visitor = _of_its_day(row)
            of_visitor.setdefault((row["site"], visitor), []).append(len(opened))
            session_of_row[i] = len(opened)
            opened.append(Session(i, ts, ts, ts, campaign, visitor))
            continue
        session = opened[found]
        session.first_ts = min(session.first_ts, ts)
        session.last_ts = max(session.last_ts, ts)
        session.rows += 1
        session_of_row[i] = found
    return session_of_row, opened


def _of_its_day(row: Row) -> int:
    if not row.get("visitor_before"):
        return int(row["visitor_id"])
    days = (row["ts"] // DAY_MS, row["received_at"] // DAY_MS)
    name = "visitor_before" if days[0] < days[1] else "visitor_after" if days[0] > days[1] else "visitor_id"
    return int(row[name])


def too_fast(rows: Sequence[Row], session_of_row: Sequence[int], per_minute_max: int) -> set[int]:
    """Return the indexes of rows that come too fast (docs/enrichment.md, "Bots": `rate`).

    Of a session's rows in log order, one is beyond the limit in its latest calendar minute of event time so far. Rows
    that a server sent (`source`) neither count nor are too fast.
    """
    found = set()
    before: dict[int, list[Row]] = {}
    for i in sorted(range(len(rows)), key=lambda i: (rows[i]["log_partition"], rows[i]["log_offset"])):
        if session_of_row[i] == NO_SESSION:
            continue
        theirs = before.setdefault(session_of_row[i], [])
        theirs.append(rows[i])
        minute = rows[i]["ts"] // MINUTE_MS
        here = [row for row in theirs if row["ts"] // MINUTE_MS == minute and row.get("source") != "server"]
        is_latest = minute == max(row["ts"] for row in theirs) // MINUTE_MS
        if is_latest and len(here) > per_minute_max and rows[i].get("source") != "server":
            found.add(i)
    return found


def _session_to_join(opened: list[Session], theirs: list[int], ts: int, gap_ms: int, length_ms: int) -> int | None:
    """Return the session an event of time `ts` belongs to, before its campaign is looked at. `theirs` is as opened."""
    candidates = []
    for index in theirs:
        session = opened[index]
        holds = session.first_ts - gap_ms <= ts <= session.last_ts + gap_ms
        length = max(session.last_ts, ts) - min(session.first_ts, ts)
        if holds and length < length_ms:
            candidates.append(index)
    if not candidates:
        return None
    not_after = [index for index in candidates if opened[index].first_ts <= ts]
    if not_after:
        latest_start = max(opened[index].first_ts for index in not_after)
        return [index for index in not_after if opened[index].first_ts == latest_start][-1]
    earliest_start = min(opened[index].first_ts for index in candidates)
    return next(index for index in candidates if opened[index].first_ts == earliest_start)


def carried_campaign(url_query: str, click_id_types: Sequence[str]) -> dict[str, str]:
    """Return the campaign fields a page URL's query carries: `utm_*` and the first click id in the order given.

    `click_id_types` are the parameter names that count, such as gclid. Of a repeated parameter the first counts.
    """
    values: dict[str, str] = {}
    for name, value in parse_qsl(url_query):
        values.setdefault(name, value)
    carried = {name: values[name] for name in UTM_FIELDS if values.get(name)}
    for name in click_id_types:
        if values.get(name):
            return {**carried, "click_id": values[name], "click_id_type": name}
    return carried
