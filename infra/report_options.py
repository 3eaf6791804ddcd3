"""What a report may be asked: options as a person types them, and the ClickHouse parameters they become.

Promise: pure; the clock is passed in. Nothing a person typed becomes SQL text: every option is a bound parameter, and a
column name is one of a fixed list. A wrong option raises ReportError, whose message says what to do next.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, available_timezones

MODELS = ("first", "last", "last-non-direct", "linear", "time-decay", "position")
ALL_MODELS = "all"
CONVERSION_DEFAULT = {"attribution": "Purchase", "matches": ""}
STEPS_MAX = 32
DURATION_MS_MAX = 3660 * 86_400_000  # ten years
TIME_MS_MAX = 10_413_791_999_999  # the last millisecond of 2299, where DateTime64(3) ends

_UNIT_MS = {"s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}
_DURATION = re.compile(r"(\d{1,9})([smhdw])")
_SITE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")  # as the worker accepts them
_EVENT_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.]{0,63}")

_SESSION_COLUMNS = (
    *("day", "site", "channel", "utm_source", "utm_medium", "utm_campaign", "utm_term", "utm_content", "click_id_type"),
    *("country", "device", "browser", "os"),
)
# What a session has of its opener, so that all of its events have the same.
_OPENER_COLUMNS = _SESSION_COLUMNS[: _SESSION_COLUMNS.index("country")]
_EVENT_COLUMNS = (
    *_SESSION_COLUMNS,
    *("event_name", "ref_host", "url_host", "url_path", "title", "region", "city", "os_version", "browser_version"),
    *("lang", "source", "ts_source", "currency", "consent", "ab", "bot_reason", "open_by", "open_reason", "user_id"),
)
BREAKDOWNS: Mapping[str, tuple[str, ...]] = {
    "funnel": _EVENT_COLUMNS,
    "attribution": _EVENT_COLUMNS,
    "sessions": _SESSION_COLUMNS,
    "channels": ("channel",),
    "traffic": _EVENT_COLUMNS,
    "matches": _EVENT_COLUMNS,
}
_BREAKDOWN_DEFAULT: Mapping[str, str] = {
    "funnel": "",
    "attribution": "channel",
    "sessions": "channel",
    "channels": "channel",
    "traffic": "day",
    "matches": "event_name",
}


class ReportError(ValueError):
    """A report cannot be made as asked; the message says what to do instead."""


@dataclass(frozen=True)
class ReportOptions:
    """Options of all reports; each report reads those that concern it.

    Durations (`window`, `lookback`) are a number and a unit: s, m, h, d, w. `since` (included) and `until` (excluded)
    are an ISO date or datetime, in `tz` where it has no offset, or a duration back from now; "" is everything. `by`
    is one of BREAKDOWNS of the report; "" is its default. `event` is a conversion's name; "" is Purchase, in matches
    also every name that servers send. `model` is one of MODELS, or "all": each for itself. `currency`
    concerns money, so attribution alone.
    """

    steps: tuple[str, ...] = ()
    window: str = "7d"
    event: str = ""
    model: str = "last-non-direct"
    lookback: str = "30d"
    site: str = ""
    since: str = ""
    until: str = ""
    by: str = ""
    currency: str = ""
    tz: str = "UTC"
    bots: bool = False


def duration_ms(text: str, option: str) -> int:
    """Return a duration such as `30m` or `7d` in milliseconds. Raises ReportError."""
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        raise ReportError(
            f"{option} {text!r} is no duration: write a number and s, m, h, d or w, such as 30m, 12h or 7d"
        )
    value_ms = int(match[1]) * _UNIT_MS[match[2]]
    if value_ms > DURATION_MS_MAX:
        raise ReportError(f"{option} {text!r} is longer than ten years: write a shorter one")
    return value_ms


def instant_ms(text: str, option: str, tz: str, now: datetime) -> int:
    """Return a point in time, in ms since 1970, from an ISO date or datetime or a duration back from `now`.

    A date is its midnight in `tz`, as is a datetime without offset. Raises ReportError.
    """
    text = text.strip()
    if _DURATION.fullmatch(text):
        return _clamped(_epoch_ms(now) - duration_ms(text, option))
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ReportError(
            f"{option} {text!r} is no time: write a date (2026-01-31), a datetime (2026-01-31T12:00), "
            "or how long ago (7d)"
        ) from None
    return _clamped(_epoch_ms(moment if moment.tzinfo else moment.replace(tzinfo=ZoneInfo(tz))))


def breakdown_column(report: str, options: ReportOptions) -> str:
    """Return the column that the report's rows are cut by; "" for none. Raises ReportError."""
    by = options.by or _BREAKDOWN_DEFAULT[report]
    if by and by not in BREAKDOWNS[report]:
        raise ReportError(f"{report} cannot be broken down by {by!r}: choose one of {', '.join(BREAKDOWNS[report])}")
    return by


