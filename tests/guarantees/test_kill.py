"""kill -9 of any process at any moment: each acknowledged hit is in `events` exactly once, and sessions are right."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from random import Random
from typing import NamedTuple

import pytest
from support.box import Box
from support.promise import check_each_once, check_ledger, check_sessions
from support.steady_load import Load, send_through

from benchmarks.results_file import write_result

ROLES = ("collector", "forwarder", "worker", "clickhouse", "parent")


class Run(NamedTuple):
    """What is sent, how many processes are killed, and the seconds between two kills."""

    load: Load
    kills: int
    pause_s: tuple[float, float]


SHORT = Run(Load(50_000, 4_000.0), 10, (0.5, 1.5))
FULL = Run(Load(300_000, 4_000.0), 40, (1.0, 4.0))


def _kill(box: Box, rng: Random, run: Run) -> None:
    done = 0
    while done < run.kills:
        time.sleep(rng.uniform(*run.pause_s))
        done += _kill_one(box, ROLES[done % len(ROLES)], rng)


def _kill_one(box: Box, role: str, rng: Random) -> int:
    """Kill a process of the role; return 1, or 0 while there is none to kill."""
    if role == "parent":
        box.kill()
        box.start()
        return 1
    pids = box.children(role)
    if not pids:
        return 0
    os.kill(rng.choice(pids), signal.SIGKILL)
    return 1


def _run(tmp_path: Path, run: Run) -> dict[str, int]:
    seed = int(os.environ.get("KILL_SEED", "") or time.time_ns() % (1 << 32))
    print(f"KILL_SEED={seed}")
    rng = Random(seed)
    with Box(tmp_path / "box", collectors=2, workers=2, event_age_s_max=30 * 86_400) as box:
        report = send_through(box, run.load, rng.randrange(1 << 32), lambda: _kill(box, rng, run))
        box.wait_ready()
        ledger = check_ledger(box)
        check_each_once(box, report.acknowledged, report.unknown)
        count = check_sessions(box)
        assert report.hits_acknowledged >= run.load.requests
        assert ledger["inserted"] >= report.hits_acknowledged
        assert box.stop() == 0
    return {
        "kills": run.kills,
        "acknowledged": report.hits_acknowledged,
        "unanswered": report.unanswered,
        "inserted": ledger["inserted"],
        "resent": ledger["resent"],
        "sessions": count,
        "balance": ledger["balance"],
        "seed": seed,
    }


@pytest.mark.timeout(240)
def test_ten_kills_lose_and_double_nothing(tmp_path):
    _run(tmp_path, SHORT)


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_forty_kills_lose_and_double_nothing(tmp_path):
    result = _run(tmp_path, FULL)
    write_result("soak_kill", result)
