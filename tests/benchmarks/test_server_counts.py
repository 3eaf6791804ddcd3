"""What a benchmarked server tells of its handling times, and what the machine's own pauses explain of them."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from benchmarks.pauses import READY, Pause, paused_ms, pauses
from benchmarks.server_counts import LOOK_FROM_MS, LOOK_S, Account, ask, longest_ms, quantile
from ingest.counters import HANDLING_NS, Counters

LONG = [took_ns for took_ns in HANDLING_NS if took_ns >= LOOK_FROM_MS * 1e6][2:4]


def counted(*times_ns: int) -> dict[str, int]:
    counters = Counters()
    for took_ns in times_ns:
        counters.handled(1, took_ns)
    return counters.as_dict()


def test_quantiles_lie_within_their_bucket() -> None:
    counts = counted(*[HANDLING_NS[3]] * 90, *[HANDLING_NS[20]] * 10)
    assert HANDLING_NS[2] / 1000 < quantile(counts, 0.5) <= HANDLING_NS[3] / 1000
    assert HANDLING_NS[19] / 1000 < quantile(counts, 0.99) <= HANDLING_NS[20] / 1000


def test_the_longest_is_its_buckets_bound_also_beyond_the_last() -> None:
    assert longest_ms(counted(HANDLING_NS[3], HANDLING_NS[20])) == HANDLING_NS[20] / 1e6
    assert longest_ms(counted(HANDLING_NS[-1] * 3)) == HANDLING_NS[-1] / 1e6


def test_a_server_tells_its_counts_and_what_was_longest_between_its_looks(tmp_path: Path) -> None:
    async def serve() -> tuple[dict[str, int], list[float]]:
        counters = Counters()
        Account(counters, tmp_path / "counts.json")
        for took_ns in (HANDLING_NS[5], *LONG):
            counters.handled(2, took_ns)
            await asyncio.sleep(3 * LOOK_S)
        told = await asyncio.to_thread(ask, os.getpid(), tmp_path / "counts.json")
        return told.counts, [look.longest_ms for look in told.looks]

    counts, longest = asyncio.run(serve())
    assert counts["handling.5"] == 2
    assert longest == [took_ns / 1e6 for took_ns in LONG]


def test_a_pause_counts_with_the_part_of_it_that_lies_within(tmp_path: Path) -> None:
    file = tmp_path / "pauses"
    file.write_text(f"{READY}\n10.005 5.0\n10.5 0.7\n")
    found = pauses(file)
    assert found == [Pause(10.005, 5.0), Pause(10.5, 0.7)]
    assert paused_ms(found, 9.0, 10.0) == pytest.approx(0.0, abs=1e-6)
    assert paused_ms(found, 9.0, 10.001) == pytest.approx(1.0)
    assert paused_ms(found, 10.004, 11.0) == pytest.approx(1.7)
    assert paused_ms(found, 10.4995, 10.4999) == pytest.approx(0.4)
