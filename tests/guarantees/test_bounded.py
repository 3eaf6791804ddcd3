"""Workers that stand still: the log fills, then the spools, then 503. Within limits, and nothing answered is lost."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path

import pytest
from support.box import Box
from support.promise import check_each_once, check_ledger, check_sessions

from benchmarks.http_sender import Pace, Target, send
from benchmarks.steady import steady_hits

KIB = 1024
SPOOL_BYTES_MAX = 2048 * KIB
LOG_BYTES_MAX = 4096 * KIB


def _segment_bytes(root: Path) -> int:
    total = 0
    for path in root.rglob("*.seg"):
        try:
            total += path.stat().st_size
        except FileNotFoundError:  # deleted just now
            continue
    return total


@pytest.mark.timeout(180)
def test_a_full_box_refuses_and_loses_nothing(tmp_path):
    limits = {"spool_bytes_max": SPOOL_BYTES_MAX, "log_bytes_max": LOG_BYTES_MAX, "event_age_s_max": 30 * 86_400}
    with Box(tmp_path / "box", collectors=2, workers=2, **limits) as box:
        while not box.children("worker"):
            time.sleep(0.05)
        workers = box.children("worker")
        for pid in workers:
            os.kill(pid, signal.SIGSTOP)
        requests = steady_hits(7, int(time.time() * 1000))
        pace = Pace(connections=8, requests_max=20_000, seconds_max=60.0)
        report = asyncio.run(send(requests, Target("127.0.0.1", box.port), pace))
        assert report.statuses[503] > 1_000, report.statuses
        assert report.statuses.keys() <= {200, 204, 503}
        assert _segment_bytes(box.data_dir / "spool") <= SPOOL_BYTES_MAX
        assert _segment_bytes(box.data_dir / "log") <= LOG_BYTES_MAX
        for pid in workers:
            os.kill(pid, signal.SIGCONT)
        ledger = check_ledger(box)
        check_each_once(box, report.acknowledged, ())
        check_sessions(box)
        assert ledger["appended"] == report.hits_acknowledged
        after = asyncio.run(
            send(
                steady_hits(8, int(time.time() * 1000), first=10**9),
                Target("127.0.0.1", box.port),
                Pace(requests_max=100),
            )
        )
        assert after.statuses.keys() <= {200, 204}, "room has come back, and hits are taken again"
