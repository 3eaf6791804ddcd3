"""Reports on small histories whose answer a person can see, and what a wrong option says."""

from __future__ import annotations

import io
import itertools
import json
from datetime import UTC, datetime

import pytest
from rich.console import Console
from support.report_engine import Engine

from infra.report_options import MODELS, instant_ms
from infra.report_render import ROWS_SHOWN_MAX, bar
from infra.reports import REPORTS, ReportError, ReportOptions, columns, render, run

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def engine():
    engine = Engine()
    yield engine
    engine.close()


@pytest.fixture
def event():
    """Return a maker of events in log order; `at` is a time on 1 January 2026."""
    numbers = itertools.count()

    def make(name: str, at: str, visitor_id: int = 1, **columns: object) -> dict[str, object]:
        number = next(numbers)
        return {
            "site": "shop",
            "event_name": name,
            "ts": f"2026-01-01 {at}",
            "received_at": "2026-01-01 00:00:00",
            "session_start": "2026-01-01 00:00:00",
            "visitor_id": visitor_id,
            "session_id": visitor_id,
            "channel": "Direct",
            "source": "pixel",
            "log_offset": number,
            "spool_seq": number,
            **columns,
        }

    return make


def counts(rows):
    return [row["count"] for row in rows]


def test_one_event_never_takes_two_steps(engine, event):
    engine.replace([event("PageView", "10:00:00"), event("PageView", "10:00:00", 2), event("PageView", "10:00:00", 2)])
    assert counts(run("funnel", engine, ReportOptions(steps=("PageView", "PageView")))) == [2, 1]


def test_events_of_one_time_stand_in_log_order(engine, event):
    engine.replace(
        [
            *(event("A", "10:00:00"), event("B", "10:00:00")),
            *(event("B", "10:00:00", 2), event("A", "10:00:00", 2)),
            event("A", "10:00:00", 3, log_partition=1, log_offset=1),
            event("B", "10:00:00", 3, log_partition=0, log_offset=2**40),
        ]
    )
    assert counts(run("funnel", engine, ReportOptions(steps=("A", "B")))) == [3, 1]


def test_a_later_start_may_reach_further_within_the_window(engine, event):
    engine.replace([event("A", "10:00:00"), event("A", "10:00:01"), event("B", "10:00:02"), event("C", "10:00:03")])
    steps = ("A", "B", "C")
    assert counts(run("funnel", engine, ReportOptions(steps=steps, window="2s"))) == [1, 1, 1]
    assert counts(run("funnel", engine, ReportOptions(steps=steps, window="1s"))) == [1, 1, 0]
    assert counts(run("funnel", engine, ReportOptions(steps=steps, window="0s"))) == [1, 0, 0]


def test_the_breakdown_is_the_earliest_start_that_reaches_furthest(engine, event):
    engine.replace(
        [
            event("A", "09:00:00", device="tv"),  # too early for B
            event("A", "10:00:00", device="mobile"),
            event("A", "10:00:01", device="desktop"),
            event("B", "10:59:59"),
        ]
    )
    rows = run("funnel", engine, ReportOptions(steps=("A", "B"), window="1h", by="device"))
    assert rows == [
        {"device": "mobile", "step": 1, "event": "A", "count": 1, "rate_total": 1.0, "rate_step": 1.0},
        {"device": "mobile", "step": 2, "event": "B", "count": 1, "rate_total": 1.0, "rate_step": 1.0},
    ]


def test_only_the_first_event_must_lie_in_the_range(engine, event):
    engine.replace(
        [event("A", "10:00:00"), event("B", "11:00:00"), event("A", "12:00:00", 2), event("B", "12:00:00", 2)]
    )
    options = ReportOptions(steps=("A", "B"), since="2026-01-01T10:00", until="2026-01-01T11:00Z")
    assert counts(run("funnel", engine, options)) == [1, 1]


