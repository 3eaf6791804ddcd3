"""`hitstream demo`: a whole box on free ports, seeded shop traffic over real HTTP, and what came of it.

Everything runs in `demo-data`, made anew each time. What is shown at the end is read back from the box: the ledger,
held against what the sender knows it sent, the funnel, the attribution, and the answer times.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any

import orjson
import uvloop
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from benchmarks.http_sender import Target
from benchmarks.load import LoadReport, send_shop
from infra.command.accounts import read_ledger
from infra.command.database import show_report
from infra.command.errors import UserError
from infra.command.local_kafka import start_kafka
from infra.command.settings_page import variable_of
from infra.ledger import Ledger
from schemas.settings import Settings, child_environment, load

DATA_DIR = Path("demo-data")
SEED = 20_260_101
START_S_MAX = 60.0
DRAIN_S_MAX = 60.0
STOP_S_MAX = 30.0
POLL_S = 0.1
FUNNEL = ("PageView", "ViewContent", "AddToCart", "Purchase")

BOX = {
    "HITSTREAM_HOST": "127.0.0.1",
    "HITSTREAM_PORT": "0",
    "HITSTREAM_ADMIN_PORT": "0",
    "HITSTREAM_CLICKHOUSE_PORT": "0",
    "HITSTREAM_TRUSTED_PROXIES": "127.0.0.0/8",  # the sender plays every visitor, each with an address of its own
}


def run_demo(*, visitors: int, keep: bool, with_kafka: bool = False) -> int:
    """Run the demo and return the exit code: 0 when every hit is accounted for. Raises UserError, FatalError."""
    console = Console(highlight=False)
    shutil.rmtree(DATA_DIR, ignore_errors=True)
    DATA_DIR.mkdir()
    given = load().kafka_bootstrap_servers if with_kafka else ""
    broker = start_kafka(load(), DATA_DIR / "kafka", _step(console)) if with_kafka and not given else None
    kafka = _kafka(given or (broker.bootstrap_servers if broker else ""))
    box = None
    leave = False
    try:
        box = _start(kafka)
        with _progress(console) as progress:
            settings = _wait_started(box, kafka, progress)
            report = _send(settings, visitors, progress)
            ledger = _wait_drained(settings, progress)
        good = _show(console, settings, report, ledger)
        leave = keep and good
    finally:
        if box and not leave:
            _stop(box)
        if broker and not leave:
            broker.stop()
    _say_what_next(console, settings, kafka, [process.pid for process in (box, broker) if process] if leave else [])
    return 0 if good else 1


def _kafka(servers: str) -> dict[str, str]:
    """Return the settings of a box on these brokers, on a topic of its own; {} without brokers: the log is local."""
    name = f"hitstream-demo-{secrets.token_hex(4)}"
    return {"kafka_bootstrap_servers": servers, "kafka_topic": name, "kafka_group": name} if servers else {}


def _variables(kafka: dict[str, str]) -> dict[str, str]:
    return {variable_of(name, Settings.model_fields[name]): value for name, value in kafka.items()}


def _step(console: Console) -> Callable[[str], None]:
    return lambda text: console.print(f"[dim]kafka [/] {text}")


def _start(kafka: dict[str, str]) -> subprocess.Popen[bytes]:
    environment = child_environment(HITSTREAM_DATA_DIR=str(DATA_DIR.absolute()), **BOX)
    for name in ("CLICKHOUSE_URL", "KAFKA_BOOTSTRAP_SERVERS", "HITSTREAM_CONFIG"):
        environment.pop(name, None)
    program = [sys.executable, "-P", "-m", "infra.command.main", "up"]
    with (DATA_DIR / "up.log").open("wb") as log:
        return subprocess.Popen(  # noqa: S603  our own program
            program,
            env=environment | _variables(kafka),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def _wait_started(box: subprocess.Popen[bytes], kafka: dict[str, str], progress: Progress) -> Settings:
    """Return the settings that reach the started box."""
    task = progress.add_task("Starting collectors, forwarder, worker and ClickHouse", total=None)
    deadline = time.monotonic() + START_S_MAX
    while True:
        if box.poll() is not None or time.monotonic() > deadline:
            raise UserError(f"the box did not start; it said:\n{_log_tail()}")
        ports = _ports()
        if ports and _answers(f"http://127.0.0.1:{ports['admin']}/readyz") and _has_tables(ports["clickhouse"]):
            break
        time.sleep(POLL_S)
    progress.update(task, total=1, completed=1)
    return load(
        data_dir=DATA_DIR.absolute(),
        host="127.0.0.1",
        port=ports["public"],
        admin_port=ports["admin"],
        clickhouse_port=ports["clickhouse"],
        clickhouse_url="",
        **({"kafka_bootstrap_servers": ""} | kafka),
    )


def _send(settings: Settings, visitors: int, progress: Progress) -> LoadReport:
    target = Target("127.0.0.1", settings.port)
    return uvloop.run(send_shop(target, SEED, int(time.time() * 1000), visitors, progress))


def _wait_drained(settings: Settings, progress: Progress) -> Ledger:
    """Return the ledger once every hit has arrived, or as it is when that takes too long."""
    task = progress.add_task("Loading into ClickHouse", total=None)
    deadline = time.monotonic() + DRAIN_S_MAX
    while True:
        ledger = read_ledger(settings)
        progress.update(task, total=max(ledger.appended, 1), completed=ledger.appended - ledger.in_flight)
        if ledger.settled or time.monotonic() > deadline:
            return ledger
        time.sleep(POLL_S)


def _show(console: Console, settings: Settings, report: LoadReport, ledger: Ledger) -> bool:
    """Print what came of it; return whether everything is as it should be."""
    console.print(_ledger_table(report, ledger))
    console.print(_answers_table(report))
    console.print()
    show_report(settings, "funnel", "table", {"steps": FUNNEL, "window": "7d"})
    console.print()
    show_report(settings, "attribution", "table", {"model": "last-non-direct", "lookback": "30d"})
    wrong = list(_differences(report, ledger))
    for line in wrong:
        console.print(f"[bold red]✗[/] {line}")
    if not wrong:
        console.print("[bold green]✓[/] every answered hit is kept, and every kept hit is counted once")
    return not wrong


def _differences(report: LoadReport, ledger: Ledger) -> Iterator[str]:
    """Yield where the box differs from what the sender knows."""
    if report.unanswered or report.gave_up:
        yield f"{report.unanswered} requests got no answer {report.gave_up}"
    yield from report.unexpected_examples[:5]
    pairs = (
        ("hits answered 2xx", report.hits_acknowledged, "appended", ledger.appended),
        ("rows expected", report.rows, "inserted", ledger.inserted),
        ("rejections expected", report.rejected_total, "rejected", ledger.rejected),
        ("duplicates expected", report.duplicates, "duplicate", ledger.duplicate),
        ("balance wanted", 0, "balance", ledger.balance),
    )
    for sent_name, sent, kept_name, kept in pairs:
        if sent != kept:
            yield f"{sent_name}: {sent:,}, but {kept_name}: {kept:,}"


def _ledger_table(report: LoadReport, ledger: Ledger) -> Table:
    table = Table(title="Ledger", title_justify="left", title_style="bold")
    table.add_column("")
    table.add_column("hits", justify="right")
    rows = (
        ("answered 2xx", report.hits_acknowledged, "bold"),
        ("= appended to disk", ledger.appended, "bold"),
        ("  rows in events", ledger.inserted, ""),
        ("+ rejected, with a reason", ledger.rejected, ""),
        ("+ client duplicates", ledger.duplicate, ""),
        ("+ in flight, damaged, filtered", ledger.in_flight + ledger.damaged + ledger.filtered, ""),
        ("balance", ledger.balance, "green" if ledger.balance == 0 else "red"),
    )
    for name, count, style in rows:
        table.add_row(name, f"{count:,}", style=style)
    return table


def _answers_table(report: LoadReport) -> Table:
    table = Table(title="Answers", title_justify="left", title_style="bold")
    table.add_column("status")
    table.add_column("requests", justify="right")
    for status, count in report.by_status.items():
        kept = " kept" if status in (HTTPStatus.OK, HTTPStatus.NO_CONTENT) else " refused"
        phrase = HTTPStatus(status).phrase if status in HTTPStatus._value2member_map_ else ""
        table.add_row(f"{status} {phrase}{kept}", f"{count:,}", style="" if kept == " kept" else "yellow")
    rate = report.requests / report.seconds if report.seconds else 0.0
    p50, p99 = report.latency_us_p50 / 1000, report.latency_us_p99 / 1000
    table.caption = (
        f"answer time p50 {p50:.2f} ms, p99 {p99:.2f} ms at {rate:,.0f} requests/s, sender on the same machine"
    )
    return table


def _say_what_next(console: Console, settings: Settings, kafka: dict[str, str], pids: list[int]) -> None:
    console.print()
    if not pids:
        console.print("[dim]next  [/] make demo KEEP=1     the same, and the box stays for you to query")
        console.print("[dim]or    [/] .venv/bin/hitstream up     a box for real use")
        return
    reach = {
        "HITSTREAM_DATA_DIR": DATA_DIR,
        "HITSTREAM_CLICKHOUSE_PORT": settings.clickhouse_port,
        **_variables(kafka),
    }
    place = " ".join([*(f"{name}={value}" for name, value in reach.items()), ".venv/bin/hitstream"])
    console.print(f"The box runs (pid {pids[0]}): hits at http://127.0.0.1:{settings.port}{settings.pixel_path}")
    console.print(f"[dim]status[/] http://127.0.0.1:{settings.admin_port}/")
    console.print(f"[dim]next  [/] {place} report attribution --model linear", soft_wrap=True)
    console.print(f"[dim]or    [/] {place} sql 'SELECT * FROM sessions LIMIT 10'", soft_wrap=True)  # noqa: S608  shown
    console.print(f"[dim]stop  [/] kill {' '.join(str(pid) for pid in pids)}")


def _stop(box: subprocess.Popen[bytes]) -> None:
    if box.poll() is None:
        box.send_signal(signal.SIGTERM)
    try:
        box.wait(STOP_S_MAX)
    except subprocess.TimeoutExpired:
        os.killpg(box.pid, signal.SIGKILL)
        box.wait()


@contextmanager
def _progress(console: Console) -> Iterator[Progress]:
    columns = (
        SpinnerColumn(finished_text="[green]✓"),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console) as progress:
        yield progress


def _ports() -> dict[str, int]:
    try:
        content: dict[str, Any] = orjson.loads((DATA_DIR / "run.json").read_bytes())
    except (OSError, ValueError):
        return {}
    ports: dict[str, int] = content["ports"]
    return ports if {"public", "admin", "clickhouse"} <= ports.keys() else {}


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:  # noqa: S310  an address of ours
            return bool(answer.status == HTTPStatus.OK)
    except OSError:
        return False


def _has_tables(port: int) -> bool:
    return _answers(f"http://127.0.0.1:{port}/?query=SELECT+1+FROM+hitstream.events+LIMIT+0")


def _log_tail(lines: int = 30) -> str:
    path = DATA_DIR / "up.log"
    return "\n".join(path.read_text(errors="replace").splitlines()[-lines:]) if path.exists() else ""
