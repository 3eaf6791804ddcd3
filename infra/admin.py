"""The admin port: `/healthz`, `/readyz`, `/metrics` and a status page, for one process or a parent of several.

- `/healthz` answers 200 while the process lives, `/readyz` 200 or 503 and a JSON object that says why.
- A web page must not reach it: a request whose Host is no name of ours is refused (DNS rebinding). Bound to loopback,
  only loopback names and the configured one are ours; bound elsewhere, any address is, too, and scrapers and probes
  may use any name, while the page stays on this machine until there is a login.
- Children serve the same on a unix socket in the run directory, whatever the length of its path.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path
from typing import NamedTuple, Protocol

import orjson
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware
from prometheus_client import CollectorRegistry, generate_latest

CONTENT_TYPE_METRICS = "text/plain; version=0.0.4; charset=utf-8"
PAGE_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}

log = logging.getLogger("hitstream.admin")


class Readiness(NamedTuple):
    """Whether the process can do its work now, and what each part says: "ready" or why not.

    `notes` are of parts that work, but not as somebody may think.
    """

    ready: bool
    processes: Mapping[str, str]
    notes: Mapping[str, str] = {}


class Status(Protocol):
    """What an admin port shows."""

    async def readiness(self) -> Readiness:
        """Return the readiness now."""
        ...

    async def metrics(self) -> bytes:
        """Return the metrics in Prometheus' text format."""
        ...

    async def page(self) -> str:
        """Return the status page's HTML; "" when there is none."""
        ...


class ProcessStatus:
    """The status of this process alone. `why_not` returns "" when it is ready, else the reason in words; so `note`."""

    def __init__(
        self, name: str, registry: CollectorRegistry, why_not: Callable[[], str], note: Callable[[], str] = str
    ) -> None:
        self._name = name
        self._registry = registry
        self._why_not = why_not
        self._note = note

    async def readiness(self) -> Readiness:
        """Return the readiness now."""
        reason, note = self._why_not(), self._note()
        return Readiness(not reason, {self._name: reason or "ready"}, {self._name: note} if note else {})

    async def metrics(self) -> bytes:
        """Return the registry's metrics."""
        return generate_latest(self._registry)

    async def page(self) -> str:
        """Return "": the parent has the page."""
        return ""


def admin_app(status: Status, host: str = "") -> web.Application:
    """Return the admin site. `host` is the address it is bound to; "" for a unix socket, where files guard it."""

    async def healthz(_: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def readyz(_: web.Request) -> web.Response:
        ready, processes, notes = await status.readiness()
        said = {"ready": ready, "processes": processes} | ({"notes": notes} if notes else {})
        body = orjson.dumps(said) + b"\n"
        return web.Response(status=200 if ready else 503, body=body, content_type="application/json")

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(body=await status.metrics(), headers={"Content-Type": CONTENT_TYPE_METRICS})

    async def page(request: web.Request) -> web.Response:
        if host and not (is_loopback(host) or is_loopback(request.remote or "")):
            raise web.HTTPForbidden(text="this page is shown on the machine itself only; /metrics is open\n")
        html = await status.page()
        if not html:
            raise web.HTTPNotFound(text="not found\n")
        return web.Response(text=html, content_type="text/html", headers=PAGE_HEADERS)

    app = web.Application(middlewares=[_host_guard(host)] if host else [])
    app.router.add_get("/healthz", healthz)
    app.router.add_get("/readyz", readyz)
    app.router.add_get("/metrics", metrics)
    app.router.add_get("/", page)
    return app


async def serve_admin(app: web.Application, host: str, port: int) -> tuple[web.AppRunner, int]:
    """Serve on a TCP port and return the runner and the port. Raises OSError when the port cannot be had."""
    runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=1.0)
    await runner.setup()
    site = web.TCPSite(runner, host, port)
    try:
        await site.start()
    except OSError:
        await runner.cleanup()
        raise
    return runner, int(runner.addresses[0][1])


def is_loopback(address: str) -> bool:
    """Return whether an address, or `localhost`, is this machine's loopback."""
    if address == "localhost":
        return True
    try:
        return ip_address(address).is_loopback
    except ValueError:
        return False


def host_allowed(header: str, host: str, path: str) -> bool:
    """Return whether a request with this Host header may have `path` from a site bound to `host`."""
    name = _host_name(header)
    if name in ("localhost", host.lower()) or is_loopback(name):
        return True
    if is_loopback(host):
        return False
    if path != "/":
        return True
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def _host_name(header: str) -> str:
    """Return the name in a Host header, lower case, without port and brackets."""
    if header.startswith("["):
        return header[1:].partition("]")[0].lower()
    return header.partition(":")[0].lower().removesuffix(".")


def _host_guard(host: str) -> Middleware:
    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        if not host_allowed(request.headers.get("Host", ""), host, request.path):
            raise web.HTTPForbidden(text="this Host is not known here: use the address, or set admin_host\n")
        return await handler(request)

    return guard


class SocketDirectory:
    """The run directory as an address: unix socket paths end at 107 bytes, /proc/self/fd/N/name does not reach that."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory
        self._handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def address(self, name: str) -> str:
        """Return where process `name` serves, for bind and connect in this process."""
        return f"/proc/self/fd/{self._handle}/{name}.sock"

    def remove(self, name: str) -> None:
        """Remove a socket's file, if there is one."""
        (self._directory / f"{name}.sock").unlink(missing_ok=True)

    def close(self) -> None:
        """Close the directory."""
        os.close(self._handle)


def serve_in_thread(name: str, status: Status, directory: Path) -> None:
    """Serve the status of process `name` on its unix socket, in a thread of its own, for the life of the process.

    A thread, so that a process without an event loop has one, and a busy loop's lag is not the scraper's. When the
    socket cannot be had the process works on without it, and says so.
    """

    async def serve() -> None:
        sockets = SocketDirectory(directory)
        sockets.remove(name)
        runner = web.AppRunner(admin_app(status), access_log=None, handle_signals=False)
        await runner.setup()
        await web.UnixSite(runner, sockets.address(name)).start()
        await asyncio.Event().wait()

    def run() -> None:
        with suppress(RuntimeError):  # the interpreter ends under a daemon thread
            try:
                asyncio.run(serve())
            except OSError as error:
                log.warning("no metrics from %s: %s", name, error)

    threading.Thread(target=run, name="admin", daemon=True).start()
