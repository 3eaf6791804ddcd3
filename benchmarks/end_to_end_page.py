"""What is published of `results/end_to_end.json`: goals met and missed, the README's part, the chart.

Promise: no figure is written by hand; a test holds the README against the committed result, and without one it says
nothing. `python -m benchmarks.end_to_end_page` makes both anew.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from benchmarks.chart import draw_end_to_end
from benchmarks.results_file import RESULTS
from benchmarks.steady_rate import QUERYABLE_S_MAX
from infra.kafka_server.jars import POM

KAFKA, BOX = "hitstream through Kafka", "hitstream, single box"
RIVAL, NGINX = "aiohttp + aiokafka + clickhouse-connect", "nginx empty_gif + access_log, loading nothing"
RESULT = RESULTS / "end_to_end.json"
README = Path(__file__).parents[1] / "README.md"
BEGIN, END = "<!-- end to end: written by benchmarks.end_to_end_page -->", "<!-- end of end to end -->"
PICTURE = "![CPU per hit of every process from HTTP to ClickHouse](benchmarks/results/end_to_end.svg)"
LINE_CHARS = 120


class Goal(NamedTuple):
    """One figure and what it has to be: `least` when that is > 0, else at most `most`."""

    name: str
    value: float
    least: float = 0.0
    most: float = 0.0
    aim: float = 0.0

    @property
    def met(self) -> bool:
        """Whether the figure is what it has to be."""
        return self.value >= self.least if self.least else self.value <= self.most

    @property
    def sentence(self) -> str:
        """Return figure, bound and verdict in words."""
        bound = f"at least {self.least:g}" if self.least else f"at most {self.most:g}"
        aim = f", aim {self.aim:g}" if self.aim else ""
        return f"{self.name}: {self.value:.2f} ({bound}{aim}): {'met' if self.met else 'MISSED'}"


def share_of_nginx(name: str, found: Mapping[str, Any]) -> float:
    """Return a pipeline's hits/s ÷ those of nginx right before and behind it; nginx's own share is 1."""
    return 1.0 if name == NGINX else float(found["hits_per_s"] / found["nginx_hits_per_s"])


def goals(rows: Mapping[str, Any]) -> list[Goal]:
    """Return the goals of issue 7 that the measured pipelines have a say in."""
    found = []
    if KAFKA in rows:
        share = share_of_nginx(KAFKA, rows[KAFKA])
        found.append(Goal("through Kafka, hits/s ÷ nginx + log", share, least=0.3, aim=0.5))
        if RIVAL in rows:
            times = rows[KAFKA]["hits_per_s"] / rows[RIVAL]["hits_per_s"]
            found.append(Goal("through Kafka, hits/s ÷ rival", times, least=2.5, aim=5))
    if BOX in rows:
        share = share_of_nginx(BOX, rows[BOX])
        found.append(Goal("single box, hits/s ÷ nginx + log", share, least=0.35, aim=0.6))
    for name in (KAFKA, BOX):
        if name in rows:
            waited_s = rows[name]["queryable_ms"]["p99_ms"] / 1000
            found.append(Goal(f"{name}, hit -> queryable p99 in s", waited_s, most=QUERYABLE_S_MAX))
    return found


def readme_part(figures: Mapping[str, Any]) -> str:
    """Return the README's lines, its two marks included; no figures, no lines."""
    if not figures:
        return f"{BEGIN}\n{END}"
    rows = figures["pipelines"]
    lines = [
        "| two cores, load generator included | hits/s | ÷ nginx | hit → queryable p50, p99 |",
        "| --- | --- | --- | --- |",
    ]
    for name in (BOX, KAFKA, RIVAL, NGINX):
        found = rows[name]
        waited = found.get("queryable_ms")
        queryable = f"{waited['p50_ms'] / 1000:.1f} s, {waited['p99_ms'] / 1000:.1f} s" if waited else ""
        lines.append(f"| {name} | {found['hits_per_s']:,} | {share_of_nginx(name, found):.2f} | {queryable} |")
    missed = [goal for goal in goals(rows) if not goal.met]
    wanted = "; ".join(
        f"{goal.name} {goal.value:.2f}, {'at least' if goal.least else 'at most'} {goal.least or goal.most:g} wanted"
        for goal in missed
    )
    verdict = f"Missed so far: {wanted}." if missed else "Every goal set for these figures is met."
    held = (
        f"Each held for {rows[KAFKA]['seconds']:g} s with a lag that does not grow, nginx measured right before and "
        "behind it (`end_to_end.json`)."
    )
    said = textwrap.fill(f"{held} {verdict} [What 10,000 to 1,000,000 hits/s take](docs/scale.md).", LINE_CHARS)
    return "\n".join((BEGIN, "", *lines, "", said, "", PICTURE, "", END))


def with_part(readme: str, figures: Mapping[str, Any]) -> str:
    """Return the README with the part of these figures. Raises ValueError when it lacks the marks."""
    before, _, rest = readme.partition(BEGIN)
    _, mark, behind = rest.partition(END)
    if not mark:
        raise ValueError(f"the README lacks {BEGIN} or {END}")
    return before + readme_part(figures) + behind


def kafka_version() -> str:
    """Return the version of Apache Kafka that is run, as its POM names it."""
    found = re.search(r"<artifactId>kafka_[\d.]+</artifactId>\s*<version>([\d.]+)<", POM.read_text())
    assert found, f"{POM} names no version of Kafka"
    return found[1]


def result() -> dict[str, Any]:
    """Return the committed result's figures; none before it was measured."""
    content: dict[str, Any] = orjson.loads(RESULT.read_bytes()) if RESULT.exists() else {"figures": {}}
    figures: dict[str, Any] = content["figures"]
    return figures


def write() -> list[Path]:
    """Write the README's part and the chart from the committed result; return the paths."""
    figures = result()
    README.write_text(with_part(README.read_text(), figures))
    return [README, draw_end_to_end(figures["pipelines"])]


if __name__ == "__main__":
    print(*write(), sep="\n")
