"""The box through a real Kafka, everything in it killed: each hit in `events` exactly once, and sessions are right."""

from __future__ import annotations

import os
import time
from pathlib import Path
from random import Random
from typing import Any

import pytest
from support.box import Box
from support.kafka import HEAP_MIB, local_jars
from support.kafka_kills import ROLES, KafkaKills
from support.promise import check_each_once, check_ledger, check_sessions
from support.steady_load import Load, send_through

from benchmarks.results_file import write_result
from benchmarks.steady import Profile
from infra.kafka_server.broker import KafkaServer

# Timings as short as the broker and a machine under load allow: a killed guest's partitions move within the run.
QUICK = {"kafka_session_timeout_s": 3, "kafka_rebalance_timeout_s": 5, "kafka_request_timeout_s": 3}
STEADY = {"kafka_session_timeout_s": 10, "kafka_rebalance_timeout_s": 15, "kafka_request_timeout_s": 5}
EVENT_AGE = {"event_age_s_max": 30 * 86_400}  # sessions depend on the hits' own times
DRAIN_S_MAX = 300.0


def _run(
    tmp_path: Path, load: Load, settings: dict[str, Any], *, kills: int, guest_turns: int, pause_s: tuple[float, float]
) -> dict[str, Any]:
    seed = int(os.environ.get("KILL_SEED", "") or time.time_ns() % (1 << 32))
    print(f"KILL_SEED={seed}")
    rng = Random(seed)
    with (
        KafkaServer(tmp_path / "kafka", local_jars(), heap_mib=HEAP_MIB) as kafka,
        Box(tmp_path / "box", kafka=kafka.bootstrap_servers, collectors=2, workers=2, **settings) as box,
    ):
        killing = KafkaKills(box, kafka, tmp_path, rng, settings)

        def kill() -> None:
            killing.run(kills=kills, guest_turns=guest_turns, pause_s=pause_s)

        report = send_through(box, load, rng.randrange(1 << 32), kill)
        began = time.monotonic()
        ledger = check_ledger(box, DRAIN_S_MAX)
        drain_s = time.monotonic() - began
        check_each_once(box, report.acknowledged, report.unknown)
        sessions = check_sessions(box)
        assert ledger["inserted"] >= report.hits_acknowledged >= load.requests
        assert sum(killing.done[role] for role in ROLES) == kills
        assert box.query("SELECT uniqExact(topic) AS n FROM batches") == [{"n": 1}]
        assert box.stop() == 0, box.log_tail()
    return {
        "kills": kills,
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
    _run(tmp_path, Load(2_000, 300.0), EVENT_AGE | QUICK, kills=5, guest_turns=2, pause_s=(0.2, 1.0))


@pytest.mark.soak
@pytest.mark.timeout(2400)
def test_sixty_kills_and_a_million_hits(tmp_path):
    load = Load(int(os.environ.get("REQ", "580000")), float(os.environ.get("RATE", "1200")), Profile(beacon_share=0.5))
    result = _run(tmp_path, load, EVENT_AGE | STEADY, kills=60, guest_turns=16, pause_s=(1.0, 8.0))
    print(result)
    write_result("soak_kill_kafka", result)
