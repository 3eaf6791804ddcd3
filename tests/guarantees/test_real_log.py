"""A real access log, replayed as pixel hits over HTTP: every line a row, sessions and bots as references say."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from functools import cache

import crawleruseragents
import pytest
from support.box import Box
from support.promise import CLICK_IDS, check_ledger, check_sessions
from support.sessions_reference import carried_campaign, sessions, too_fast
from support.shared_data import shared

from benchmarks.access_log import AccessLog, visitor_of
from benchmarks.http_sender import Pace, Target, send

LINES = 10_000
PER_MINUTE_MAX = 15


@pytest.mark.timeout(180)
def test_ten_thousand_real_lines(tmp_path):
    log = AccessLog(shared("semicomplete_access.log.gz"))
    settings = {"event_age_s_max": 40 * 365 * 86_400, "trusted_proxies": "127.0.0.0/8", "ip_keep": "full"}
    with Box(tmp_path / "box", bot_events_per_minute_max=PER_MINUTE_MAX, **settings) as box:
        report = asyncio.run(send(log, Target("127.0.0.1", box.port), Pace(connections=16)))
        assert report.statuses == {200: LINES}, (report.statuses, report.unexpected_examples[:5])
        ledger = check_ledger(box)
        rejected = box.query("SELECT reason, detail, raw FROM rejected LIMIT 5")
        assert ledger["inserted"] == LINES, rejected
        check_sessions(box)
        rows = box.query("SELECT event_id, session_id, bot_reason, toString(ip) AS ip FROM events")
    lines = list(log.read())
    assert len(rows) == len(lines) == LINES
    stored = {row["event_id"]: row for row in rows}
    _check_same_sessions(lines, stored)
    is_crawler = cache(crawleruseragents.is_crawler)  # half a millisecond each; the log has 559 agents
    agree = sum(
        is_crawler(line.user_agent.decode("latin-1")) == (stored[f"line-{line.number}"]["bot_reason"] == "agent")
        for line in lines
    )
    assert agree / LINES >= 0.97
    assert stored["line-1"]["ip"].endswith(lines[0].address)


def _check_same_sessions(lines, stored):
    """Two lines share a stored session exactly if the reference, run on the file itself, says so."""
    reference_rows = [
        {
            "site": "semicomplete",
            "visitor_id": visitor_of(line.address, line.user_agent),
            "ts": line.time_ms,
            "log_partition": 0,
            "log_offset": line.number,
            **carried_campaign(line.target.partition("?")[2], CLICK_IDS),
        }
        for line in lines
    ]
    place, _ = sessions(reference_rows)
    reasons = [stored[f"line-{line.number}"]["bot_reason"] for line in lines]
    fast = {index for index in too_fast(reference_rows, place, PER_MINUTE_MAX) if reasons[index] != "agent"}
    assert {index for index, reason in enumerate(reasons) if reason == "rate"} == fast
    assert len(fast) > 1, "the log has such visitors"
    by_reference, by_store = defaultdict(set), defaultdict(set)
    for line, index in zip(lines, place, strict=True):
        session = stored[f"line-{line.number}"]["session_id"]
        by_reference[index].add(session)
        by_store[session].add(index)
    assert all(len(names) == 1 for names in by_reference.values())
    assert all(len(names) == 1 for names in by_store.values())
