"""Commands that stay in the foreground: `up`, `collect`, `forward`, `work`, `clickhouse`."""

from __future__ import annotations

import asyncio
import resource
import time
from contextlib import suppress

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from infra.command.box import Box, Started
from infra.command.logs import configure
from infra.command.run_file import take_roles
from infra.command.sockets import listening
from ingest.cookieless import day_of
from ingest.salt_file import SaltFile
from schemas.settings import Settings

EXAMPLE_SQL = "SELECT ts, event_name, url_path FROM events"
WHAT = {
    "up": "the whole box runs",
    "collect": "the collectors run",
    "forward": "the forwarder runs",
    "work": "the workers run",
}


def run_box(settings: Settings, command: str) -> int:
    """Run a parent and its children until SIGTERM or SIGINT; return the exit code. Raises UserError, FatalError."""
    configure(command, settings.log_level)
    if command in ("up", "collect") and settings.cookieless:
        SaltFile(settings.data_dir).advance(day_of(time.time()))  # or says what is wrong with it
    _, limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))  # each connection of a collector is two files

    async def life() -> int:
        started: asyncio.Future[Started] = asyncio.get_running_loop().create_future()
        greeting = asyncio.create_task(_greet(settings, command, started))
        try:
            return await Box(settings, command).run(started)
        finally:
            greeting.cancel()
            with suppress(asyncio.CancelledError):
                await greeting

    return asyncio.run(life())


def run_clickhouse(settings: Settings) -> int:
    """Run the embedded ClickHouse until SIGTERM or SIGINT; return the exit code. Raises UserError."""
    from infra.clickhouse_server.server import main

    configure("clickhouse", settings.log_level)
    locks = take_roles(settings.data_dir.absolute(), ("clickhouse",))
    sock = listening(settings.clickhouse_host, settings.clickhouse_port, "HITSTREAM_CLICKHOUSE_PORT")
    try:
        return main(settings, listen_fd=sock.detach())
    finally:
        for lock in locks:
            lock.release()


async def _greet(settings: Settings, command: str, started: asyncio.Future[Started]) -> None:
    addresses = await started
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"[bold green]hitstream[/]: {WHAT[command]}")
    console.print(_addresses(settings, command, addresses))
    if command in ("up", "collect") and not settings.sites:
        console.print("no site is defined: every well-formed site id and any Origin is accepted", style="yellow")
    for line in _next_steps(settings, command, addresses):
        console.print(line)


def _addresses(settings: Settings, command: str, addresses: Started) -> Table:
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    if addresses.port:
        table.add_row("hits", f"http://{_host(settings.host)}:{addresses.port}{settings.pixel_path}")
    table.add_row("status", f"http://{_host(settings.admin_host)}:{addresses.admin_port}/   (/metrics /readyz)")
    if addresses.clickhouse_port:
        where = f"http://{_host(settings.clickhouse_host)}:{addresses.clickhouse_port}   (embedded, starting)"
        table.add_row("ClickHouse", where)
    elif command in ("up", "work"):
        table.add_row("ClickHouse", escape(settings.clickhouse_url or settings.clickhouse_address))
    table.add_row("log", "Kafka" if settings.kafka_bootstrap_servers else f"{settings.partitions} local partitions")
    table.add_row("data", escape(str(settings.data_dir.absolute())))
    return table


def _next_steps(settings: Settings, command: str, addresses: Started) -> list[str]:
    lines = []
    if addresses.port:
        url = f"http://{_host(settings.host)}:{addresses.port}{settings.pixel_path}"
        lines.append(f"[dim]try   [/] curl '{url}?s=shop&u=https://shop.example/'")
    if command == "up":
        port = ""
        if addresses.clickhouse_port and addresses.clickhouse_port != settings.clickhouse_port:
            port = f"HITSTREAM_CLICKHOUSE_PORT={addresses.clickhouse_port} "
        lines.append(f"[dim]then  [/] {port}hitstream sql {EXAMPLE_SQL!r}")
        lines.append(f"[dim]or    [/] {port}hitstream report traffic    {port}hitstream ledger")
    lines.append("[dim]stop  [/] Ctrl-C")
    return lines


def _host(host: str) -> str:
    """Return a host to click on: what listens everywhere is reached here."""
    if host in ("0.0.0.0", "::", ""):  # noqa: S104  compared, not bound
        return "localhost"
    return f"[{host}]" if ":" in host else host
