"""The reports once more, in plain Python, straight from CONTRACT's "Rules of meaning" and without any cleverness.

Rows are dicts of `events` columns; times are integer milliseconds under `ts` and `received_at`. Credits are
fractions, so what they give is exact. Reports read counted events only: all but `counted` take what it returns.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from fractions import Fraction
from itertools import groupby

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS


@dataclass(frozen=True)
class Asked:
    """What the references are asked; times in ms."""

    by: str = "channel"
    site: str = ""
    since: int = 0
    until: int = 10**13
    bots: bool = False
    steps: tuple[str, ...] = ()
    window: int = 7 * DAY_MS
    event: str = "Purchase"
    model: str = "last"
    lookback: int = 30 * DAY_MS
    currency: str = ""


def place(row):
    return (row["ts"], row["log_partition"], row["log_offset"])


def session_key(row):
    return (row["site"], row["visitor_id"], row["session_id"])


def counted(rows):
    """Browser and server event of the same site, name and id within 48 h: the browser's counts, else the lowest."""
    alike = defaultdict(list)
    for row in rows:
        alike[row["site"], row["event_name"], row["event_id"]].append(row)
    return [
        row
        for row in rows
        if not any(_goes_before(other, row) for other in alike[row["site"], row["event_name"], row["event_id"]])
    ]


def _goes_before(other, row):
    if row["source"] != "server" or row["event_id"] == "" or other is row:
        return False
    if abs(other["ts"] - row["ts"]) > 48 * HOUR_MS:
        return False
    if other["source"] != "server":
        return True
    order = ("received_at", "spool_id", "spool_seq")
    return tuple(other[key] for key in order) < tuple(row[key] for key in order)


def _sessions(rows):
    sessions = defaultdict(list)
    for row in sorted(rows, key=place):
        if row["visitor_id"] != 0:
            sessions[session_key(row)].append(row)
    return sessions


def _of_visitors(rows, asked):
    """Counted events of visitors, their bots' sessions aside."""
    rows = [r for r in rows if r["visitor_id"] != 0 and asked.site in ("", r["site"])]
    bots = {key for key, events in _sessions(rows).items() if any(e["is_bot"] for e in events)}
    return [r for r in rows if asked.bots or session_key(r) not in bots]


def funnel(rows, asked):
    """Return {(value, step): visitors}; the value is the earliest first event's of those that reach the largest k."""
    totals = defaultdict(int)
    rows = sorted(_of_visitors(rows, asked), key=lambda r: (r["site"], r["visitor_id"], *place(r)))
    for _, group in groupby(rows, key=lambda r: (r["site"], r["visitor_id"])):
        history = list(group)
        best, value = 0, None
        for i, first in enumerate(history):
            if first["event_name"] == asked.steps[0] and asked.since <= first["ts"] < asked.until:
                reached = 1 + _longest(history[i + 1 :], asked.steps[1:], first["ts"] + asked.window)
                if reached > best:
                    best, value = reached, first.get(asked.by, "")
        for step in range(1, best + 1):
            totals[value, step] += 1
    return dict(totals)


def _longest(events, steps, end):
    """Return how many of `steps` some subsequence of `events` matches by `end`: every choice is tried."""
    if not steps:
        return 0
    found = 0
    for i, event in enumerate(events):
        if event["event_name"] == steps[0] and event["ts"] <= end:
            found = max(found, 1 + _longest(events[i + 1 :], steps[1:], end))
    return found


def attribution(rows, asked):
    """Return {(value of by, currency): [credits, amount]}, exact fractions."""
    rows = _of_visitors(rows, asked)
    visits = defaultdict(list)
    for key, events in _sessions(rows).items():
        visits[key[:2]].append((key, events))
    seen, conversions = set(), []
    for row in sorted(rows, key=place):
        order = (row["site"], row["order_id"])
        if row["event_name"] != asked.event or (row["order_id"] and order in seen):
            continue
        seen.add(order)
        if asked.since <= row["ts"] < asked.until and asked.currency in ("", row["currency"]):
            conversions.append(row)
    totals = defaultdict(lambda: [Fraction(0), Fraction(0)])
    for conversion in conversions:
        touches = []
        for key, events in visits[conversion["site"], conversion["visitor_id"]]:
            in_time = conversion["ts"] - asked.lookback <= events[0]["ts"] <= conversion["ts"]
            if in_time or key == session_key(conversion):
                touches.append(events[0])
        touches.sort(key=place)
        for touch, credit in zip(touches, _credits(touches, conversion["ts"], asked.model), strict=True):
            if credit:
                total = totals[touch[asked.by], conversion["currency"]]
                total[0] += credit
                total[1] += credit * Fraction(conversion["value"])
    return dict(totals)


