"""When a machine stands still by itself: how late a process that goes before all others is woken on a core.

A virtual machine's core is taken away for some ms now and then, whatever runs on it, and a server's longest handling
time says that too. As cyclictest and jHiccup do, a process sleeps STEP_S again and again and notes how much later than
that it runs; as it has the highest real-time priority, no other process of this machine made it wait.

`python -m benchmarks.pauses` says READY, then prints a line for each pause of FROM_MS or more, until it is ended.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

STEP_S = 0.001
FROM_MS = 0.5
START_S_MAX = 10.0
READY = "ready"


class Pause(NamedTuple):
    """A pause: when it was over, of `time.monotonic`, and how long it took at least."""

    ended_s: float
    ms: float


@contextmanager
def watched(core: int, file: Path) -> Iterator[None]:
    """Watch a core, from when this begins; each pause is a line of `file`. Needs root's right to real-time priority."""
    command = ["taskset", "-c", str(core), sys.executable, "-m", "benchmarks.pauses"]
    with file.open("wb") as output, subprocess.Popen(command, stdout=output) as watch:
        try:
            _wait(watch, file)
            yield
        finally:
            watch.terminate()


def _wait(watch: subprocess.Popen[bytes], file: Path) -> None:
    deadline = time.monotonic() + START_S_MAX
    while not file.read_text():
        if watch.poll() is not None or time.monotonic() > deadline:
            raise SystemExit("a core's pauses cannot be watched: has this user the right to real-time priority (root)?")
        time.sleep(0.01)


def pauses(file: Path) -> list[Pause]:
    """Return what a watch that is over has found."""
    return [Pause(*map(float, line.split())) for line in file.read_text().splitlines()[1:]]


def paused_ms(found: list[Pause], from_s: float, to_s: float) -> float:
    """Return how much of the time between two times was paused."""
    return sum(
        max(0.0, (min(pause.ended_s, to_s) - max(pause.ended_s - pause.ms / 1000, from_s)) * 1000) for pause in found
    )


def main() -> int:
    """Watch the core that this process is bound to."""
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(os.sched_get_priority_max(os.SCHED_FIFO)))
    print(READY, flush=True)
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
