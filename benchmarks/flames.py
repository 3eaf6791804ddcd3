"""Where the time goes: one flame graph per process of `hitstream up` through Kafka, at nine tenths of what it holds.

Python processes are sampled by py-spy with native frames (compiled modules are known by mypyc's names for functions),
which does not tell work from waiting: stacks that end in a wait are left out (`WAITS`), and with them calls that might
have waited and did not.
ClickHouse and the broker are sampled on the CPU by perf, the broker's compiled Java named by a map that its JVM writes;
chDB comes without names for its functions, so its threads' names and the kernel's functions must do. One process after
the other is sampled while hits come. Run it as `python -m benchmarks.flames`, after `bench_end_to_end`; it writes
`results/flame_<process>.svg`, and `results/flames.json`, which `docs/scale.md` reads. Needs perf (apt-get install
linux-perf), and to be root or to have CAP_SYS_PTRACE and CAP_PERFMON.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path

from benchmarks import scale_page
from benchmarks.end_to_end_page import KAFKA, result
from benchmarks.flame_graph import Stacks, collapsed, drawn, shares
from benchmarks.paced_wrk import Load, prepare
from benchmarks.pipelines import CORES, ours
from benchmarks.results_file import RESULTS, write_result
from benchmarks.wrk import check_programs
from infra import compiled
from infra.kafka_server.broker import KafkaServer
from infra.kafka_server.jars import ensure_jars
from schemas.settings import load

RATE_SHARE = 0.9
HERTZ = 199  # in step with nothing that ticks
WARM_UP_S = 25.0
PYTHON = ("collector", "forwarder", "worker")
SYMBOL = re.compile(r"\s+[0-9a-f]+ (.+?)(?:\+0x[0-9a-f]+)? \((.*)\)$")
THREAD = re.compile(r"\s*(.+?)\s+\d+(?:/\d+)?\s+(?:\[\d+\]\s+)?[\d.]+:")
TEMPLATE = re.compile(r"<[^<>]*>")
NAME_CHARS_MAX = 80
WAITS = (
    *("EpollSelector.select", "epoll_wait", "epoll_pwait", "_await_signal", "_await_parent", "Event.wait"),
    *("Condition.wait", "_worker (concurrent/futures/thread.py", "lock_timed", "pthread_cond", "SettingsWatch._run"),
)
WAITING_LEAVES = ("recv", "poll", "select", "sem_", "futex", "nanosleep", "clock_nanosleep")
PYTHON_FILE = re.compile(r"\(([^():]+\.py):\d+\)$")
COMPILED = re.compile(r"CPy(?:Def|Py)_(\w+?)___")  # behind it the function; the module by its last name
COMPILED_FILES = {module.rpartition(".")[2]: module.replace(".", "/") + ".py" for module in compiled.MODULES}


def sampled_by_py_spy(pid: int, seconds: float, directory: Path) -> dict[tuple[str, ...], int]:
    """Return the stacks of a Python process, all threads together."""
    path = directory / f"{pid}.raw"
    program = str(Path(sys.executable).with_name("py-spy"))
    command = [program, "record", "--pid", str(pid), "--native", "--format", "raw", "--output", str(path)]
    command += ["--duration", str(round(seconds)), "--rate", str(HERTZ)]
    _said(command)
    stacks = collapsed(path.read_text().splitlines())
    return {stack: count for stack, count in stacks.items() if not waits(stack)}


def waits(stack: tuple[str, ...]) -> bool:
    """Return whether a thread with this stack waits for something."""
    return stack[-1].lstrip("_").startswith(WAITING_LEAVES) or any(word in frame for frame in stack for word in WAITS)


def python_file(stack: tuple[str, ...]) -> str:
    """Return the innermost Python file of a stack: what called the native code that the time went to."""
    for frame in reversed(stack):
        if match := PYTHON_FILE.search(frame):
            return match[1]
        if match := COMPILED.match(frame):
            return COMPILED_FILES.get(match[1], match[1])
    return "no Python"


def thread(stack: tuple[str, ...]) -> str:
    """Return the thread's name."""
    return stack[0]


def sampled_by_perf(pid: int, seconds: float, directory: Path) -> dict[tuple[str, ...], int]:
    """Return the stacks of any process, all threads together, each under its thread's name."""
    path = directory / f"{pid}.perf"
    command = ["perf", "record", "-e", "cpu-clock", "-F", str(HERTZ), "-g", "-p", str(pid), "-o", str(path)]
    _said([*command, "--", "sleep", str(seconds)])
    return folded(_said(["perf", "script", "-i", str(path)]).splitlines())


