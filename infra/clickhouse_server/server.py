"""The process that owns an embedded ClickHouse: `hitstream clickhouse`, or a child of `hitstream up`.

Promise: it listens on loopback unless told otherwise, and elsewhere only with a password. SIGTERM: nothing new is
accepted, what runs is finished within `stop_timeout_s` (then cancelled), the tables are closed, exit 0. After kill -9
the successor on the same directory waits for the lock and goes on with every answered insert.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from ipaddress import ip_address

from aiohttp import web

from infra.clickhouse_server import request
from infra.clickhouse_server.counters import Counters
from infra.clickhouse_server.engine import Engine, EngineError
from infra.clickhouse_server.errors import ServerError
from infra.clickhouse_server.handler import Handler
from schemas.settings import Settings

BACKLOG = 1024
CANCEL_S_MAX = 5.0
HEAD_BYTES_MAX = 1024 * 1024

log = logging.getLogger("hitstream.clickhouse")


def main(settings: Settings, *, listen_fd: int | None = None) -> int:
    """Run the server in this process until SIGTERM or SIGINT; return the exit code.

    `listen_fd` is an open listening socket; without one, `clickhouse_host` and `clickhouse_port` are bound.
    """

    async def life() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        sock = None if listen_fd is None else socket.socket(fileno=listen_fd)
        await serve(settings, sock, lambda: None, stop)

    try:
        asyncio.run(life())
    except EngineError as error:
        sys.stderr.write(f"hitstream clickhouse: {error}\n")
        return 1
    return 0


async def serve(
    settings: Settings,
    sock: socket.socket | None,
    ready: Callable[[], None],
    stop: asyncio.Event,
    counters: Counters | None = None,
) -> None:
    """Serve until `stop`; `ready` is called once requests are answered. Raises EngineError."""
    sock = sock or listen(settings.clickhouse_host, settings.clickhouse_port)
    address, port = sock.getsockname()[:2]
    check_exposure(address, settings.clickhouse_password)
    try:
        engine = await asyncio.to_thread(Engine, settings.data_dir / "clickhouse", stop.is_set)
    except EngineError:
        sock.close()
        if stop.is_set():
            return
        raise
    hosts = request.own_hosts(frozenset((settings.clickhouse_host, address, socket.gethostname())), port)
    handler = Handler(engine, settings.clickhouse_password, hosts, counters)
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", handler.handle)
    runner = web.AppRunner(
        application,
        access_log=None,
        handle_signals=False,
        shutdown_timeout=settings.stop_timeout_s,
        auto_decompress=False,  # bodies are unpacked in bounded parts
        max_line_size=HEAD_BYTES_MAX,  # the query may stand in the URL
    )
    await runner.setup()
    try:
        await web.SockSite(runner, sock, backlog=BACKLOG).start()
        log.info("ClickHouse %s on http://%s:%d, data in %s", engine.version, address, port, settings.data_dir)
        ready()
        await stop.wait()
    finally:
        await _finish(runner, handler, engine)


async def _finish(runner: web.AppRunner, handler: Handler, engine: Engine) -> None:
    """Stop accepting, wait for what runs, cancel the rest, close the engine."""
    await runner.cleanup()
    deadline = time.monotonic() + CANCEL_S_MAX
    while handler.counters.running and time.monotonic() < deadline:
        await asyncio.to_thread(_cancel_all, engine)
        await asyncio.sleep(0.1)
    if handler.counters.running:
        # Closing tables under a running statement could crash; a sudden end loses nothing that was answered.
        log.error("%d statements did not end: ending without closing the tables", handler.counters.running)
        os._exit(0)
    handler.close()
    await asyncio.to_thread(engine.close)


def _cancel_all(engine: Engine) -> None:
    connection = engine.connect()
    try:
        connection.query("KILL QUERY WHERE query_id != queryID() ASYNC")
    except ServerError as error:
        log.warning("cannot cancel running statements: %s", error)
    finally:
        connection.close()


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket. Raises EngineError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        raise EngineError(f"cannot listen on {host}:{port} (HITSTREAM_CLICKHOUSE_HOST, _PORT): {error}") from None


def check_exposure(address: str, password: str) -> None:
    """Raise EngineError for an address that others can reach when there is no password."""
    if not ip_address(address.partition("%")[0]).is_loopback and not password:
        raise EngineError(
            f"refusing to listen on {address} without a password: others could read and change everything. "
            "Set HITSTREAM_CLICKHOUSE_PASSWORD, or HITSTREAM_CLICKHOUSE_HOST=127.0.0.1"
        )
