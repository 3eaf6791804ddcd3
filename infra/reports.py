"""The reports: funnel, attribution, sessions, channels, traffic, matches; each is one SQL file in `schemas/reports/`.

Promise: a file's header is its spec, and this module adds no rule of its own. It reads the SQL, binds the options, and
names the columns as CONTRACT's `report … --format json` does. Money and credits are summed exactly in ClickHouse and
become floats only here.

Uncounted events are all from servers. As long as no server has sent an event with an id, the files' views of counted
rows are the tables themselves, and what stands between `--[ server events` and `--]` is left out: to plan these takes
longer than to run a small report, also where nothing is to be left uncounted.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import resources
from typing import Any, Protocol

import orjson

from infra.report_options import ALL_MODELS, BREAKDOWNS, ReportError, ReportOptions, breakdown_column, parameters
from infra.report_render import FORMATS, render

__all__ = ["FORMATS", "REPORTS", "ReportError", "ReportOptions", "columns", "render", "run"]

REPORTS = tuple(BREAKDOWNS)

_COLUMNS: Mapping[str, tuple[str, ...]] = {
    "funnel": ("step", "event", "count", "rate_total", "rate_step"),
    "attribution": ("conversions", "value"),
    "sessions": ("sessions", "visitors", "bounces", "events", "duration_s_avg"),
    "channels": ("sessions", "bounces", "events", "duration_s_avg"),
    "traffic": ("events", "pageviews", "visitors", "sessions", "no_visitor", "bot_events", "bot_share"),
    "matches": (
        *("server_events", "server_matched", "server_rate"),
        *("browser_events", "browser_matched", "browser_rate"),
    ),
}
_COUNTED = {"counted_events": "events", "counted_sessions": "sessions"}  # the view, and what it is if all rows count
_CONVERSIONS = {"Purchase": "listed_purchases"}  # the view that finds an event's rows sooner, if all rows count
# The index tells at once that there is none; asked range by range while rows are read, it takes three times as long.
_SERVER_EVENTS = """
SELECT 1 FROM events WHERE source = 'server' AND event_id != '' LIMIT 1
SETTINGS use_skip_indexes_on_data_read = 0"""
_OF_SERVER_EVENTS = re.compile(r"(?ms)^ *--\[ server events\n.*?^ *--\]\n")
_FRACTIONAL = ("rate_total", "rate_step", "duration_s_avg", "bot_share", "server_rate", "browser_rate")


class Client(Protocol):
    """What a report needs of ClickHouse: one query, bound on the server, its result as text of a format."""

    def query_text(self, sql: str, fmt: str, parameters: Mapping[str, object]) -> bytes:
        """Return the result of `sql` in the ClickHouse format `fmt`; `{name:Type}` are taken from `parameters`."""


def columns(name: str, options: ReportOptions) -> tuple[str, ...]:
    """Return the keys of a report's rows in order, `currency` aside. Raises ReportError."""
    _check_name(name)
    by = breakdown_column(name, options)
    leading = ("model",) if name == "attribution" and options.model == ALL_MODELS else ()
    leading = ("day",) if name == "channels" else leading
    return leading + ((by,) if by else ()) + _COLUMNS[name]


def run(name: str, client: Client, options: ReportOptions, now: datetime | None = None) -> list[dict[str, Any]]:
    """Return the rows of report `name`, as CONTRACT names their keys; numbers are int or float, the rest text.

    `now` (aware; default: the clock) is what relative times count from. Raises ReportError for a wrong name or option
    and whatever the client raises.
    """
    keys = columns(name, options)
    bound = parameters(name, options, now or datetime.now(UTC))
    found = [orjson.loads(line) for line in _asked(name, client, bound).splitlines() if line]
    if name == "attribution":
        return _attribution(found, keys)
    by = breakdown_column(name, options)
    return [
        {key: float(row[key]) if key in _FRACTIONAL else row["value" if key == by else key] for key in keys}
        for row in found
    ]


def _asked(name: str, client: Client, bound: Mapping[str, object]) -> bytes:
    """Return the report's lines. Where a server's first event arrives meanwhile, it is asked again, with the views."""
    sql = resources.files("schemas").joinpath("reports", f"{name}.sql").read_text(encoding="utf-8")
    if not _has_server_events(client):
        views = {**_COUNTED, "conversion_events": _CONVERSIONS.get(str(bound.get("event")), "events")}
        text = client.query_text(_OF_SERVER_EVENTS.sub("", sql), "JSONEachRow", {**bound, **views})
        if not _has_server_events(client):
            return text
    views = {view: view for view in _COUNTED} | {"conversion_events": "counted_events"}
    return client.query_text(sql, "JSONEachRow", {**bound, **views})


def _has_server_events(client: Client) -> bool:
    return bool(client.query_text(_SERVER_EVENTS, "TSV", {}))


def _attribution(found: list[dict[str, Any]], keys: tuple[str, ...]) -> list[dict[str, Any]]:
    """Name the columns; `currency` stands there only when there is more than one."""
    *leading, by = keys[:-2]
    several = len({row["currency"] for row in found}) > 1
    rows = []
    for row in found:
        named = {key: row[key] for key in leading} | {by: row["value"]}
        if several:
            named["currency"] = row["currency"]
        rows.append(named | {"conversions": float(row["conversions"]), "value": float(row["amount"])})
    return rows


def _check_name(name: str) -> None:
    if name not in REPORTS:
        raise ReportError(f"there is no report {name!r}: choose one of {', '.join(REPORTS)}")
