"""Steady hits over HTTP for as long as something is done to the box that takes them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import NamedTuple

from support.box import Box

from benchmarks.http_sender import KILL_TEST_PACE, Target, send_until
from benchmarks.send_report import SendReport
from benchmarks.steady import DEFAULT_PROFILE, Profile, steady_hits


class Load(NamedTuple):
    """What is sent: at least so many requests, so many a second, and what they are like."""

    requests: int
    rate_per_s: float
    profile: Profile = DEFAULT_PROFILE


def send_through(box: Box, load: Load, seed: int, disturb: Callable[[], None]) -> SendReport:
    """Send until `disturb`, in a thread of its own, has returned and the load's requests are through; report."""
    return asyncio.run(_send_through(box, load, seed, disturb))


async def _send_through(box: Box, load: Load, seed: int, disturb: Callable[[], None]) -> SendReport:
    stop, enough = asyncio.Event(), asyncio.Event()

    def progress(finished: int) -> None:
        if finished >= load.requests:
            enough.set()

    async def disturbed() -> None:
        await asyncio.to_thread(disturb)
        await enough.wait()

    requests = steady_hits(seed, int(time.time() * 1000), load.profile)
    pace = KILL_TEST_PACE._replace(rate_per_s=load.rate_per_s)
    sending = asyncio.create_task(send_until(stop, requests, Target("127.0.0.1", box.port), pace, progress))
    disturbing = asyncio.create_task(disturbed())
    await asyncio.wait([sending, disturbing], return_when=asyncio.FIRST_COMPLETED)
    stop.set()
    report = await sending
    assert not report.gave_up, f"{report.gave_up}\n{box.log_tail()}"
    await disturbing
    return report
