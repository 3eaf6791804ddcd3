"""What is published of the end-to-end run: goals say when they are missed, and the pages hold the committed result."""

import pytest

from benchmarks import scale_page
from benchmarks.end_to_end_page import (
    BEGIN,
    BOX,
    END,
    KAFKA,
    NGINX,
    README,
    RIVAL,
    goals,
    kafka_version,
    readme_part,
    result,
    with_part,
)


def rows(kafka=15_000, rival=6_000, box=17_500, p99_ms=2_500):
    queryable = {"rows": 100, "p50_ms": 900, "p99_ms": p99_ms, "max_ms": 4_000}
    ours = {"queryable_ms": queryable, "seconds": 60.0, "nginx_hits_per_s": 50_000}
    return {
        KAFKA: {"hits_per_s": kafka, **ours},
        RIVAL: {"hits_per_s": rival, **ours},
        BOX: {"hits_per_s": box, **ours},
        NGINX: {"hits_per_s": 50_000},
    }


def test_goals_at_their_bounds_are_met():
    assert [goal.met for goal in goals(rows())] == [True] * 5
    assert "Every goal" in " ".join(readme_part({"pipelines": rows()}).split())


@pytest.mark.parametrize(
    ("changed", "missed"),
    [
        ({"kafka": 14_900, "rival": 5_900}, "through Kafka, hits/s ÷ nginx + log"),
        ({"rival": 6_100}, "through Kafka, hits/s ÷ rival"),
        ({"box": 17_400}, "single box, hits/s ÷ nginx + log"),
    ],
)
def test_a_missed_goal_is_said(changed, missed):
    found = [goal for goal in goals(rows(**changed)) if not goal.met]
    assert [goal.name for goal in found] == [missed]
    assert found[0].sentence.endswith("MISSED")
    published = " ".join(readme_part({"pipelines": rows(**changed)}).split())
    assert f"Missed so far: {missed}" in published


def test_a_pipeline_without_nginx_beside_it_meets_no_goal():
    measured = rows()
    del measured[BOX]["nginx_hits_per_s"]
    with pytest.raises(KeyError):
        goals(measured)


def test_a_late_row_is_said():
    assert [goal.value for goal in goals(rows(p99_ms=3_100)) if not goal.met] == [3.1, 3.1]


def test_the_part_stands_between_its_marks_and_only_there():
    readme = f"before\n{BEGIN}\nold\n{END}\nbehind\n"
    written = with_part(readme, {"pipelines": rows()})
    assert written.startswith(f"before\n{BEGIN}\n")
    assert written.endswith(f"{END}\nbehind\n")
    assert "old" not in written
    assert "| hitstream through Kafka | 15,000 | 0.30 | 0.9 s, 2.5 s |" in written
    assert with_part(written, {"pipelines": rows()}) == written
    assert with_part(written, {}) == f"before\n{BEGIN}\n{END}\nbehind\n"
    with pytest.raises(ValueError, match="lacks"):
        with_part("no marks", {"pipelines": rows()})


def test_what_is_published_is_what_was_measured():
    assert with_part(README.read_text(), result()) == README.read_text(), "python -m benchmarks.end_to_end_page"
    page = scale_page.PAGE.read_text() if scale_page.PAGE.exists() else ""
    assert page == scale_page.text(), "python -m benchmarks.scale_page > docs/scale.md"


def test_without_a_result_nothing_is_published(tmp_path, monkeypatch):
    monkeypatch.setattr("benchmarks.end_to_end_page.RESULT", tmp_path / "none.json")
    monkeypatch.setattr("benchmarks.scale_page.RESULT", tmp_path / "none.json")
    assert result() == {}
    assert scale_page.text() == ""


def test_the_page_about_scale_is_made_from_a_result():
    cpu_us = {"collector": 20.0, "forwarder": 5.0, "broker": 5.0, "worker": 40.0, "clickhouse": 10.0}
    sizes = {"hit": 700, "log": 150, "events": 40, "other_tables": 3}
    machine = {"cpu": "a CPU", "python": "3.13.0"}
    row = {"cpu_us_per_hit": cpu_us, "bytes_per_hit": sizes}
    pipelines = {name: {**found, **row} for name, found in rows().items()}
    figures = {"request_bytes": 800, "answer_bytes": 200, "partitions": 4, "pipelines": pipelines}
    shares = {"worker": {"consumers/decode.py": 0.6, "consumers/rows.py": 0.3}}
    flames = {"figures": {"hits_per_s": 13_500, "shares": shares}}
    page = scale_page.page({"machine": machine, "commit": "abc1234", "figures": figures}, flames)
    assert "15,000 hits/s through Kafka and 17,500 on the single box" in page
    assert "| worker | 40.0 | 25,000 | 40.0 |" in page
    assert "Most goes to `consumers/decode.py` (60%), then `consumers/rows.py` (30%)." in " ".join(page.split())
    assert max(map(len, (line for line in page.splitlines() if line[:1] != "|"))) <= 120


def test_every_assumption_is_on_the_page_with_its_meaning():
    assert tuple(scale_page.ASSUMED_MEANING) == scale_page.Assumed._fields


def test_paragraphs_are_filled_and_tables_left_alone():
    text = "# A\n\none\ntwo\n\n- a\n  b\n- c " + "word " * 40 + "\n\n| a | b |\n| --- | ---: |\n"
    lines = scale_page.wrapped(text).split("\n")
    assert lines[:6] == ["# A", "", "one two", "", "- a b", "- c " + " ".join(["word"] * 23)]
    assert lines[6].startswith("  word")
    assert lines[-2:] == ["| a | b |", "| --- | ---: |"]


def test_the_version_of_kafka_is_found():
    assert kafka_version().count(".") == 2