def test_a_breakdown_of_more_values_than_a_key_holds(engine, event):
    visitors = range(1, 8_201)
    ways = {visitor: ("A", "B") if visitor % 3 else ("B", "A") for visitor in visitors}
    engine.replace(
        event(name, "10:00:00", visitor, user_id=f"u{visitor}") for visitor in visitors for name in ways[visitor]
    )
    rows = run("funnel", engine, ReportOptions(steps=("A", "B"), by="user_id"))
    assert {(row["user_id"], row["step"]): row["count"] for row in rows} == {
        (f"u{visitor}", step): int(step == 1 or ways[visitor] == ("A", "B")) for visitor in visitors for step in (1, 2)
    }


def test_a_visitor_with_a_bots_session_counts_by_the_others(engine, event):
    engine.replace(
        [
            *(event("A", "10:00:00", is_bot=1, session_id=7), event("B", "10:01:00", session_id=8)),
            *(event("A", "10:02:00", channel="Email", session_id=9), event("B", "10:03:00", session_id=9)),
            *(event("A", "10:00:00", 2), event("B", "10:00:00", 2, is_bot=1)),
            event("A", "10:00:00", 2, site="other"),
        ]
    )
    rows = run("funnel", engine, ReportOptions(steps=("A", "B"), by="channel"))
    assert [(row["channel"], row["count"]) for row in rows] == [
        ("Direct", 1),
        ("Direct", 0),
        ("Email", 1),
        ("Email", 1),
    ]


@pytest.mark.parametrize("behind", [1, 2])
def test_a_servers_first_event_that_arrives_meanwhile_is_not_counted_twice(engine, event, behind):
    """It is there once that many statements are answered: the question before the report, or the report as well."""
    browsers = event("Purchase", "10:00:00", event_id="x", source="pixel")
    servers = event("Purchase", "10:00:01", event_id="x", source="server")

    class Meanwhile:
        asked = 0

        def query_text(self, *statement):
            answer = engine.query_text(*statement)
            self.asked += 1
            if self.asked == behind:
                engine.replace([browsers, servers])
            return answer

    engine.replace([browsers])
    meanwhile = Meanwhile()
    rows = run("traffic", meanwhile, ReportOptions())
    assert meanwhile.asked == 4
    assert [row["events"] for row in rows] == [1]


def test_without_data_a_funnel_has_its_steps_at_zero(engine):
    engine.replace([])
    rows = run("funnel", engine, ReportOptions(steps=("A", "B")))
    assert rows == [
        {"step": 1, "event": "A", "count": 0, "rate_total": 0.0, "rate_step": 0.0},
        {"step": 2, "event": "B", "count": 0, "rate_total": 0.0, "rate_step": 0.0},
    ]
    for name, options in (
        ("funnel", ReportOptions(steps=("A",), by="device")),
        *((name, ReportOptions()) for name in REPORTS[1:]),
    ):
        assert run(name, engine, options) == []


def test_credits_of_the_own_session_even_before_the_lookback(engine, event):
    engine.replace([event("PageView", "10:00:00"), event("Purchase", "13:00:00", value="10", currency="EUR")])
    rows = run("attribution", engine, ReportOptions(lookback="1h"))
    assert rows == [{"channel": "Direct", "conversions": 1.0, "value": 10.0}]


def test_currencies_are_told_apart_only_when_there_are_several(engine, event):
    purchases = [
        event("Purchase", "10:00:00", value="0.1", currency="EUR"),
        event("Purchase", "10:00:01", value="0.2", currency="EUR"),
        event("Purchase", "10:00:02", value="5", currency="USD"),
    ]
    engine.replace(purchases)
    assert run("attribution", engine, ReportOptions()) == [
        {"channel": "Direct", "currency": "EUR", "conversions": 2.0, "value": 0.3},
        {"channel": "Direct", "currency": "USD", "conversions": 1.0, "value": 5.0},
    ]
    assert run("attribution", engine, ReportOptions(currency="usd")) == [
        {"channel": "Direct", "conversions": 1.0, "value": 5.0}
    ]


