"""A whole box as a user runs it: `hitstream up` in a process of its own, started with CONTRACT's variables alone."""

from __future__ import annotations

import json
import os
import random
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from support.parent import Parent

START_S_MAX = 60.0
PORTS = range(10_000, 32_000)
PORT_STEP = 4
PORT_SHARES = 4
_turns = count(random.randrange(500))  # runs beside each other on one machine begin at different places
LEDGER_PAUSE_S_MAX = 3.0  # the command takes most of a second of a core from whoever drains


def free_ports(wanted: int) -> list[int]:
    """Return ports that are free now, and so are the PORT_STEP - 1 behind each: a role's admin port stands there.

    They lie below those that the kernel gives to outgoing connections and to port 0, in a part of this process's own:
    so nobody takes them before they are used.
    """
    share = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % PORT_SHARES
    found: list[int] = []
    while len(found) < wanted:
        port = PORTS.start + PORT_STEP * (PORT_SHARES * next(_turns) + share)
        if port >= PORTS.stop - PORT_STEP:
            raise AssertionError("no port is left: one process of tests wants more than there are")
        if all(map(_is_free, range(port, port + PORT_STEP))):
            found.append(port)
    return found


def _is_free(port: int) -> bool:
    with socket.socket() as sock:
        try:
            sock.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


class Box(Parent):
    """One `hitstream up` on a data directory. `kafka`: bootstrap servers; without, its log is local."""

    def __init__(
        self, data_dir: Path, *, collectors: int = 2, workers: int = 2, kafka: str = "", **settings: Any
    ) -> None:
        self.port, self.admin_port, self.clickhouse_port = free_ports(3)
        own = {
            "port": self.port,
            "admin_port": self.admin_port,
            "clickhouse_port": self.clickhouse_port,
            "collectors": collectors,
            "workers": workers,
            **({"kafka_bootstrap_servers": kafka} if kafka else {}),
        }
        super().__init__("up", data_dir, **(own | settings))

    def wait_ready(self) -> None:
        """Return when hits are taken and ClickHouse has its tables."""
        deadline = time.monotonic() + START_S_MAX
        while not (self._answers_hits() and self._has_tables()):
            if self.process is not None and self.process.poll() is not None:
                raise RuntimeError(f"hitstream up ended with {self.process.returncode}:\n{self.log_tail()}")
            if time.monotonic() > deadline:
                raise RuntimeError(f"the box is not ready after {START_S_MAX} s:\n{self.log_tail()}")
            time.sleep(0.05)

    def query(self, sql: str) -> list[dict[str, Any]]:
        """Return a query's rows over the plain HTTP interface; 64-bit numbers as int."""
        return list(self.rows(sql))

    def rows(self, sql: str) -> Iterator[dict[str, Any]]:
        """Yield a query's rows as they come; see `query`."""
        settings = {
            "database": "hitstream",
            "default_format": "JSONEachRow",
            "output_format_json_quote_64bit_integers": 0,
        }
        url = f"http://127.0.0.1:{self.clickhouse_port}/?{urlencode(settings)}"
        with urllib.request.urlopen(url, sql.encode(), timeout=120) as answer:
            yield from map(json.loads, answer)

    def command(self, *arguments: str) -> str:
        """Run a hitstream command against this box and return what it printed. Raises on an exit code but 0."""
        program = str(Path(sys.executable).with_name("hitstream"))
        done = subprocess.run(
            [program, *arguments], env=self.environment, capture_output=True, text=True, check=False, timeout=120
        )
        if done.returncode:
            raise RuntimeError(
                f"hitstream {' '.join(arguments)} ended with {done.returncode}: {done.stdout}{done.stderr}"
            )
        return done.stdout

    def ledger(self) -> dict[str, Any]:
        """Return `hitstream ledger --format json`."""
        return json.loads(self.command("ledger", "--format", "json"))

    def wait_drained(self, timeout_s: float = 120.0) -> dict[str, Any]:
        """Return the ledger once nothing is in flight."""
        deadline = time.monotonic() + timeout_s
        pause_s = 0.2
        while True:
            ledger = self.ledger()
            if ledger["in_flight"] == 0:
                return ledger
            if time.monotonic() > deadline:
                raise RuntimeError(f"still in flight after {timeout_s} s: {ledger}\n{self.log_tail()}")
            time.sleep(pause_s)
            pause_s = min(1.5 * pause_s, LEDGER_PAUSE_S_MAX)

    def _answers_hits(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.admin_port}/readyz", timeout=5) as answer:
                return answer.status == 200
        except OSError:
            return False

    def _has_tables(self) -> bool:
        try:
            return bool(self.query("SELECT 1 FROM system.tables WHERE database = 'hitstream' AND name = 'ad_spend'"))
        except OSError:
            return False
