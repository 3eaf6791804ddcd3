"""The edge: CPU per hit of the collector and of nginx serving and logging a static GIF, side by side.

Whole servers, driven from outside by wrk over loopback with browser requests of 2,000 visitors; each server is one
process on one core. What counts is the server process's own CPU time (user and system, from /proc), divided by the
requests it answered; rounds are interleaved, and the ratio of a round's two figures is what to trust. Run it as
`python -m benchmarks.bench_edge [--rounds 7] [--seconds 4] [--connections 64]`; it writes `results/edge.json`.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.results_file import write_result
from ingest.collector import run
from ingest.counters import Counters
from schemas.settings import load

VISITORS = 2000
CLOCK_TICKS = os.sysconf("SC_CLK_TCK")
SERVER_CORE, CLIENT_CORE = 0, 1
START_S_MAX = 10.0

NGINX_CONF = """
worker_processes 1; daemon off; pid {root}/nginx.pid; error_log {root}/error.log; user {user};
events {{ worker_connections 8192; }}
http {{
  access_log {root}/access.log combined; keepalive_requests 1000000000; tcp_nodelay on;
  client_body_temp_path {root}/b; proxy_temp_path {root}/p; fastcgi_temp_path {root}/f; uwsgi_temp_path {root}/u;
  scgi_temp_path {root}/s;
  server {{ listen 127.0.0.1:{port}; location = /p.gif {{ empty_gif; {log} }} }}
}}
"""

# A browser's pixel request: own cookie, referrer and a query of 160 bytes per visitor, client hints, common fields.
WRK_LUA = r"""
local visitors, now, requests = %d, %d, {}
for v = 1, visitors do
  local query = string.format("s=shop&e=PageView&u=https%%%%3A%%%%2F%%%%2Fshop.example%%%%2Fproducts%%%%2F%%05d"
    .. "%%%%3Futm_source%%%%3Dnewsletter&r=https%%%%3A%%%%2F%%%%2Fshop.example%%%%2F&id=%%08x&t=%%d000&l=en-US",
    v, v * 7919, now)
  query = query .. string.rep("x", 160 - #query)
  requests[v] = "GET /p.gif?" .. query .. " HTTP/1.1\r\n"
    .. "Host: t.shop.example\r\nConnection: keep-alive\r\nsec-ch-ua-platform: \"Windows\"\r\n"
    .. "User-Agent: Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) "
    .. "Chrome/13" .. v %% 10 .. ".0.0.0 Safari/537.36\r\n"
    .. "sec-ch-ua: \"Google Chrome\";v=\"131\", \"Chromium\";v=\"131\", \"Not_A Brand\";v=\"24\"\r\n"
    .. "sec-ch-ua-mobile: ?0\r\nAccept: image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8\r\n"
    .. "Sec-Fetch-Site: same-site\r\nSec-Fetch-Mode: no-cors\r\nSec-Fetch-Dest: image\r\n"
    .. string.format("Referer: https://shop.example/products/%%05d\r\n", v)
    .. "Accept-Encoding: gzip, deflate, br, zstd\r\nAccept-Language: en-US,en;q=0.9\r\n"
    .. string.format("Cookie: _ga=GA1.1.%%d.1700000000; _hs=%%016x.%%d\r\n\r\n", v * 104729, v * 7919, now - 86400)
end
local at = math.random(visitors)
function request() at = at %% visitors + 1; return requests[at] end
"""


class Server:
    """A server under test: a name, its port, and the process whose CPU time counts."""

    def __init__(self, name: str, port: int, pid: int) -> None:
        self.name = name
        self.port = port
        self.pid = pid
        self.us_per_hit: list[float] = []
        self.hits_per_s: list[float] = []

    def cpu_s(self) -> float:
        """Return the CPU seconds that the process has used, in user mode and in the kernel."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / CLOCK_TICKS


def free_port() -> int:
    """Return a port that is free now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def await_answer(port: int) -> None:
    """Return once the server on a port answers a pixel request; raises TimeoutError."""
    deadline = time.monotonic() + START_S_MAX
    while time.monotonic() < deadline:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=START_S_MAX) as sock:
            sock.sendall(b"GET /p.gif HTTP/1.1\r\nHost: a\r\n\r\n")
            if sock.recv(1):
                return
        time.sleep(0.05)
    raise TimeoutError(f"nobody answers on port {port}")


@contextmanager
def nginx(name: str, root: Path, log: str) -> Iterator[Server]:
    """Run nginx with one worker on its own configuration in `root`."""
    program = shutil.which("nginx") or "/usr/sbin/nginx"
    if not Path(program).exists():
        raise SystemExit("nginx is not installed (apt-get install nginx-light)")
    root.mkdir()
    port = free_port()
    user = "root" if os.getuid() == 0 else str(os.getuid())
    (root / "nginx.conf").write_text(NGINX_CONF.format(root=root, port=port, log=log, user=user))
    command = ["taskset", "-c", str(SERVER_CORE), program, "-c", str(root / "nginx.conf")]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        await_answer(port)
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        yield Server(name, port, int(children[0]))
    finally:
        process.terminate()
        process.wait()


@contextmanager
def collector(root: Path) -> Iterator[Server]:
    """Run one collector process on its own spool in `root`."""
    with socket.create_server(("127.0.0.1", 0), backlog=4096) as sock:
        command = ["taskset", "-c", str(SERVER_CORE), sys.executable, "-m", "benchmarks.bench_edge"]
        command += ["--collect", str(sock.fileno()), str(root)]
        process = subprocess.Popen(command, pass_fds=[sock.fileno()])
        try:
            port = int(sock.getsockname()[1])
            await_answer(port)
            yield Server("hitstream collector", port, process.pid)
        finally:
            process.terminate()
            process.wait()


def collect(listen_fd: int, root: Path) -> int:
    """Be the collector process."""

    def begin(stop: asyncio.Event, counters: Counters) -> None:
        del counters
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)

    settings = load(data_dir=root, collectors=1, spool_bytes_max=64 << 30)
    return run(settings, listen_fd, root / "spool", begin=begin)


def drive(server: Server, script: Path, seconds: float, connections: int) -> None:
    """Load a server with wrk and note CPU per hit and hits per second; fails on any answer that is not 2xx."""
    before = server.cpu_s()
    command = [
        "taskset",
        "-c",
        str(CLIENT_CORE),
        "wrk",
        "-t1",
        f"-c{connections}",
        f"-d{seconds:g}s",
        "-s",
        str(script),
    ]
    done = subprocess.run([*command, f"http://127.0.0.1:{server.port}/"], capture_output=True, text=True, check=True)
    used = server.cpu_s() - before
    match = re.search(r"(\d+) requests in ([\d.]+)s", done.stdout)
    if match is None or "Non-2xx" in done.stdout:
        raise SystemExit(f"{server.name}: wrk says\n{done.stdout}")
    hits = int(match[1])
    server.us_per_hit.append(used / hits * 1e6)
    server.hits_per_s.append(hits / float(match[2]))


def main() -> int:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description="CPU per hit: collector and nginx")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--collect", nargs=2, metavar=("FD", "ROOT"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.collect:
        return collect(int(given.collect[0]), Path(given.collect[1]))
    for program in ("wrk", "taskset"):
        if shutil.which(program) is None:
            raise SystemExit(f"{program} is not installed (apt-get install wrk util-linux)")
    with tempfile.TemporaryDirectory() as temporary, ExitStack() as stack:
        root = Path(temporary)
        script = root / "visitors.lua"
        script.write_text(WRK_LUA % (VISITORS, int(time.time())))
        ours = stack.enter_context(collector(root / "collector"))
        logged = stack.enter_context(nginx("nginx empty_gif + access_log", root / "logged", ""))
        bare = stack.enter_context(nginx("nginx empty_gif", root / "bare", "access_log off;"))
        servers = [ours, logged, bare]
        for server in servers:
            drive(server, script, 1, given.connections)
            server.us_per_hit.clear()
            server.hits_per_s.clear()
        for _ in range(given.rounds):
            for server in servers:
                drive(server, script, given.seconds, given.connections)
        report(servers, ours)
    return 0


def report(servers: list[Server], ours: Server) -> None:
    """Print and write medians, spread and our ratio to each server, round by round."""
    table = Table(title="CPU per hit, whole server process", title_justify="left")
    for column in ("server", "us/hit", "spread", "hits/s", "ours / it", "spread"):
        table.add_column(column, justify="left" if column == "server" else "right")
    figures = {}
    for server in servers:
        cpu = sorted(server.us_per_hit)
        ratios = sorted(a / b for a, b in zip(ours.us_per_hit, server.us_per_hit, strict=True))
        row = {
            "cpu_us_per_hit": round(statistics.median(cpu), 2),
            "cpu_us_per_hit_spread": [round(cpu[0], 2), round(cpu[-1], 2)],
            "hits_per_s": round(statistics.median(server.hits_per_s)),
            "ours_to_it": round(statistics.median(ratios), 3),
            "ours_to_it_spread": [round(ratios[0], 3), round(ratios[-1], 3)],
        }
        figures[server.name] = row
        table.add_row(
            server.name,
            f"{row['cpu_us_per_hit']:.2f}",
            f"{cpu[0]:.2f} to {cpu[-1]:.2f}",
            f"{row['hits_per_s']:,}",
            f"{row['ours_to_it']:.2f}",
            f"{ratios[0]:.2f} to {ratios[-1]:.2f}",
        )
    Console(highlight=False).print(table)
    nginx_says = subprocess.run(["/usr/sbin/nginx", "-v"], capture_output=True, text=True, check=True).stderr
    print(write_result("edge", figures, {"nginx": nginx_says.strip().rpartition("/")[2]}))


if __name__ == "__main__":
    sys.exit(main())