def test_all_models_are_what_each_says_alone(engine, event):
    channels = enumerate(("Email", "Direct", "Paid Search", "Email", "Direct"))
    visits = [event("PageView", f"0{n}:00:00", session_id=n, channel=channel) for n, channel in channels]
    engine.replace([*visits, event("Purchase", "09:00:00", session_id=9, value="10", currency="EUR")])
    rows = run("attribution", engine, ReportOptions(model="all"))
    assert columns("attribution", ReportOptions(model="all")) == ("model", "channel", "conversions", "value")
    alone = {model: run("attribution", engine, ReportOptions(model=model)) for model in MODELS}
    assert rows == [{"model": model, **row} for model, found in alone.items() for row in found]
    assert [len(found) for found in alone.values()] == [1, 1, 1, 3, 3, 3]


def test_an_order_before_since_does_not_convert_again(engine, event):
    engine.replace([event("Purchase", "10:00:00", order_id="7"), event("Purchase", "12:00:00", 2, order_id="7")])
    assert run("attribution", engine, ReportOptions(since="2026-01-01T11:00")) == []


@pytest.mark.parametrize(
    ("hours", "source", "counted"),
    [(48, "pixel", 1), (48, "server", 1), (-48, "email", 1), (0, "click", 1), (49, "pixel", 2), (-49, "server", 2)],
)
def test_browser_and_server_event_of_one_id_count_once(engine, event, hours, source, counted):
    other = {"event_id": "x", "source": source, "spool_seq": 0}
    day = 1 + (10 * 24 + 12 + hours) // 24
    ts = f"2026-01-{day:02} {(12 + hours) % 24:02}:00:00"
    engine.replace(
        [
            event("Purchase", "", event_id="x", source="server", ts="2026-01-11 12:00:00"),
            event("Purchase", "", **other, ts=ts),
        ]
    )
    totals = run("traffic", engine, ReportOptions(by="site"))
    assert totals[0]["events"] == counted


def test_browser_events_of_one_id_all_count(engine, event):
    engine.replace([event("Purchase", "10:00:00", event_id="x"), event("Purchase", "10:00:00", 2, event_id="x")])
    assert run("traffic", engine, ReportOptions(by="site"))[0]["events"] == 2


def test_a_session_of_uncounted_events_alone_is_none(engine, event):
    engine.replace(
        [
            event("Purchase", "10:00:00", event_id="x", source="beacon"),
            event("Purchase", "10:00:00", 2, event_id="x", source="server"),
        ]
    )
    assert run("sessions", engine, ReportOptions())[0]["sessions"] == 1


def test_days_are_the_zones(engine, event):
    engine.replace([event("PageView", "22:59:59.999"), event("PageView", "23:00:00")])
    assert [row["day"] for row in run("traffic", engine, ReportOptions(tz="Europe/Berlin"))] == [
        "2026-01-01",
        "2026-01-02",
    ]
    options = ReportOptions(since="2026-01-02", tz="Europe/Berlin", by="site")
    assert run("traffic", engine, options)[0]["events"] == 1


def test_times_are_dates_datetimes_or_ago():
    def read(text, tz="UTC"):
        return instant_ms(text, "since", tz, NOW)

    assert read("2026-01-31") == read("2026-01-31T00:00Z") == read("12h")
    assert read("2026-01-31", "America/New_York") == read("2026-01-31T05:00Z")
    assert read("2026-01-31T01:00:00.5+01:00") == read("2026-01-31") + 500
    assert read("9999-01-01") < 2**44
    assert read("1969-01-01") == 0


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        ("cohorts", {}, "choose one of funnel, attribution, sessions, channels, traffic, matches"),
        ("traffic", {"site": "shop' OR 1=1 --"}, "no site id"),
        ("funnel", {}, "name its events in order"),
        ("funnel", {"steps": ("A",) * 33}, "at most 32"),
        ("funnel", {"steps": ("A'",)}, "no event name"),
        ("funnel", {"steps": ("A",), "window": "7 days"}, "such as 30m, 12h or 7d"),
        ("funnel", {"steps": ("A",), "window": "9999w"}, "ten years"),
        ("funnel", {"steps": ("A",), "by": "ip"}, "choose one of"),
        ("sessions", {"by": "channel; DROP TABLE events"}, "choose one of"),
        ("attribution", {"model": "markov"}, "choose one of first"),
        ("attribution", {"lookback": ""}, "lookback"),
        ("attribution", {"currency": "EURO"}, "ISO 4217"),
        ("attribution", {"event": "1x"}, "event name"),
        ("traffic", {"since": "yesterday"}, "write a date"),
        ("traffic", {"since": "7d", "until": "8d"}, "not before"),
        ("traffic", {"tz": "Berlin"}, "Europe/Berlin"),
    ],
)
def test_wrong_options_say_what_to_do(engine, name, options, says):
    with pytest.raises(ReportError, match=says):
        run(name, engine, ReportOptions(**options), now=NOW)