def parameters(report: str, options: ReportOptions, now: datetime) -> dict[str, object]:
    """Return the ClickHouse parameters of `schemas/reports/<report>.sql`. Raises ReportError."""
    if options.site and not _SITE.fullmatch(options.site):
        raise ReportError(f"site {options.site!r} is no site id: write one of letters, digits, '.', '_' and '-'")
    if options.tz not in available_timezones():
        raise ReportError(f"tz {options.tz!r} is no time zone: write an IANA name such as UTC or Europe/Berlin")
    since_ms = instant_ms(options.since, "since", options.tz, now) if options.since else 0
    until_ms = instant_ms(options.until, "until", options.tz, now) if options.until else TIME_MS_MAX
    if since_ms >= until_ms:
        raise ReportError(f"since {options.since!r} is not before until {options.until!r}: nothing lies between")
    by = breakdown_column(report, options)
    bound: dict[str, object] = {
        "site": options.site,
        "since_ms": since_ms,
        "until_ms": until_ms,
        "by": by or "site",
        "tz": options.tz,
        "bots": int(options.bots),
    }
    if report == "funnel":
        steps = list(options.steps)
        _check_steps(steps)
        bound |= {"steps": steps, "window_ms": duration_ms(options.window, "window"), "breakdown": int(bool(by))}
    elif report == "attribution":
        of_session = by in _OPENER_COLUMNS
        bound |= {"by_session": int(of_session), "session_by": by if of_session else "site", **_attribution(options)}
    else:
        bound |= {"by_day": int(by == "day")}
    if report in {"attribution", "matches"}:
        bound |= {"event": _conversion(options.event or CONVERSION_DEFAULT[report])}
    return bound


def _attribution(options: ReportOptions) -> dict[str, object]:
    if options.model not in (*MODELS, ALL_MODELS):
        raise ReportError(f"model {options.model!r} is unknown: choose one of {', '.join(MODELS)}, or {ALL_MODELS}")
    if options.currency and not re.fullmatch(r"[A-Za-z]{3}", options.currency):
        raise ReportError(f"currency {options.currency!r} is no ISO 4217 code: write one such as EUR")
    return {
        "models": list(MODELS) if options.model == ALL_MODELS else [options.model],
        "lookback_ms": duration_ms(options.lookback, "lookback"),
        "currency": options.currency.upper(),
    }


def _conversion(name: str) -> str:
    if name and not _EVENT_NAME.fullmatch(name):
        raise ReportError(f"event {name!r} is no event name: write one such as Purchase or Lead")
    return name


def _check_steps(steps: list[str]) -> None:
    if not steps:
        raise ReportError("a funnel needs steps: name its events in order, such as PageView AddToCart Purchase")
    if len(steps) > STEPS_MAX:
        raise ReportError(f"a funnel has at most {STEPS_MAX} steps, not {len(steps)}: leave some out")
    for step in steps:
        if not _EVENT_NAME.fullmatch(step):
            raise ReportError(f"step {step!r} is no event name: write one such as PageView or Purchase")


def _epoch_ms(moment: datetime) -> int:
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)


def _clamped(value_ms: int) -> int:
    return min(max(value_ms, 0), TIME_MS_MAX)
