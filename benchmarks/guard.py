"""The hot-path guard: fails when a change makes a hit dearer than the committed bounds allow.

Two figures, so that neither a noisy machine nor another build of Python hides or fakes a change:

- *Instructions a hit* of the hot path alone (`hot_path.py`), counted by valgrind: the difference of two runs, so that
  start and imports fall out. Deterministic to about 0.5 %; it depends on how Python was built, so there is a bound per
  implementation, minor version, architecture and build.
- *CPU a hit over bare uvloop*: the whole collector process divided by a bare uvloop echo, driven by wrk in this run.

`python -m benchmarks.guard` checks both; `--record` writes what it measures as the new bounds.
"""

from __future__ import annotations

import argparse
import platform
import re
import statistics
import subprocess
import sys
import sysconfig
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import orjson
from rich.console import Console
from rich.table import Table

from benchmarks.edge_requests import RETURNING
from benchmarks.edge_servers import collector, echo
from benchmarks.wrk import check_programs, drive
from schemas.settings import child_environment

BOUNDS = Path(__file__).parent / "guard.json"
INSTRUCTIONS_MARGIN = 1.10
RATIO_MARGIN = 1.25
FEW, MANY = 6_400, 12_800
ROUNDS, SECONDS = 5, 2
RATIO = "collector / bare uvloop"


class Check(NamedTuple):
    """One figure, what it was when the bound was committed (0: not known here), and by how much it may grow."""

    name: str
    measured: float
    committed: float
    margin: float

    @property
    def fine(self) -> bool:
        """Whether it is known and within its bound."""
        return 0 < self.measured <= self.committed * self.margin


def build_of_python() -> str:
    """Return what instructions depend on: implementation, minor version, architecture, how it was optimized."""
    flags = f"{sysconfig.get_config_var('PY_CORE_LDFLAGS')} {sysconfig.get_config_var('CONFIG_ARGS')}"
    debian = "dpkg-buildflags" in flags or sys.prefix == "/usr" or sys.base_prefix == "/usr"
    kind = "debian" if debian else "pgo" if "--enable-optimizations" in flags else "plain"
    version = ".".join(map(str, sys.version_info[:2]))
    return f"{platform.python_implementation()}-{version}-{platform.machine()}-{kind}".lower()


def instructions(patch: str = "") -> float:
    """Return the instructions a hit of the hot path; `patch` is a module that is imported first (tests use it)."""
    with tempfile.TemporaryDirectory() as temporary, ThreadPoolExecutor(2) as pool:
        few, many = pool.map(lambda count: _counted(count, Path(temporary), patch), (FEW, MANY))
    return (many - few) / (MANY - FEW)


def _counted(count: int, directory: Path, patch: str) -> int:
    code = f"import sys; sys.argv = ['hot_path', '{count}']; import benchmarks.hot_path as h\n{patch}\nh.main()"
    command = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={directory}/{count}", sys.executable, "-c", code]
    environment = child_environment(PYTHONHASHSEED="0", PYTHONMALLOC="pymalloc")
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    match = re.search(r"Collected : (\d+)", done.stderr)
    if done.returncode or match is None:
        raise SystemExit(f"the hot path under valgrind ended with {done.returncode}:\n{done.stderr[-2000:]}")
    return int(match[1])


def ratio_to_uvloop() -> float:
    """Return the collector's CPU a hit over a bare uvloop echo's: the median of interleaved rounds."""
    with tempfile.TemporaryDirectory() as temporary, ExitStack() as stack:
        root = Path(temporary)
        script = RETURNING.script(root)
        servers = [stack.enter_context(collector(root / "collector")), stack.enter_context(echo())]
        ratios = []
        for number in range(ROUNDS + 1):
            ours, bare = (drive(server.port, server.pids, script, seconds=SECONDS).cpu_us for server in servers)
            if number:
                ratios.append(ours / bare)
    return statistics.median(ratios)


def main() -> int:
    """Measure, print, and return 1 when a bound is passed."""
    parser = argparse.ArgumentParser(description="the hot-path guard")
    parser.add_argument("--record", action="store_true", help="write what is measured as the bounds")
    given = parser.parse_args()
    check_programs("valgrind", "wrk", "taskset")
    committed = orjson.loads(BOUNDS.read_bytes())
    build = build_of_python()
    checks = [
        Check(
            f"instructions a hit, {build}", instructions(), committed["instructions"].get(build, 0), INSTRUCTIONS_MARGIN
        ),
        Check(RATIO, ratio_to_uvloop(), committed["ratio"], RATIO_MARGIN),
    ]
    if given.record:
        committed["instructions"][build] = round(checks[0].measured)
        committed["ratio"] = round(checks[1].measured, 2)
        BOUNDS.write_bytes(orjson.dumps(committed, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS) + b"\n")
    show(checks)
    if given.record or all(check.fine for check in checks):
        return 0
    print(
        "A hit got dearer than the bounds allow, or this Python has none. Make it cheap again "
        "(python -m benchmarks.hot_path 200000 --time); where the cost is worth it: "
        "python -m benchmarks.guard --record, and say why in the commit."
    )
    return 1


def show(checks: list[Check]) -> None:
    """Print the figures and their bounds."""
    table = Table(title="hot-path guard", title_justify="left")
    for column in ("figure", "measured", "committed", "at most", ""):
        table.add_column(column, justify="left" if column == "figure" else "right")
    for check in checks:
        bound = check.committed * check.margin
        verdict = "ok" if check.fine else "[bold red]too dear[/]"
        table.add_row(check.name, f"{check.measured:,.2f}", f"{check.committed:,.2f}", f"{bound:,.2f}", verdict)
    Console(highlight=False).print(table)


if __name__ == "__main__":
    sys.exit(main())
