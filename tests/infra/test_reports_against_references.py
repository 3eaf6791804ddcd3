"""The reports equal brute force on random histories, made so that every edge of the rules is met often."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from support import report_references as reference
from support.report_engine import Engine
from support.report_references import DAY_MS, HOUR_MS, Asked

from infra.reports import ReportOptions, run

START_MS = 1_767_225_600_000  # 2026-01-01, midnight
STEPS = ("PageView", "ViewContent", "AddToCart", "Purchase")
# Seed, and the sources of events.
WORLDS = (
    (11, ("pixel", "pixel", "beacon", "email", "click", "server", "server")),
    (12, ("pixel", "beacon")),
)
VISITORS = 900
GRID_MS = (0, 0, 1, 60_000, 30 * 60_000, 30 * 60_000 + 1, HOUR_MS, HOUR_MS, HOUR_MS + 1, 2 * HOUR_MS)
SINCE_MS = START_MS + 3 * DAY_MS
UNTIL_MS = START_MS + 6 * DAY_MS


@pytest.fixture(scope="module")
def engine():
    engine = Engine()
    yield engine
    engine.close()


def text(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def stored(row):
    """Return the row as it is inserted: times as text without zone, money as text."""
    times = {key: text(row[key])[:-1].replace("T", " ") for key in ("ts", "received_at", "session_start")}
    return {**row, **times}


def history(rng: random.Random, sources: tuple[str, ...], site: str, visitor_id: int):
    """Return one visitor's events: sessions on whole days (so 24 h, 48 h and 7 d are met exactly), times on a grid."""
    rows = []
    for session in range(rng.choice((1, 1, 2, 3, 5))):
        base = START_MS + rng.randrange(9) * DAY_MS
        of_session = {
            "site": site,
            "visitor_id": visitor_id,
            "session_id": 0 if visitor_id == 0 else session + 1,  # ids repeat between visitors on purpose
            "session_start": base,
            "channel": rng.choice(("Direct", "Direct", "Email", "Paid Search")),
            "utm_source": rng.choice(("", "x", "y")),
        }
        if any(r["session_id"] == of_session["session_id"] for r in rows) and visitor_id:
            continue
        bot = rng.random() < 0.08
        for _ in range(rng.choice((1, 2, 3, 4, 5))):
            ts = base + rng.choice(GRID_MS)
            rows.append(
                of_session
                | {
                    "event_name": rng.choice((*STEPS, "PageView", "Purchase", "Engagement")),
                    "event_id": rng.choice(("", "", "", *(f"i{visitor_id // 40}.{n}" for n in range(5)))),
                    "source": rng.choice(sources),
                    "ts": ts,
                    "received_at": ts + rng.choice((0, 0, 1, HOUR_MS, 2 * DAY_MS)),
                    "order_id": rng.choice(("", "", "o1", "o2", f"o{rng.randrange(100)}")),
                    "value": rng.choice(("0.0001", "1", "9.99", "123456.7891")),
                    "currency": rng.choice(("EUR", "EUR", "USD")),
                    "device": rng.choice(("desktop", "mobile", "tablet")),
                    "is_bot": int(bot and rng.random() < 0.5),
                    "log_partition": rng.randrange(2),
                }
            )
    return rows


def world(seed: int, sources: tuple[str, ...]):
    """Return events of some hundred visitors on two sites, some of visitor 0, in a shuffled log order."""
    rng = random.Random(seed)
    rows = []
    for visitor_id in [0] * 6 + list(range(1, VISITORS)):
        sites = ("a", "b") if visitor_id % 3 == 0 else ("a",)
        for site in sites:
            rows += history(rng, sources, site, visitor_id)
    offsets = rng.sample(range(4 * len(rows)), len(rows))
    for row, offset in zip(rows, offsets, strict=True):
        row["log_offset"] = offset + rng.choice((0, 2**33))
        row["spool_id"] = 2**63 + rng.randrange(3)
        row["spool_seq"] = offset
    print(f"seed {seed}: {len(rows)} rows")
    return rows


@pytest.fixture(scope="module", params=WORLDS, ids=["server events", "browsers alone"])
def rows(request, engine):
    made = world(*request.param)
    engine.replace(stored(row) for row in made)
    return made


@pytest.fixture(scope="module")
def data(rows):
    counted = reference.counted(rows)
    assert (len(counted) < len(rows)) == any(row["source"] == "server" for row in rows)
    return counted


RANGES = [
    {},
    {"since": SINCE_MS, "until": UNTIL_MS},
    {"site": "a", "since": SINCE_MS + HOUR_MS},
    {"site": "b", "bots": True},
    {"bots": True, "until": UNTIL_MS + 30 * 60_000},
]


def options(asked: Asked, **more) -> ReportOptions:
    """Return the same question in the words of a person."""
    return ReportOptions(
        site=asked.site,
        since=text(asked.since) if asked.since else "",
        until=text(asked.until) if asked.until < 10**13 else "",
        by=asked.by,
        bots=asked.bots,
        **more,
    )


FUNNELS = [
    STEPS,
    ("PageView", "Purchase"),
    ("PageView", "PageView"),
    ("PageView", "ViewContent", "PageView", "Purchase"),
    ("Purchase", "PageView", "PageView", "PageView", "Purchase"),
    ("AddToCart",),
]
WINDOWS = {"30m": 30 * 60_000, "1h": HOUR_MS, "2d": 2 * DAY_MS, "0s": 0, "7d": 7 * DAY_MS}


