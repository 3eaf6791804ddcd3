"""An edge host as docs/kafka.md has it: `hitstream collect` and `hitstream forward` on one data directory."""

from __future__ import annotations

import urllib.request
from pathlib import Path
from typing import Any, Self

from support.parent import Parent
from support.waiting import wait_until

START_S_MAX = 60.0
LAG = "hitstream_forwarder_lag_bytes"


class EdgeHost:
    """Collectors and a forwarder; `port` takes hits."""

    def __init__(self, data_dir: Path, kafka: str, *, collectors: int = 2, **settings: Any) -> None:
        own = {"kafka_bootstrap_servers": kafka, "port": 0, "admin_port": 0, "collectors": collectors}
        self._collect = Parent("collect", data_dir, **(own | settings))
        self._forward = Parent("forward", data_dir, **(own | settings))

    def __enter__(self) -> Self:
        for parent in (self._collect, self._forward):
            parent.start()
        try:
            wait_until(self._is_ready, START_S_MAX, self.log_tail)
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def port(self) -> int:
        """Where hits are taken."""
        return self._collect.ports()["public"]

    def stop(self) -> tuple[int, int]:
        """End both with SIGTERM, the collectors first; return the exit codes."""
        return self._collect.stop(), self._forward.stop()

    def lag_bytes(self) -> int:
        """Return about how much stands in the spools, not yet forwarded."""
        lines = _get(f"http://127.0.0.1:{self._forward.ports()['admin']}/metrics").splitlines()
        return int(float(next(line for line in lines if line.startswith(LAG)).split()[-1]))

    def log_tail(self) -> str:
        """Return the last lines that both printed."""
        return self._collect.log_tail()

    def _is_ready(self) -> bool:
        return all(_is_ready(parent.ports().get("admin", 0)) for parent in (self._collect, self._forward))


def _is_ready(port: int) -> bool:
    try:
        return bool(port) and bool(_get(f"http://127.0.0.1:{port}/readyz"))
    except OSError:
        return False


def _get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=10) as answer:
        return answer.read().decode()
