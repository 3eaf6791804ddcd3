"""Sessions counted beforehand equal sessions counted now, whatever happens between two counts."""

from __future__ import annotations

import json
import random
from collections import defaultdict
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from support import report_references as reference
from support.report_engine import Engine
from support.report_references import DAY_MS, HOUR_MS, Asked

from infra.reports import ReportOptions, run

START_MS = 1_767_225_600_000  # 2026-01-01, midnight
CHANNELS = ("Direct", "Email", "Paid Search")
KEYS = ("sessions", "bounces", "events", "duration_s_avg")
COUNTED = "SELECT sum(is_counted) FROM session_units"
UNITS = "SELECT count() FROM session_units"
ASKED = (
    (Asked(), "UTC"),
    (Asked(bots=True, since=START_MS + 5 * HOUR_MS + 7), "Asia/Kathmandu"),
    (Asked(site="a", since=START_MS + 7 * HOUR_MS, until=START_MS + 2 * DAY_MS + 900_001), "UTC"),
    (Asked(site="b", until=START_MS + DAY_MS + 1), "America/St_Johns"),
)


@pytest.fixture(scope="module")
def engine():
    engine = Engine()
    yield engine
    engine.close()


def text(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(sep=" ", timespec="milliseconds")[:23]


class World:
    """Batches of events of few visitors, so that most of them continue sessions that were counted already."""

    def __init__(self, engine: Engine, seed: int, servers: bool) -> None:
        self.engine, self.rng, self.servers = engine, random.Random(seed), servers
        self.rows, self.batches = [], []
        self.sessions = []
        engine.replace([])

    def batch(self) -> None:
        rng, rows = self.rng, []
        for _ in range(rng.randrange(1, 30)):
            if not self.sessions or rng.random() < 0.4:
                self._open()
            session = rng.choice(self.sessions[-25:])
            offset = len(self.rows) + len(rows)
            # A late event may lie on the day before its session's start, and many lie on a quarter's edge.
            ts = session["session_start"] + rng.choice((0, 0, 1, 900_000, 40_000, 29 * 60_000, -1, -20 * 60_000))
            rows.append(
                session
                | {
                    "event_name": rng.choice(("PageView", "Engagement", "Purchase")),
                    "event_id": rng.choice(("", f"i{rng.randrange(9)}")),
                    "source": rng.choice(("pixel", "server")) if self.servers else "pixel",
                    "ts": ts,
                    "received_at": ts,
                    "is_bot": int(rng.random() < 0.03),
                    "log_partition": 0,
                    "log_offset": offset,
                    "spool_id": 1,
                    "spool_seq": offset,
                }
            )
        self.batches.append((f"hits:0:{len(self.batches)}", rows))
        self.rows += rows
        self.insert(*self.batches[-1])

    def _open(self) -> None:
        rng = self.rng
        start = START_MS + rng.randrange(3) * DAY_MS + rng.choice((0, HOUR_MS, rng.randrange(DAY_MS)))
        ident = len(self.sessions) + 1
        self.sessions.append(
            {
                "site": rng.choice("ab"),
                "visitor_id": rng.randrange(1, 40),
                "session_id": ident,
                "session_start": start,
                "channel": rng.choice(CHANNELS),
            }
        )

    def insert(self, token: str, rows, table: str = "events") -> None:
        lines = "\n".join(
            json.dumps(row | {key: text(row[key]) for key in ("ts", "received_at", "session_start")}) for row in rows
        )
        self.engine.command(
            f"INSERT INTO {table} SETTINGS async_insert = 0, insert_deduplication_token = '{token}',"
            f" deduplicate_blocks_in_dependent_materialized_views = 1 FORMAT JSONEachRow\n{lines}"
        )

    def check(self) -> None:
        rows = reference.counted(self.rows)
        for asked, tz in ASKED:
            options = ReportOptions(
                site=asked.site,
                since=text(asked.since) + "Z" if asked.since else "",
                until=text(asked.until) + "Z" if asked.until < 10**13 else "",
                bots=asked.bots,
                tz=tz,
            )
            found = {
                (row["day"], row["channel"]): tuple(row[key] for key in KEYS)
                for row in run("channels", self.engine, options)
            }
            zone = ZoneInfo(tz)

            def cut(events, zone=zone):
                day = datetime.fromtimestamp(events[0]["ts"] / 1000, zone).date().isoformat()
                return day, events[0]["channel"]

            expected = {
                value: (figures[0], *figures[2:]) for value, figures in reference.sessions(rows, asked, cut).items()
            }
            assert found.keys() == expected.keys(), asked
            for value, figures in expected.items():
                assert found[value] == pytest.approx(figures, rel=1e-12), (asked, value)


def counted(engine: Engine) -> int:
    return engine.number(COUNTED)


@pytest.mark.parametrize("servers", [False, True])
def test_a_repeated_batch_a_late_one_and_a_bot_change_what_was_counted(engine, servers):
    world = World(engine, 5, servers)
    for number in range(12):
        world.batch()
        if world.rng.random() < 0.4:
            world.insert(*world.rng.choice(world.batches))
        if number % 4 == 2:
            engine.count_hours()
            assert counted(engine) == engine.number(UNITS)
        if number % 4 == 3:
            world.check()
    assert 0 < counted(engine) < engine.number(UNITS)
    engine.count_hours()
    assert counted(engine) == engine.number(UNITS)
    world.check()
    engine.command("OPTIMIZE TABLE session_parts FINAL")
    assert counted(engine) == engine.number(UNITS)
    world.check()


def test_an_insert_that_a_kill_cut_before_the_view_is_healed(engine):
    """Of a cut insert `events` has the rows and the view's target not; the count in between does not last."""
    world = World(engine, 6, servers=False)
    for _ in range(6):
        world.batch()
    engine.command("DETACH TABLE session_parts_mv")
    world.batch()
    engine.count_hours()
    engine.command("ATTACH TABLE session_parts_mv")
    world.insert(*world.batches[-1])
    world.check()
    engine.count_hours()
    assert counted(engine) == engine.number(UNITS)
    world.check()


def test_sessions_that_are_made_anew_or_deleted_leave_no_count_behind(engine):
    world = World(engine, 7, servers=False)
    for _ in range(8):
        world.batch()
    engine.count_hours()
    world.check()
    gone = sorted({row["session_id"] for row in world.rows})[::3]
    engine.command(f"DELETE FROM session_parts WHERE session_id IN ({','.join(map(str, gone))})")
    kept = world.rows
    world.rows = [row for row in kept if row["session_id"] not in gone]
    world.check()
    engine.count_hours()
    assert counted(engine) == engine.number(UNITS)
    world.check()


def test_a_count_that_was_cut_in_half_is_not_read(engine):
    world = World(engine, 8, servers=False)
    for _ in range(8):
        world.batch()
    engine.count_hours()
    whole = counted(engine)
    by_unit = defaultdict(int)
    for row in world.rows:
        by_unit[row["site"], row["session_start"] // HOUR_MS] += 1
    assert len(by_unit) == whole
    engine.command("ALTER TABLE session_hours DELETE WHERE channel = 'Email' SETTINGS mutations_sync = 1")
    assert 0 < counted(engine) < whole
    world.check()
    engine.count_hours()
    assert counted(engine) == whole
    world.check()