def printed(rows, fmt, columns=(), width=100):
    console = Console(file=io.StringIO(), width=width, color_system=None)
    render(rows, fmt, console, columns)
    return console.file.getvalue()


def test_formats(engine, event):
    engine.replace([event("A", "10:00:00", title="[red]\x1b[31m,x"), event("B", "10:00:01"), event("A", "10:00:00", 2)])
    options = ReportOptions(steps=("A", "B"))
    rows = run("funnel", engine, options)
    assert json.loads(printed(rows, "json")) == rows
    assert list(rows[0]) == ["step", "event", "count", "rate_total", "rate_step"]
    assert printed(rows, "csv").splitlines()[2] == "2,B,1,0.5,0.5"
    assert "50.0%" in printed(rows, "table")
    assert f" {bar(0.5)} " in printed(rows, "table")
    by_title = run("funnel", engine, ReportOptions(steps=("A", "B"), by="title"))
    assert "[red]\N{REPLACEMENT CHARACTER}[31m,x" in printed(by_title, "table")
    assert '"[red]\x1b[31m,x"' in printed(by_title, "csv")
    with pytest.raises(ReportError, match="table, json, csv"):
        printed(rows, "xml")


def test_empty_and_long_results():
    assert printed([], "json") == "[]\n"
    assert printed([], "csv", columns("traffic", ReportOptions())).startswith("day,events,pageviews")
    assert "Widen --since" in printed([], "table")
    long = [{"channel": str(n), "conversions": 1.0, "value": 1.0} for n in range(ROWS_SHOWN_MAX + 7)]
    assert "and 7 more rows" in printed(long, "table")


@pytest.mark.parametrize("name", ["traffic", "matches", "sessions", "funnel", "attribution"])
def test_no_column_is_lost_in_a_terminal_of_80_columns(name):
    options = ReportOptions(steps=("A", "B"), by="channel")
    texts = {"channel": "Mobile Push Notifications", "event": "InitiateCheckout", "currency": "EUR"}
    numbers = dict.fromkeys(columns(name, options), 0.5) | {"events": 1_234_567}
    row = {key: texts.get(key, number) for key, number in numbers.items()}
    lines = printed([row], "table", width=80).splitlines()
    words = " ".join(lines).split()
    assert [word for key in row for word in key.split("_") if word not in words] == []
    assert max(map(len, lines)) <= 80


def test_a_bar_grows_by_eighths():
    assert [bar(fraction, 2) for fraction in (-1, 0, 1 / 16, 0.5, 1, 2)] == ["", "", "▏", "█", "██", "██"]


def test_email_opens_by_who_opened(engine, event):
    engine.replace([
        event("EmailOpen", "10:00:00", 1, source="email", open_by="person", open_reason="browser"),
        event("EmailOpen", "10:00:00", 2, source="email", open_by="proxy", open_reason="gmail"),
        event("EmailOpen", "10:00:00", 3, source="email", open_by="proxy", open_reason="apple"),
        event("EmailOpen", "10:00:00", 4, source="email", open_by="scanner", open_reason="gateway", is_bot=1),
        event("PageView", "10:00:00", 5),
    ])  # fmt: skip

    def events(**options):
        rows = run("traffic", engine, ReportOptions(**options))
        return {row[options["by"]]: row["events"] for row in rows}

    assert events(by="open_by") == {"person": 1, "proxy": 2, "scanner": 0, "": 1}
    assert events(by="open_by", bots=True) == {"person": 1, "proxy": 2, "scanner": 1, "": 1}
    assert events(by="open_reason") == {"browser": 1, "gmail": 1, "apple": 1, "gateway": 0, "": 1}
