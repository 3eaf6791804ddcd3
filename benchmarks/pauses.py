"""When a machine stands still by itself: how late a process that goes before all others is woken on a core.

A virtual machine's core is taken away for some ms now and then, whatever runs on it, and a server's longest handling
time says that too. As cyclictest and jHiccup do, a process sleeps STEP_S again and again and notes how much later than
that it runs; as it has the highest real-time priority, no other process of this machine made it wait.

`python -m benchmarks.pauses CORE` prints a line for each pause of FROM_MS or more, until it is ended.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from benchmarks.edge_servers import process

STEP_S = 0.001
FROM_MS = 0.5


class Pause(NamedTuple):
    """A pause: when it was over, of `time.monotonic`, and how long it took at least."""

    ended_s: float
    ms: float


@contextmanager
def paused(core: int, file: Path) -> Iterator[None]:
    """Watch a core; each pause is a line of `file`. Needs the right to real-time priority, as root has."""
    with (
        file.open("wb") as output,
        process([sys.executable, "-m", "benchmarks.pauses"], core=core, stdout=output) as it,
    ):
        yield
        if it.poll() is not None:
            raise SystemExit(f"the watch over core {core} ended: has this user the right to real-time priority?")


def longest_ms(file: Path, from_s: float, to_s: float) -> float:
    """Return the longest pause of which a part lies between two times, 0.0 if there was none."""
    pauses = (Pause(*map(float, line.split())) for line in file.read_text().splitlines())
    return max(
        (pause.ms for pause in pauses if from_s <= pause.ended_s and pause.ended_s - pause.ms / 1e3 <= to_s),
        default=0.0,
    )


def main() -> int:
    """Watch the core that this process is bound to."""
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(os.sched_get_priority_max(os.SCHED_FIFO)))
    woken_s = time.monotonic()
    while True:
        due_s = woken_s + STEP_S
        time.sleep(STEP_S)
        woken_s = time.monotonic()
        late_ms = (woken_s - due_s) * 1000
        if late_ms >= FROM_MS:
            print(woken_s, late_ms, flush=True)


if __name__ == "__main__":
    sys.exit(main())
