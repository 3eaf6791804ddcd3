"""The end-to-end bench on a real box, shortly: every hit that was answered has its row, and its cost is counted."""

import pytest
from support.programs import needed

from benchmarks import bench_end_to_end, first_seen, paced_wrk
from benchmarks.footprint import footprint
from benchmarks.pipelines import ours
from benchmarks.steady_rate import GROWTH_SHORT

RATE, SECONDS = 300.0, 3.0


@pytest.mark.outside
def test_a_box_under_load(tmp_path, monkeypatch):
    needed("wrk", "wrk")
    for module, name, value in (
        (bench_end_to_end, "WARM_UP_S", 1.0),
        (bench_end_to_end, "LOOK_S", 0.5),
        (bench_end_to_end, "QUIET_S_MAX", 0.0),
        (first_seen, "SHARE", 0.5),
        (paced_wrk, "VISITORS", 500),
    ):
        monkeypatch.setattr(module, name, value)
    prepared, _ = paced_wrk.prepare(tmp_path)
    with ours("box", tmp_path / "box") as pipeline:
        trial = bench_end_to_end.drive(pipeline, prepared, RATE, SECONDS, bench_end_to_end.Bounds(GROWTH_SHORT))
        counts = pipeline.counts()
        sizes = footprint(pipeline, tmp_path, counts.taken)
    assert trial.verdict.answered == pytest.approx(1, abs=0.1)
    assert counts.lag == 0
    assert counts.taken >= trial.answers.hits
    assert 0 < trial.latency.p50_ms <= trial.latency.p99_ms < 30_000
    assert trial.latency.rows == pytest.approx(RATE * SECONDS / 2, rel=0.4)
    assert set(trial.cpu_us) == {"collector", "forwarder", "worker", "clickhouse", "wrk", "measuring"}
    assert all(cpu_us > 0 for cpu_us in trial.cpu_us.values())
    beside = [bench_end_to_end.Served(per_s, 10.0, 10.0) for per_s in (50_000.0, 60_000.0)]
    row = bench_end_to_end.row(trial, SECONDS, beside, sizes)
    assert row["nginx_hits_per_s"] == 55_000
    assert row["hits_per_s"] == pytest.approx(RATE, rel=0.1)
    assert 500 < row["bytes_per_hit"]["hit"] < 2_000
    assert 10 < row["bytes_per_hit"]["events"] < 1_000
    assert row["bytes_per_hit"]["log"] == 0
