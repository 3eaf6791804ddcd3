"""`python -m benchmarks.replay access.log.gz --port 8080`: a web server's log as pixel hits against a running box.

The box must trust this host as a proxy (HITSTREAM_TRUSTED_PROXIES=127.0.0.0/8) to believe the addresses, and accept
times as old as the log's (HITSTREAM_EVENT_AGE_S_MAX) to keep them.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
import uvloop
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from benchmarks.http_sender import Target
from benchmarks.load import send_access_log


def replay(
    log: Annotated[Path, typer.Argument(help="Apache combined format, plain or gzip.", exists=True, dir_okay=False)],
    host: Annotated[str, typer.Option(help="Where the box listens.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The box's public port.")] = 8080,
) -> None:
    """Send every line of LOG as the hit that a pixel on that page would have sent."""
    with Progress() as bar:
        report = uvloop.run(send_access_log(log, Target(host, port), bar=bar))
    table = Table("status", "requests")
    for status, count in report.by_status.items():
        table.add_row(str(status), f"{count:,}")
    Console().print(table, f"{report.hits_acknowledged:,} hits kept in {report.seconds:.1f} s")
    if report.gave_up:
        sys.exit(f"gave up: {report.gave_up}; is a box running on {host}:{port}? Start one with `hitstream up`")


if __name__ == "__main__":
    typer.run(replay)