def folded(lines: Iterable[str]) -> dict[tuple[str, ...], int]:
    """Return the stacks of what `perf script` prints: a line of the thread, one per frame, innermost first, a blank."""
    found: dict[tuple[str, ...], int] = {}
    for block in _blocks(lines):
        names = [match for line in block[1:] if (match := SYMBOL.match(line))]
        head = THREAD.match(block[0])
        outermost = head[1].rstrip("0123456789-#_ ") if head else "thread"
        known = [
            short(match[1], match[2]) for match in reversed(names) if match[1] != "[unknown]" or match[2] != "[unknown]"
        ]
        stack = (outermost, *(name for name, _ in groupby(known)))  # neighbours without a name are one
        found[stack] = found.get(stack, 0) + 1
    return found


def short(symbol: str, library: str) -> str:
    """Return a symbol without its parameters; of a library without names, that one's."""
    if symbol == "[unknown]":
        return f"[{Path(library).name}]"
    while TEMPLATE.search(symbol):
        symbol = TEMPLATE.sub("", symbol)
    return symbol.partition("(")[0][:NAME_CHARS_MAX] or symbol[:NAME_CHARS_MAX]


def name_compiled_java(broker: int) -> None:
    """Have the JVM write the map that names its compiled methods."""
    _said(["jcmd", str(broker), "Compiler.perfmap"])


def sample(root: Path, rate: float, seconds: float) -> dict[str, Stacks]:
    """Return the stacks of every process, while hits come at a rate."""
    prepared, _ = prepare(root)
    with (
        KafkaServer(root / "kafka", ensure_jars(load().cache_dir, print), profiled=True) as kafka,
        ours(KAFKA, root / "box", kafka.bootstrap_servers, kafka.pid) as pipeline,
        Load(pipeline.port, prepared, WARM_UP_S + 7 * seconds + 30, rate=rate),
    ):
        time.sleep(WARM_UP_S)
        found: dict[str, Stacks] = {}
        for role in PYTHON:
            found[role] = sampled_by_py_spy(pipeline.pids[role][0], seconds, root)
        found["clickhouse"] = sampled_by_perf(pipeline.pids["clickhouse"][0], seconds, root)
        name_compiled_java(kafka.pid)
        found["broker"] = sampled_by_perf(kafka.pid, seconds, root)
        return found


def _said(command: list[str]) -> str:
    """Run a program and return what it prints. Raises SystemExit with its complaint when it fails."""
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}:\n{done.stderr}")
    return done.stdout


def _blocks(lines: Iterable[str]) -> Iterator[list[str]]:
    block: list[str] = []
    for line in lines:
        if line.strip():
            block.append(line)
        elif block:
            yield block
            block = []
    if block:
        yield block


def main() -> int:
    """Sample, write the pictures and the shares."""
    parser = argparse.ArgumentParser(description="flame graphs of the whole pipeline")
    parser.add_argument("--seconds", type=float, default=15, help="of each process")
    parser.add_argument("--rate", type=float, default=0, help="hits/s; 0: nine tenths of what was held")
    given = parser.parse_args()
    check_programs("wrk", "chrt", "perf", "jcmd")
    known = result()
    if not known:
        raise SystemExit("flames are drawn at a share of the rate that was held: python -m benchmarks.bench_end_to_end")
    rate = given.rate or RATE_SHARE * known["pipelines"][KAFKA]["hits_per_s"]
    os.sched_setaffinity(0, CORES)
    with tempfile.TemporaryDirectory() as temporary:
        found = sample(Path(temporary), rate, given.seconds)
    figures = {}
    for role, stacks in found.items():
        title = f"{role}: on-CPU time by call, {sum(stacks.values()):,} samples at {rate:,.0f} hits/s"
        path = RESULTS / f"flame_{role}.svg"
        path.write_text(drawn(title, stacks))
        print(path, path.stat().st_size)
        figures[role] = shares(stacks, python_file if role in PYTHON else thread)
    print(write_result("flames", {"hits_per_s": round(rate), "shares": figures}))
    print(scale_page.write())
    return 0


if __name__ == "__main__":
    sys.exit(main())
