"""A hitstream command that stays in the foreground, in a process of its own, as a user starts it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

FOREIGN = ("HITSTREAM_", "CLICKHOUSE_", "KAFKA_")


class Parent:
    """`hitstream COMMAND` on a data directory; may be killed and started again on the same one.

    It sees of the environment what has nothing to do with hitstream, and `settings`: `kafka_bootstrap_servers` and
    `clickhouse_url` under their usual names, the others as HITSTREAM_*.
    """

    def __init__(self, command: str, data_dir: Path, **settings: Any) -> None:
        self.hitstream_command = command
        self.data_dir = data_dir
        self.process: subprocess.Popen[bytes] | None = None
        self.log_path = data_dir.parent / f"{data_dir.name}.log"
        own = {"data_dir": data_dir, "host": "127.0.0.1", "config": data_dir.parent / "no-such-file.toml"}
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)},
            **{_variable(name): str(value) for name, value in (own | settings).items()},
        }

    def __enter__(self) -> Self:
        self.start()
        self.wait_ready()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start the parent; returns at once."""
        command = [str(Path(sys.executable).with_name("hitstream")), self.hitstream_command]
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                command, env=self.environment, stdout=log, stderr=log, cwd=self.data_dir.parent
            )

    def wait_ready(self) -> None:
        """Return when it does what it is for; here at once."""

    def stop(self) -> int:
        """End it with SIGTERM and return its exit code."""
        if self.process is None:
            return 0
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise RuntimeError(
                f"hitstream {self.hitstream_command} did not end on SIGTERM:\n{self.log_tail()}"
            ) from None
        finally:
            self.process = None

    def kill(self) -> None:
        """Kill -9 of the parent; its children find out."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()
        self.process = None

    def kill_whole(self) -> None:
        """Kill -9 of the parent and of all its children, as when the host dies."""
        children = self.children("")
        self.kill()
        for pid in children:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

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

    def ports(self) -> dict[str, int]:
        """Return the ports it has, by name; {} while it has written none down."""
        name = "run.json" if self.hitstream_command == "up" else f"run-{self.hitstream_command}.json"
        try:
            return json.loads((self.data_dir / name).read_bytes())["ports"]
        except FileNotFoundError:
            return {}

    def log_tail(self, lines: int = 60) -> str:
        """Return the last lines that it printed."""
        if not self.log_path.exists():
            return ""
        return "\n".join(self.log_path.read_text(errors="replace").splitlines()[-lines:])


def _variable(setting: str) -> str:
    usual = {"kafka_bootstrap_servers": "KAFKA_BOOTSTRAP_SERVERS", "clickhouse_url": "CLICKHOUSE_URL"}
    return usual.get(setting, f"HITSTREAM_{setting.upper()}")
