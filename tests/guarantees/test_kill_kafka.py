"""The box through a real Kafka, everything in it killed: each hit in `events` exactly once, and sessions are right."""

from __future__ import annotations

import os
import time
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import pytest
from support.box import Box
from support.kafka import HEAP_MIB, local_jars
from support.kafka_kills import ROLES, KafkaKills
from support.promise import check_each_once, check_ledger, check_sessions
from support.steady_load import Load, send_through

from benchmarks.results_file import write_result
from benchmarks.steady import Profile
from infra.kafka_server.broker import KafkaServer

STEADY = {"kafka_session_timeout_s": 10, "kafka_rebalance_timeout_s": 15, "kafka_request_timeout_s": 5}
QUICK = {"kafka_session_timeout_s": 3, "kafka_rebalance_timeout_s": 5, "kafka_request_timeout_s": 3}
EVENT_AGE = {"event_age_s_max": 30 * 86_400}  # sessions depend on the hits' own times
DRAIN_S_MAX = 300.0


class Run(NamedTuple):
    """What is sent and killed. `processes` collectors and as many workers, beside the guests' one, by `settings`."""

    load: Load
    kills: int
    guest_turns: int
    pause_s: tuple[float, float]
    processes: int
    settings: dict[str, Any]
    short_lived: bool = False


# Most of its time goes into starting processes: so as few as a rebalance needs.
SHORT = Run(Load(2_000, 300.0), 5, 2, (0.2, 1.0), 1, EVENT_AGE | QUICK, short_lived=True)
FULL = Run(Load(580_000, 1_200.0, Profile(beacon_share=0.5)), 60, 16, (1.0, 8.0), 2, EVENT_AGE | STEADY)
FULL_HITS_MIN = 1_000_000  # a request has 1.75 on average


def _run(tmp_path: Path, run: Run) -> dict[str, Any]:
    seed = int(os.environ.get("KILL_SEED", "") or time.time_ns() % (1 << 32))
    print(f"KILL_SEED={seed}")
    rng = Random(seed)
    count = {"collectors": run.processes, "workers": run.processes}
    with (
        KafkaServer(tmp_path / "kafka", local_jars(), heap_mib=HEAP_MIB, short_lived=run.short_lived) as kafka,
        Box(tmp_path / "box", kafka=kafka.bootstrap_servers, **count, **run.settings) as box,
    ):
        killing = KafkaKills(box, kafka, tmp_path, rng, run.settings)

        def kill() -> None:
            killing.run(kills=run.kills, guest_turns=run.guest_turns, pause_s=run.pause_s)

        report = send_through(box, run.load, rng.randrange(1 << 32), kill)
        began = time.monotonic()
        killing.wait_rows(report.hits_acknowledged, DRAIN_S_MAX)  # cheap beside asking for ledger after ledger
        ledger = check_ledger(box, DRAIN_S_MAX)
        drain_s = time.monotonic() - began
        check_each_once(box, report.acknowledged, report.unknown)
        sessions = check_sessions(box)
        assert ledger["inserted"] >= report.hits_acknowledged >= run.load.requests
        assert sum(killing.done[role] for role in ROLES) == run.kills
        assert box.query("SELECT uniqExact(topic) AS n FROM batches") == [{"n": 1}]
        assert box.stop() == 0, box.log_tail()
    return {
        "kills": run.kills,
        "done": dict(sorted(killing.done.items())),
        "acknowledged": report.hits_acknowledged,
        "unanswered": report.unanswered,
        "load_s": round(report.seconds),
        "drain_s": round(drain_s),
        **{name: ledger[name] for name in ("inserted", "resent", "balance")},
        "sessions": sessions,
        "seed": seed,
    }


@pytest.mark.timeout(150)
def test_a_kill_of_each_and_a_guest(tmp_path):
    _run(tmp_path, SHORT)


@pytest.mark.soak
@pytest.mark.timeout(2400)
def test_sixty_kills_and_a_million_hits(tmp_path):
    result = _run(tmp_path, FULL)
    assert result["acknowledged"] >= FULL_HITS_MIN
    write_result("soak_kill_kafka", result)