def _credits(touches, converted, model):
    n = len(touches)
    if model == "first":
        weights = [1] + [0] * (n - 1)
    elif model == "last":
        weights = [0] * (n - 1) + [1]
    elif model == "last-non-direct":
        others = [i for i, touch in enumerate(touches) if touch["channel"] != "Direct"]
        chosen = others[-1] if others else n - 1
        weights = [int(i == chosen) for i in range(n)]
    elif model == "linear":
        weights = [1] * n
    elif model == "time-decay":
        weights = [2.0 ** (-(converted - touch["ts"]) / (7 * DAY_MS)) for touch in touches]
    elif n <= 2:
        weights = [1] * n
    else:
        weights = [Fraction(2, 5), *[Fraction(1, 5) / (n - 2)] * (n - 2), Fraction(2, 5)]
    weights = [Fraction(weight) for weight in weights]
    return [weight / sum(weights) for weight in weights]


def sessions(rows, asked, value_of=None):
    """Return {value: (sessions, visitors, bounces, events, average duration in s)}; text columns are the largest's.

    `value_of` takes a session's events in order.
    """
    groups = defaultdict(list)
    for events in _sessions(_of_visitors(rows, asked)).values():
        if asked.since <= events[0]["ts"] < asked.until:
            groups[value_of(events) if value_of else max(e[asked.by] for e in events)].append(events)
    return {
        value: (
            len(found),
            len({(events[0]["site"], events[0]["visitor_id"]) for events in found}),
            sum(sum(e["event_name"] != "Engagement" for e in events) == 1 for events in found),
            sum(len(events) for events in found),
            sum(events[-1]["ts"] - events[0]["ts"] for events in found) / len(found) / 1000,
        )
        for value, found in groups.items()
    }


def matches(rows, asked, event=""):
    """Return {value of by: (server ids, of them met, browser ids, of them met)}; `rows` are all, counted or not."""
    here = [r for r in rows if asked.site in ("", r["site"])]
    bots = {key for key, events in _sessions(counted(here)).items() if any(e["is_bot"] for e in events)}
    alike = defaultdict(list)
    for row in here:
        if row["event_id"]:
            alike[row["site"], row["event_name"], row["event_id"]].append(row)
    in_range = [r for r in here if r["event_id"] and asked.since <= r["ts"] < asked.until]
    sent = {(r["site"], r["event_name"]) for r in in_range if r["source"] == "server"}
    groups = defaultdict(lambda: (set(), set(), set(), set()))
    for row in in_range:
        named = row["event_name"] == event if event else (row["site"], row["event_name"]) in sent
        of_bot = bool(row["is_bot"]) if row["visitor_id"] == 0 else session_key(row) in bots
        if not (named or (not event and row["event_name"] == "Purchase")) or (of_bot and not asked.bots):
            continue
        key = (row["site"], row["event_name"], row["event_id"])
        of_server = row["source"] == "server"
        others = [other for other in alike[key] if of_server != (other["source"] == "server")]
        ids, met = groups[row[asked.by]][:2] if of_server else groups[row[asked.by]][2:]
        ids.add(key)
        if any(abs(row["ts"] - other["ts"]) <= 48 * HOUR_MS for other in others):
            met.add(key)
    return {value: tuple(map(len, sets)) for value, sets in groups.items()}


def traffic(rows, asked, value_of):
    """Return {value: (events, pageviews, visitors, sessions, no_visitor, bot_events, bot_share)}."""
    all_counted = [r for r in rows if asked.site in ("", r["site"])]
    bots = {key for key, events in _sessions(all_counted).items() if any(e["is_bot"] for e in events)}
    groups = defaultdict(list)
    for row in all_counted:
        if asked.since <= row["ts"] < asked.until:
            of_bot = bool(row["is_bot"]) if row["visitor_id"] == 0 else session_key(row) in bots
            groups[value_of(row)].append((row, of_bot))
    result = {}
    for value, found in groups.items():
        shown = [row for row, of_bot in found if asked.bots or not of_bot]
        known = [row for row in shown if row["visitor_id"] != 0]
        of_bots = sum(of_bot for _, of_bot in found)
        result[value] = (
            len(shown),
            sum(row["event_name"] == "PageView" for row in shown),
            len({(row["site"], row["visitor_id"]) for row in known}),
            len({session_key(row) for row in known}),
            len(shown) - len(known),
            of_bots,
            of_bots / len(found),
        )
    return result