@pytest.mark.parametrize("number", range(len(FUNNELS)), ids=["-".join(steps) for steps in FUNNELS])
def test_funnel(engine, data, number):
    steps = FUNNELS[number]
    for by, shift in (("", 0), ("device", 2)):
        window = list(WINDOWS)[(number + shift) % len(WINDOWS)]
        chosen = RANGES[(number + shift) % len(RANGES)]
        asked = Asked(steps=steps, window=WINDOWS[window], by=by, **chosen)
        rows = run("funnel", engine, options(asked, steps=steps, window=window))
        expected = reference.funnel(data, asked)
        assert expected
        assert {(row.get(by, ""), row["step"]): row["count"] for row in rows if row["count"]} == expected, asked
        assert len(rows) == len({value for value, _ in expected}) * len(steps)
        for row in rows:
            value = row.get(by, "")
            total = expected[value, 1]
            before = expected.get((value, max(row["step"] - 1, 1)), 0)
            assert row["event"] == steps[row["step"] - 1]
            assert row["rate_total"] == row["count"] / total
            assert row["rate_step"] == (row["count"] / before if before else 0.0)


@pytest.mark.parametrize("model", ["first", "last", "last-non-direct", "linear", "time-decay", "position"])
def test_attribution(engine, data, model):
    lookbacks = {"30d": 30 * DAY_MS, "1d": DAY_MS, "1h": HOUR_MS, "0s": 0, "3d": 3 * DAY_MS}
    for number in (len(model) % 5, len(model) % 5 + 2):
        lookback, lookback_ms = list(lookbacks.items())[number % 5]
        asked = Asked(
            model=model,
            lookback=lookback_ms,
            by=("channel", "utm_source", "device")[number % 3],
            currency=("", "", "USD")[number % 3],
            event=("Purchase", "Purchase", "AddToCart")[number % 3],
            **RANGES[(number + len(model)) % len(RANGES)],
        )
        more = {"model": model, "lookback": lookback, "currency": asked.currency.lower(), "event": asked.event}
        rows = run("attribution", engine, options(asked, **more))
        expected = reference.attribution(data, asked)
        single = {currency for _, currency in expected}
        found = {
            (row[asked.by], row["currency"] if "currency" in row else next(iter(single))): (
                row["conversions"],
                row["value"],
            )
            for row in rows
        }
        assert all(("currency" in row) == (len(single) > 1) for row in rows)
        assert found.keys() == expected.keys(), asked
        for key, (credit, amount) in expected.items():
            assert found[key][0] == pytest.approx(float(credit), abs=1e-9), (asked, key)
            assert found[key][1] == pytest.approx(float(amount), rel=1e-12, abs=1e-9), (asked, key)
        conversions = sum(credit for credit, _ in expected.values())
        assert conversions == round(conversions)
        assert sum(row["conversions"] for row in rows) == pytest.approx(float(conversions), abs=1e-9)


@pytest.mark.parametrize(
    ("by", "chosen"), list(zip(["channel", "device", "site", "channel", "utm_source"], RANGES, strict=True))
)
def test_sessions(engine, data, by, chosen):
    asked = Asked(by=by, **chosen)
    rows = run("sessions", engine, options(asked))
    keys = ("sessions", "visitors", "bounces", "events", "duration_s_avg")
    found = {row[by]: tuple(row[key] for key in keys) for row in rows}
    expected = reference.sessions(data, asked)
    assert found.keys() == expected.keys()
    for value in expected:
        assert found[value] == pytest.approx(expected[value], rel=1e-12)


@pytest.mark.parametrize(("by", "chosen"), list(zip(["", "source", "", "channel", ""], RANGES, strict=True)))
def test_traffic(engine, data, by, chosen):
    asked = Asked(by=by, **chosen)
    zone = ZoneInfo("Pacific/Auckland")

    def value_of(row):
        return row[by] if by else datetime.fromtimestamp(row["ts"] / 1000, zone).date().isoformat()

    rows = run("traffic", engine, options(asked, tz="Pacific/Auckland"))
    keys = ("events", "pageviews", "visitors", "sessions", "no_visitor", "bot_events", "bot_share")
    found = {row[by or "day"]: tuple(row[key] for key in keys) for row in rows}
    assert found == reference.traffic(data, asked, value_of)
    if not by:
        assert list(found) == sorted(found)


@pytest.mark.parametrize(
    ("by", "event", "chosen"),
    list(
        zip(
            ["event_name", "channel", "site", "event_name", "device"],
            ["", "", "AddToCart", "", ""],
            RANGES,
            strict=True,
        )
    ),
)
def test_matches(engine, rows, by, event, chosen):
    asked = Asked(by=by, **chosen)
    found = run("matches", engine, options(asked, event=event))
    keys = ("server_events", "server_matched", "browser_events", "browser_matched")
    expected = reference.matches(rows, asked, event)
    assert {row[by]: tuple(row[key] for key in keys) for row in found} == expected
    if any(row["source"] == "server" for row in rows):
        assert any(0 < row["server_rate"] < 1 and 0 < row["browser_rate"] < 1 for row in found)
    for row in found:
        assert row["server_rate"] == (row["server_matched"] / row["server_events"] if row["server_events"] else 0)
        assert row["browser_rate"] == (row["browser_matched"] / row["browser_events"] if row["browser_events"] else 0)
