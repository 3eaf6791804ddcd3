"""Traffic against a running box, with a progress bar: what `hitstream demo` and the benchmarks start.

Promise: what a run should have left behind is known when it ends: `LoadReport` says how many hits were acknowledged and
how many of these a correct box rejects and recognizes as sent again, so that the ledger and the tables can be held
against it. Only hits of requests answered 2xx count there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from rich.progress import TaskID

from benchmarks.access_log import AccessLog
from benchmarks.http_sender import Pace, Target, send
from benchmarks.send_report import SendReport
from benchmarks.shop import shop_requests
from benchmarks.traffic import Request

DEMO_PACE = Pace(connections=32, rate_per_s=3_000.0)


class ProgressBar(Protocol):
    """What is needed of `rich.progress.Progress`."""

    def add_task(self, description: str, *, total: float | None) -> TaskID:
        """Show a bar and return its task id."""

    def update(self, task_id: TaskID, *, completed: float) -> None:
        """Set how much is done."""


@dataclass(frozen=True)
class LoadReport:
    """One run; times in us. `rows` is what a correct box adds to `events`: acknowledged - rejected - duplicates."""

    requests: int
    by_status: dict[int, int]
    unanswered: int
    unsent: int
    hits_acknowledged: int
    rejected: dict[str, int]
    duplicates: int
    latency_us_p50: int
    latency_us_p99: int
    latency_us_max: int
    seconds: float
    unexpected: int
    unexpected_examples: tuple[str, ...]
    gave_up: str

    @property
    def rejected_total(self) -> int:
        """Hits that a correct box rejects."""
        return sum(self.rejected.values())

    @property
    def rows(self) -> int:
        """Rows that a correct box has in `events` afterwards."""
        return self.hits_acknowledged - self.rejected_total - self.duplicates

    @property
    def is_expected(self) -> bool:
        """Whether every request got the answer it should get."""
        return self.unexpected == 0 and self.unsent == 0


async def send_shop(
    target: Target,
    seed: int,
    now_ms: int,
    visitors: int = 1_000,
    bar: ProgressBar | None = None,
) -> LoadReport:
    """Send the traffic of `visitors` shop visitors whose live visits end at `now_ms`; about 14 requests each."""
    requests = list(shop_requests(seed, now_ms, visitors))  # made before: the answer times are the server's alone
    return await send_all(requests, target, DEMO_PACE, bar, "Sending shop traffic")


async def send_access_log(
    path: Path, target: Target, pace: Pace = DEMO_PACE, bar: ProgressBar | None = None
) -> LoadReport:
    """Replay a web server's log; per visitor in file order. The box must trust this host as proxy."""
    return await send_all(list(AccessLog(path)), target, pace, bar, f"Replaying {path.name}")


async def send_all(
    requests: Sequence[Request],
    target: Target,
    pace: Pace = DEMO_PACE,
    bar: ProgressBar | None = None,
    title: str = "Sending",
) -> LoadReport:
    """Send `requests` and report, with a bar of finished requests."""
    if bar is None:
        return summary(await send(requests, target, pace))
    shown = bar
    task_id = shown.add_task(title, total=len(requests))
    return summary(await send(requests, target, pace, lambda finished: shown.update(task_id, completed=finished)))


def summary(report: SendReport) -> LoadReport:
    """Return the counts and answer times of a run."""
    return LoadReport(
        requests=report.answered + report.unanswered + report.unsent,
        by_status=dict(sorted(report.statuses.items())),
        unanswered=report.unanswered,
        unsent=report.unsent,
        hits_acknowledged=report.hits_acknowledged,
        rejected={str(reason): count for reason, count in sorted(report.rejected.items())},
        duplicates=report.duplicates,
        latency_us_p50=report.latency_us(0.5),
        latency_us_p99=report.latency_us(0.99),
        latency_us_max=report.latency_us(1.0),
        seconds=report.seconds,
        unexpected=report.unexpected,
        unexpected_examples=tuple(report.unexpected_examples),
        gave_up=report.gave_up,
    )
