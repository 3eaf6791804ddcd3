"""The parent's side of processes: start children, start again what dies, end them in order.

- A child that dies is started again, for ever: at once the first time, then with a pause that doubles up to
  `PAUSE_S_MAX` for as long as it keeps dying quickly. Why it died is logged and kept.
- The parent alone holds the write end of the alive pipe. However the parent ends, the kernel closes it, and every
  child sees the end of the read end that it was given (`infra/child.py`).
- `stop` returns when every named child has ended: asked with SIGTERM, killed when its time is over, and that is said.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from asyncio.subprocess import DEVNULL, Process
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NamedTuple

QUICK_S = 3.0  # a child that lived shorter died quickly
PAUSE_S_FIRST = 0.1
PAUSE_S_MAX = 5.0

log = logging.getLogger("hitstream.supervisor")


class ChildSpec(NamedTuple):
    """One child: its name, what to execute, and the descriptors it inherits.

    A `once` child is done when it has ended with exit code 0. After SIGTERM a child has `stop_timeout_s`.
    """

    name: str
    command: tuple[str, ...]
    descriptors: tuple[int, ...] = ()
    once: bool = False
    stop_timeout_s: float = 10.0


@dataclass
class Child:
    """A child as it is now. `state` is one of starting, running, pausing, stopping, ended, done."""

    spec: ChildSpec
    state: str = "starting"
    process: Process | None = None
    started_s: float = 0.0
    restarts: int = 0
    last_exit: str = ""
    quick_deaths: int = 0
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int:
        """The process id; 0 when it does not run."""
        return self.process.pid if self.process else 0

    @property
    def is_watched(self) -> bool:
        """Whether it runs or is to be started again."""
        return self.task is not None and not self.task.done()

    @property
    def running_s(self) -> float:
        """Seconds since it was started; 0 when it does not run."""
        return time.monotonic() - self.started_s if self.process else 0.0


class Supervisor:
    """Starts and watches children. All methods belong to the event loop's thread, which must be the main thread.

    `environment` is what children get, `inherited` descriptors that all of them do. `on_change` is called whenever a
    child started or ended.
    """

    def __init__(
        self,
        environment: Mapping[str, str],
        on_change: Callable[[], None] = lambda: None,
        inherited: tuple[int, ...] = (),
    ) -> None:
        self.children: dict[str, Child] = {}
        self._environment = dict(environment)
        self._on_change = on_change
        self._inherited = inherited
        self._hurry = asyncio.Event()
        self.alive_fd, self._alive_write_fd = os.pipe()  # not inheritable: only the read end is handed on

    def start(self, spec: ChildSpec) -> None:
        """Start a child and keep it running."""
        if spec.name in self.children:
            raise ValueError(f"{spec.name} was started before")
        child = Child(spec)
        self.children[spec.name] = child
        child.task = asyncio.create_task(self._watch(child), name=f"watch {spec.name}")

    async def done(self, name: str) -> bool:
        """Return when a `once` child has ended: whether it did its work; False means it was stopped."""
        child = self.children[name]
        assert child.task is not None
        await asyncio.wait([child.task])
        return child.state == "done"

    async def stop(self, names: Iterable[str]) -> list[str]:
        """End children together and return the names of those that had to be killed."""
        children = [self.children[name] for name in names]
        for child in children:
            child.stopping.set()
            if child.process:
                child.state = "stopping"
                with suppress(ProcessLookupError):
                    child.process.terminate()
        killed = await asyncio.gather(*(self._end(child) for child in children))
        return [name for name in killed if name]

    def hurry(self) -> None:
        """Wait for no child any longer: what is being stopped, now or later, is killed."""
        self._hurry.set()

    def close(self) -> None:
        """Close the alive pipe."""
        for handle in (self.alive_fd, self._alive_write_fd):
            os.close(handle)

    async def _end(self, child: Child) -> str:
        assert child.task is not None
        hurry = asyncio.create_task(self._hurry.wait())
        try:
            await asyncio.wait(
                [child.task, hurry], timeout=child.spec.stop_timeout_s, return_when=asyncio.FIRST_COMPLETED
            )
            if child.task.done():
                return ""
            log.warning("%s (pid %d) did not end in time: killed", child.spec.name, child.pid)
            while not child.task.done():
                if child.process:
                    with suppress(ProcessLookupError):
                        child.process.kill()
                await asyncio.wait([child.task], timeout=1.0)
            return child.spec.name
        finally:
            hurry.cancel()

    async def _watch(self, child: Child) -> None:
        while not child.stopping.is_set():
            code = await self._run(child)
            if child.stopping.is_set():
                break
            if child.spec.once and code == 0:
                child.state = "done"
                self._on_change()
                return
            pause_s = self._pause_s(child)
            child.restarts += 1
            child.state = "pausing"
            when = f"starting it again in {pause_s:.1f} s" if pause_s else "starting it again"
            log.warning("%s %s: %s", child.spec.name, child.last_exit, when)
            self._on_change()
            if pause_s:
                with suppress(TimeoutError):
                    await asyncio.wait_for(child.stopping.wait(), pause_s)
        child.state = "ended"
        self._on_change()

    async def _run(self, child: Child) -> int | None:
        """Run the child once and return its exit code; None when it could not be started."""
        child.state = "starting"
        child.started_s = time.monotonic()
        try:
            process = await asyncio.create_subprocess_exec(
                *child.spec.command,
                stdin=DEVNULL,
                env=self._environment,
                pass_fds=(self.alive_fd, *self._inherited, *child.spec.descriptors),
                process_group=0,  # a terminal's Ctrl-C reaches the parent alone, which ends children in order
            )
        except OSError as error:
            child.last_exit = f"could not be started ({error.strerror})"
            return None
        child.process = process
        child.state = "running"
        if child.stopping.is_set():
            child.state = "stopping"
            with suppress(ProcessLookupError):
                process.terminate()
        log.debug("%s started, pid %d", child.spec.name, process.pid)
        self._on_change()
        code = await process.wait()
        child.last_exit = f"(pid {process.pid}) {describe_exit(code)} after {child.running_s:.1f} s"
        child.process = None
        return code

    @staticmethod
    def _pause_s(child: Child) -> float:
        quick = time.monotonic() - child.started_s < QUICK_S
        child.quick_deaths = child.quick_deaths + 1 if quick else 0
        if child.quick_deaths <= 1:
            return 0.0
        return float(min(PAUSE_S_FIRST * 2 ** min(child.quick_deaths - 2, 16), PAUSE_S_MAX))


def describe_exit(code: int) -> str:
    """Return an exit code in words."""
    if code >= 0:
        return f"ended with exit code {code}"
    with suppress(ValueError):
        return f"was killed by {signal.Signals(-code).name}"
    return f"was killed by signal {-code}"
