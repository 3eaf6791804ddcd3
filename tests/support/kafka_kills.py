"""kill -9 around Kafka, in an order that a seed decides: the box's processes, its broker, and workers that come and go.

A *guest* is a `hitstream work` elsewhere: a dynamic member of the group beside the box's static ones. It comes, and
leaves when it is asked to or dies with all of its processes.
"""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from contextlib import suppress
from http.client import HTTPException
from pathlib import Path
from random import Random
from typing import Any

from support.box import Box
from support.parent import Parent
from support.waiting import wait_until

from infra.kafka_server.broker import KafkaServer

ROLES = ("forwarder", "broker", "worker", "collector", "clickhouse")
GUEST = "guest"
BROKER_DOWN_S_MAX = 2.0
BACK_S_MAX = 90.0


class KafkaKills:
    """What is killed, and what was done so far (`done`). `guest_settings` are those of the box that workers have."""

    def __init__(self, box: Box, kafka: KafkaServer, directory: Path, rng: Random, guest_settings: dict[str, Any]):
        self.done: Counter[str] = Counter()
        self._box = box
        self._kafka = kafka
        self._rng = rng
        own = {
            "kafka_bootstrap_servers": kafka.bootstrap_servers,
            "clickhouse_url": f"http://127.0.0.1:{box.clickhouse_port}",
            "admin_port": 0,
        }
        self._guest = Parent("work", directory / "guest", **(own | guest_settings))

    def run(self, *, kills: int, guest_turns: int, pause_s: tuple[float, float]) -> None:
        """Kill each role equally often, in any order, with guests coming and going in between.

        Before about every other turn the box has caught on again: hits reach ClickHouse. The others meet it at work
        on the ones before.
        """
        turns = [*(ROLES[n % len(ROLES)] for n in range(kills)), *([GUEST] * guest_turns)]
        self._rng.shuffle(turns)
        try:
            for turn in turns:
                if self._rng.random() < 0.5:
                    self.wait_loading()
                time.sleep(self._rng.uniform(*pause_s))
                self._take(turn)
            self.wait_loading()
        finally:
            self._guest.stop()
        if not self._kafka.is_running:
            self._kafka.start()
        self._kafka.wait_ready()
        self._box.wait_ready()

    def wait_loading(self) -> None:
        """Return once rows have come since the call: the way through Kafka is open."""
        self.wait_rows(0, BACK_S_MAX)
        self.wait_rows(self._rows() + 1, BACK_S_MAX)

    def wait_rows(self, count: int, timeout_s: float) -> None:
        """Return once there are so many rows."""
        wait_until(lambda: self._rows() >= count, timeout_s, self._why_not)

    def _take(self, turn: str) -> None:
        if turn == GUEST:
            self._change_guest()
        elif turn == "broker":
            self._kafka.kill()
            time.sleep(self._rng.uniform(0, BROKER_DOWN_S_MAX))  # hits gather in the spool meanwhile
            self._kafka.start()
            self.done["broker"] += 1
        else:
            self._kill(turn)

    def _kill(self, role: str) -> None:
        def found() -> list[int]:
            return self._box.children(role) + (self._guest.children(role) if role == "worker" else [])

        wait_until(found, BACK_S_MAX, self._why_not)
        with suppress(ProcessLookupError):
            os.kill(self._rng.choice(found()), signal.SIGKILL)
        self.done[role] += 1

    def _change_guest(self) -> None:
        if self._guest.process is None:
            self._guest.start()
            self.done["guest joined"] += 1
        elif self._rng.random() < 0.5:
            wait_until(lambda: self._guest.children("worker"), BACK_S_MAX, self._why_not)  # it hears signals by then
            assert self._guest.stop() == 0, self._guest.log_tail()
            self.done["guest left"] += 1
        else:
            self._guest.kill_whole()
            self.done["guest died"] += 1

    def _rows(self) -> int:
        """Return how many rows there are; -1 while ClickHouse is away."""
        try:
            return int(self._box.query("SELECT count() AS n FROM events")[0]["n"])
        except (OSError, HTTPException):
            return -1

    def _why_not(self) -> str:
        return f"nothing comes through after {dict(self.done)}\n{self._box.log_tail()}\n{self._guest.log_tail()}"
