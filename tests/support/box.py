"""A whole box as a user runs it: `hitstream up` in a process of its own, started with CONTRACT's variables alone."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlencode

START_S_MAX = 60.0
FOREIGN = ("HITSTREAM_", "CLICKHOUSE_", "KAFKA_")


def free_ports(count: int) -> list[int]:
    """Return ports that are free now."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for sock in sockets:
            sock.bind(("127.0.0.1", 0))
        return [sock.getsockname()[1] for sock in sockets]
    finally:
        for sock in sockets:
            sock.close()


class Box:
    """One `hitstream up` on a data directory; may be killed and started again on the same one.

    `kafka`: bootstrap servers; without, its log is local.
    """

    def __init__(
        self, data_dir: Path, *, collectors: int = 2, workers: int = 2, kafka: str = "", **settings: Any
    ) -> None:
        self.data_dir = data_dir
        self.port, self.admin_port, self.clickhouse_port = free_ports(3)
        self.process: subprocess.Popen[bytes] | None = None
        self.log_path = data_dir.parent / f"{data_dir.name}.log"
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)},
            "HITSTREAM_DATA_DIR": str(data_dir),
            "HITSTREAM_HOST": "127.0.0.1",
            "HITSTREAM_PORT": str(self.port),
            "HITSTREAM_ADMIN_PORT": str(self.admin_port),
            "HITSTREAM_CLICKHOUSE_PORT": str(self.clickhouse_port),
            "HITSTREAM_COLLECTORS": str(collectors),
            "HITSTREAM_WORKERS": str(workers),
            "HITSTREAM_CONFIG": str(data_dir.parent / "no-such-file.toml"),
            **({"KAFKA_BOOTSTRAP_SERVERS": kafka} if kafka else {}),
            **{f"HITSTREAM_{name.upper()}": str(value) for name, value in settings.items()},
        }

    def __enter__(self) -> Self:
        self.start()
        self.wait_ready()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start the parent; returns at once."""
        command = [str(Path(sys.executable).with_name("hitstream")), "up"]
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                command, env=self.environment, stdout=log, stderr=log, cwd=self.data_dir.parent
            )

    def wait_ready(self) -> None:
        """Return when hits are taken and ClickHouse has its tables."""
        deadline = time.monotonic() + START_S_MAX
        while not (self._answers_hits() and self._has_tables()):
            if self.process is not None and self.process.poll() is not None:
                raise RuntimeError(f"hitstream up ended with {self.process.returncode}:\n{self.log_tail()}")
            if time.monotonic() > deadline:
                raise RuntimeError(f"the box is not ready after {START_S_MAX} s:\n{self.log_tail()}")
            time.sleep(0.05)

    def stop(self) -> int:
        """End the box with SIGTERM and return its exit code."""
        if self.process is None:
            return 0
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise RuntimeError(f"hitstream up did not end on SIGTERM:\n{self.log_tail()}") from None
        finally:
            self.process = None

    def children(self, role: str) -> list[int]:
        """Return the pids of the parent's children with `role` in their command: collector, forwarder, worker, …"""
        if self.process is None:
            return []
        found = []
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                command = (entry / "cmdline").read_bytes().split(b"\0")
            except (OSError, ValueError):
                continue
            if parent == self.process.pid and any(part.startswith(role.encode()) for part in command):
                found.append(int(entry.name))
        return found

    def query(self, sql: str) -> list[dict[str, Any]]:
        """Return a query's rows over the plain HTTP interface; 64-bit numbers as int."""
        settings = {
            "database": "hitstream",
            "default_format": "JSONEachRow",
            "output_format_json_quote_64bit_integers": 0,
        }
        url = f"http://127.0.0.1:{self.clickhouse_port}/?{urlencode(settings)}"
        with urllib.request.urlopen(url, sql.encode(), timeout=120) as answer:
            return [json.loads(line) for line in answer.read().splitlines()]

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
        while True:
            ledger = self.ledger()
            if ledger["in_flight"] == 0:
                return ledger
            if time.monotonic() > deadline:
                raise RuntimeError(f"still in flight after {timeout_s} s: {ledger}\n{self.log_tail()}")
            time.sleep(0.2)

    def log_tail(self, lines: int = 60) -> str:
        """Return the last lines that the box printed."""
        if not self.log_path.exists():
            return ""
        return "\n".join(self.log_path.read_text(errors="replace").splitlines()[-lines:])

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
