"""Drives one server with wrk over loopback and reads the CPU time of its processes meanwhile."""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import psutil

CLIENT_CORE = 1
DRAIN_S_MAX = 60.0
LATENCY_MS = {"us": 0.001, "ms": 1.0, "s": 1000.0}


class Sample(NamedTuple):
    """One run of wrk: hits answered, CPU us a hit of the server's processes, hits per second, answer times in ms."""

    hits: int
    cpu_us: float
    per_s: float
    p50_ms: float
    p99_ms: float


def check_programs(*names: str) -> None:
    """Raise SystemExit that names the missing program and the command that installs it."""
    packages = {"taskset": "util-linux", "chrt": "util-linux", "nginx": "nginx-light"}
    for name in names:
        if shutil.which(name) is None and not Path("/usr/sbin", name).exists():
            raise SystemExit(f"{name} is not installed (apt-get install {packages.get(name, name)})")


def cpu_s(pids: list[int]) -> float:
    """Return the CPU seconds, user and system, of processes and all that they started and still run."""
    used = 0.0
    for pid in pids:
        with suppress(psutil.NoSuchProcess):
            root = psutil.Process(pid)
            for process in [root, *root.children(recursive=True)]:
                with suppress(psutil.NoSuchProcess):
                    times = process.cpu_times()
                    used += times.user + times.system
    return used


def drive(  # noqa: PLR0913  what to load, how hard, and when it is over
    port: int,
    pids: list[int],
    script: Path,
    *,
    seconds: float,
    connections: int = 64,
    hits_per_request: int = 1,
    settled: Callable[[int], bool] | None = None,
) -> Sample:
    """Load a server and return what it took. Raises SystemExit on any answer that is not 2xx.

    `settled(hits)` says when what was answered has arrived; the CPU time until then counts.
    """
    before = cpu_s(pids)
    command = ["taskset", "-c", str(CLIENT_CORE), "wrk", "-t1", f"-c{connections}", f"-d{seconds:g}s", "--latency"]
    done = subprocess.run(
        [*command, "-s", str(script), f"http://127.0.0.1:{port}/"], capture_output=True, text=True, check=True
    )
    match = re.search(r"(\d+) requests in ([\d.]+)(s|m)", done.stdout)
    if match is None or "Non-2xx" in done.stdout:
        raise SystemExit(f"port {port}: wrk says\n{done.stdout}{done.stderr}")
    hits = int(match[1]) * hits_per_request
    deadline = time.monotonic() + DRAIN_S_MAX
    while settled and not settled(hits):
        if time.monotonic() > deadline:
            raise SystemExit(f"port {port}: what was answered has not arrived after {DRAIN_S_MAX:g} s")
        time.sleep(0.05)
    used = cpu_s(pids) - before
    wall_s = float(match[2]) * (60 if match[3] == "m" else 1)
    return Sample(
        hits, used / hits * 1e6, hits / wall_s, quantile_ms(done.stdout, "50"), quantile_ms(done.stdout, "99")
    )


def quantile_ms(text: str, percent: str) -> float:
    """Return a quantile of the answer times that wrk printed. Raises SystemExit when it printed none."""
    match = re.search(rf"^\s*{percent}%\s+([\d.]+)(us|ms|s)\s*$", text, re.MULTILINE)
    if match is None:
        raise SystemExit(f"wrk printed no {percent} % latency:\n{text}")
    return float(match[1]) * LATENCY_MS[match[2]]
