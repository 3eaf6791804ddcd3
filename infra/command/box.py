"""The parent process of `up`, `collect`, `forward` and `work`: which children run, in what order they start and end.

- Collectors start first and wait for nothing: a hit is answered and kept on disk before there is a ClickHouse.
- ClickHouse, then the tables, then the workers. What is not there yet is waited for; nothing of it stops the taking.
- The end, in order: collectors, forwarder (it finishes its round), workers, ClickHouse. Exit code 0. A second signal
  hurries: what still runs is killed, and nothing that was acknowledged is lost by that.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
from contextlib import suppress
from typing import NamedTuple
from urllib.parse import urlsplit

from aiohttp import web

from infra import compiled
from infra.admin import admin_app, is_loopback, serve_admin
from infra.command import run_file
from infra.command.errors import UserError
from infra.command.event_log import stable_instance, uses_kafka
from infra.command.sockets import listening, port_of, public_sockets
from infra.fleet import FleetStatus
from infra.supervisor import ChildSpec, Supervisor
from schemas.settings import Settings, child_environment

ADMIN_PORT_OFFSET = {"up": 0, "collect": 0, "forward": 1, "work": 2}
ROLES = {
    "up": ("collectors", "forwarder", "workers"),
    "collect": ("collectors",),
    "forward": ("forwarder",),
    "work": ("workers",),
}
NEEDED = {"up": "collector", "collect": "collector", "forward": "forwarder", "work": "worker"}
CHILD_COMMAND = (sys.executable, "-P", "-m", compiled.__name__, run_file.CHILD_MODULE)
STOP_MARGIN_S = 2.0  # beyond the time a child gives itself
CLICKHOUSE_STOP_S = 12.0  # beyond the same: running statements are cancelled, then the tables closed
PORT_RETRY_S = 0.2
LEFTOVER_REPORT_S = 30.0
READY_POLL_S = 0.05

log = logging.getLogger("hitstream.box")


class Started(NamedTuple):
    """What a box says once its collectors are ready: addresses by name; 0 is a port it does not have."""

    port: int
    admin_port: int
    clickhouse_port: int


class Box:
    """One parent with its children. `run` is its life."""

    def __init__(self, settings: Settings, command: str) -> None:
        self.command = command
        self.data_dir = settings.data_dir.absolute()
        self._settings = settings
        self._roles = ROLES[command]
        self._embedded = command == "up" and runs_own_clickhouse(settings)
        self._sockets: list[socket.socket] = []
        self._clickhouse: socket.socket | None = None
        self._ports: dict[str, int] = {}
        self._supervisor: Supervisor | None = None

    async def run(self, on_started: asyncio.Future[Started]) -> int:
        """Run until SIGTERM or SIGINT and return the exit code. Raises UserError when it cannot start.

        `on_started` gets its result once what the command is for is ready.
        """
        roles = (*self._roles, *(("clickhouse",) if self._embedded else ()))
        locks = run_file.take_roles(self.data_dir, roles)
        shared = run_file.families_alive(self.data_dir, roles)
        if shared:
            names = [f"{name} (pid {pid})" for name, pid in run_file.leftovers(self.data_dir).items()]
            log.info("processes of an earlier run are still ending: %s", ", ".join(names) or "names unknown")
        stop = asyncio.Event()
        self._open(shared=shared)
        family = run_file.found_family(self.data_dir, roles)
        supervisor = self._supervisor = Supervisor(self._environment(), self._note, (family,))
        self._on_signals(stop, supervisor)
        needed = NEEDED[self.command]
        status = FleetStatus(
            f"hitstream {self.command}",
            supervisor,
            run_file.run_directory(self.data_dir),
            needed=lambda name: name.startswith(needed),
            served=lambda name: name != "migrate",
        )
        self._start_takers(supervisor)
        background: list[asyncio.Task[None]] = []
        runner = None
        try:
            runner, self._ports["admin"] = await self._admin(status)
            self._note()
            background = [
                asyncio.create_task(self._start_loaders(supervisor, shared=shared)),
                asyncio.create_task(self._announce(status, on_started)),
            ]
            await stop.wait()
        finally:
            for task in background:
                task.cancel()
            await self._end(supervisor, background)
            if runner:
                await runner.cleanup()
            status.close()
            self._close(supervisor)
            os.close(family)
            for lock in locks:
                lock.release()
        return 0

    def _open(self, *, shared: bool) -> None:
        """Open every socket whose port nobody of an earlier run can still hold."""
        settings = self._settings
        if "collectors" in self._roles:
            self._sockets = public_sockets(settings.host, settings.port, settings.collectors, shared=shared)
            self._ports["public"] = port_of(self._sockets[0])
        if self._embedded:
            try:
                self._open_clickhouse()
            except UserError:
                if not shared:
                    for sock in self._sockets:
                        sock.close()
                    raise
            self._ports["clickhouse"] = port_of(self._clickhouse) if self._clickhouse else settings.clickhouse_port

    def _open_clickhouse(self) -> None:
        settings = self._settings
        self._clickhouse = listening(settings.clickhouse_host, settings.clickhouse_port, "HITSTREAM_CLICKHOUSE_PORT")

    async def _admin(self, status: FleetStatus) -> tuple[web.AppRunner, int]:
        settings = self._settings
        port = settings.admin_port and settings.admin_port + ADMIN_PORT_OFFSET[self.command]
        app = admin_app(status, settings.admin_host)
        try:
            return await serve_admin(app, settings.admin_host, port)
        except OSError as error:
            raise UserError(
                f"the admin port {settings.admin_host}:{port} cannot be opened ({error.strerror}): "
                "set HITSTREAM_ADMIN_PORT to a free port (0: any)"
            ) from None

    def _environment(self) -> dict[str, str]:
        """Return the children's environment: this one, with what the parent decided."""
        decided = {"HITSTREAM_DATA_DIR": str(self.data_dir)}
        if "public" in self._ports:
            decided["HITSTREAM_PORT"] = str(self._ports["public"])
        if self._embedded:
            decided["HITSTREAM_CLICKHOUSE_PORT"] = str(self._ports["clickhouse"])
        if self.command == "up" and uses_kafka(self._settings):
            decided["HITSTREAM_KAFKA_INSTANCE_ID"] = stable_instance(self._settings, self.data_dir)
        return child_environment(**decided)

    def _start_takers(self, supervisor: Supervisor) -> None:
        """Start what keeps hits and moves them on; it needs this machine's disk only."""
        for slot, sock in enumerate(self._sockets):
            arguments = ("--slot", str(slot), "--fd", str(sock.fileno()))
            self._start(supervisor, "collector", f"collector-{slot}", arguments, sock)
        if "forwarder" in self._roles:
            self._start(supervisor, "forwarder", "forwarder")

    async def _start_loaders(self, supervisor: Supervisor, *, shared: bool) -> None:
        """Start ClickHouse, then migrate, then the workers."""
        if self._embedded:
            await self._await_clickhouse_port(shared=shared)
            sock = self._clickhouse
            assert sock is not None
            self._start(supervisor, "clickhouse", "clickhouse", ("--fd", str(sock.fileno())), sock)
        if "workers" in self._roles:
            self._start(supervisor, "migrate", "migrate", once=True)
            if not await supervisor.done("migrate"):
                return
            for slot in range(self._settings.workers):
                arguments = ("--slot", str(slot), "--of", str(self._settings.workers))
                self._start(supervisor, "worker", f"worker-{slot}", arguments)

    async def _await_clickhouse_port(self, *, shared: bool) -> None:
        """Take ClickHouse's port as soon as the process of an earlier run gives it up; say so when that takes long."""
        waited_s = 0.0
        while shared and self._clickhouse is None:
            try:
                self._open_clickhouse()
            except UserError as error:
                await asyncio.sleep(PORT_RETRY_S)
                waited_s += PORT_RETRY_S
                if waited_s >= LEFTOVER_REPORT_S:
                    waited_s = 0.0
                    log.error("ClickHouse cannot start, hits are kept on disk meanwhile: %s", error)  # noqa: TRY400

    def _start(  # noqa: PLR0913  a child is what, called what, given what
        self,
        supervisor: Supervisor,
        kind: str,
        name: str,
        arguments: tuple[str, ...] = (),
        sock: socket.socket | None = None,
        *,
        once: bool = False,
    ) -> None:
        alive = ("--alive-fd", str(supervisor.alive_fd))
        descriptors = (sock.fileno(),) if sock else ()
        margin_s = CLICKHOUSE_STOP_S if kind == "clickhouse" else STOP_MARGIN_S
        stop_s = self._settings.stop_timeout_s + margin_s
        spec = ChildSpec(name, (*CHILD_COMMAND, kind, *arguments, *alive), descriptors, once, stop_s)
        supervisor.start(spec)

    async def _announce(self, status: FleetStatus, on_started: asyncio.Future[Started]) -> None:
        while not (await status.readiness()).ready:  # noqa: ASYNC110  another process becomes ready
            await asyncio.sleep(READY_POLL_S)
        if not on_started.done():
            ports = self._ports
            on_started.set_result(Started(ports.get("public", 0), ports["admin"], ports.get("clickhouse", 0)))

    async def _end(self, supervisor: Supervisor, background: list[asyncio.Task[None]]) -> None:
        await asyncio.gather(*background, return_exceptions=True)
        for kind in ("collector", "forwarder", "migrate", "worker", "clickhouse"):
            names = [name for name, child in supervisor.children.items() if name.startswith(kind) and child.is_watched]
            if names:
                log.info("stopping %s", ", ".join(names))
                await supervisor.stop(names)

    def _on_signals(self, stop: asyncio.Event, supervisor: Supervisor) -> None:
        def signalled() -> None:
            if stop.is_set():
                log.warning("signalled again: killing what still runs")
                supervisor.hurry()
            stop.set()

        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, signalled)

    def _note(self) -> None:
        """Write the run file anew."""
        assert self._supervisor is not None
        children = self._supervisor.children
        pids = {"parent": os.getpid(), **{name: child.pid for name, child in children.items() if child.pid}}
        path = run_file.run_file(self.data_dir, self.command)
        with suppress(OSError):  # a full disk must not end the box; the file is for tools
            run_file.write_run_file(path, self.command, pids, self._ports)

    def _close(self, supervisor: Supervisor) -> None:
        for sock in (*self._sockets, *([self._clickhouse] if self._clickhouse else [])):
            sock.close()
        supervisor.close()
        run_file.run_file(self.data_dir, self.command).unlink(missing_ok=True)


def runs_own_clickhouse(settings: Settings) -> bool:
    """Return whether `up` starts its own ClickHouse: unless CLICKHOUSE_URL names another address than its own port."""
    if not settings.clickhouse_url:
        return True
    url = urlsplit(settings.clickhouse_url)
    host = url.hostname or ""
    here = is_loopback(host) or host == settings.clickhouse_host
    return here and url.port == settings.clickhouse_port
