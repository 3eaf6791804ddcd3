"""Where a simulated process may die, wait for others, or lose an answer: before, within and after every call of a port.

Every such place is a step, counted from 1 in the order of the run. A plan says what happens at which step; a random
plan draws it from a seed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from random import Random
from typing import Protocol, runtime_checkable

from schemas.errors import RetryError

TORN = -1


class Killed(BaseException):
    """The process that made this call is dead. No handler of the product may catch it."""


class Plan(Protocol):
    """Says what happens at a step."""

    def at(self, step: int, name: str, *, retry: bool) -> str:
        """Return "", "kill", "stall" (others go on first), "rebalance" (partitions are dealt anew), "land" or "retry".

        "land": everything that was late lands. "retry": an answer is lost; only where `retry`.
        """
        ...

    def late(self, step: int) -> int | None:
        """Return how many steps later the rest of an insert lands that broke off at `step`; None: never.

        TORN: never, as the engine died, too, between writing down a block's token and putting its rows in place.
        """
        ...


@runtime_checkable
class Torn(Protocol):
    """A block that can be left half-done."""

    def tear(self) -> None:
        """Leave its token alone."""
        ...


class Fixed:
    """Happenings by step: `kills` and `retries` (step: as `late` says), `stalls`, `rebalances`."""

    def __init__(
        self,
        kills: dict[int, int | None] | None = None,
        stalls: tuple[int, ...] = (),
        retries: dict[int, int | None] | None = None,
        rebalances: tuple[int, ...] = (),
    ) -> None:
        self.kills = kills or {}
        self.stalls = stalls
        self.retries = retries or {}
        self.rebalances = rebalances

    def at(self, step: int, name: str, *, retry: bool) -> str:
        if step in self.kills:
            return "kill"
        if step in self.stalls:
            return "stall"
        if step in self.rebalances:
            return "rebalance"
        return "retry" if retry and step in self.retries else ""

    def late(self, step: int) -> int | None:
        return self.kills.get(step, self.retries.get(step))


class Drawn:
    """A happening at about every `every`-th step, drawn from `random`; none from step `quiet_from` on."""

    def __init__(
        self,
        random: Random,
        every: int,
        quiet_from: int,
        kinds: tuple[str, ...] = ("kill", "kill", "stall", "retry"),
        lates: tuple[int | None, ...] = (None, 0, 1, 3, 10, 40),
    ) -> None:
        self._random = random
        self._every = every
        self._quiet_from = quiet_from
        self._kinds = kinds
        self._lates = lates

    def at(self, step: int, name: str, *, retry: bool) -> str:
        if step >= self._quiet_from or self._random.randrange(self._every):
            return ""
        what = self._random.choice(self._kinds)
        return what if retry or what != "retry" else self._kinds[0]

    def late(self, step: int) -> int | None:
        return self._random.choice(self._lates)


class Chaos:
    """Counts steps, carries out the plan and lets late requests land.

    `others` is what acts while a process stalls; `rebalance` deals the partitions anew.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.step = 0
        self.happened: list[str] = []
        self.others: Callable[[], None] = lambda: None
        self.rebalance: Callable[[], None] = lambda: None
        self._late: list[tuple[int, list[Callable[[], None]]]] = []
        self._stalled = False
        self._held = False

    @contextmanager
    def held(self) -> Iterator[None]:
        """Let nothing happen: for the simulation's own look at things."""
        self._held = True
        try:
            yield
        finally:
            self._held = False

    def point(self, name: str, *, retry: bool = False) -> None:
        """Be a step. Raises Killed, or RetryError where the caller's port may."""
        if self._held:
            return
        self.step += 1
        self.land(self.step)
        what = self.plan.at(self.step, name, retry=retry)
        if not what or (what == "stall" and self._stalled):
            return
        self.happened.append(f"{self.step}: {what} at {name}")
        if what == "kill":
            raise Killed(name)
        if what == "retry":
            raise RetryError(name)
        if what == "rebalance":
            self.rebalance()
            return
        if what == "land":
            self.land_all()
            return
        self._stalled = True
        try:
            self.others()
        finally:
            self._stalled = False

    def blocks(
        self, name: str, blocks: Iterator[Callable[[], None]], late_after: tuple[type[BaseException], ...]
    ) -> None:
        """Do a request block by block. What of it one of `late_after` leaves undone is lost, torn, or lands later."""
        todo = list(blocks)
        done = 0
        try:
            for block in todo:
                self.point(f"{name} block {done}", retry=True)
                block()
                done += 1
            self.point(f"{name} done", retry=True)
        except late_after:
            steps = self.plan.late(self.step)
            if steps == TORN and done < len(todo) and isinstance(torn := todo[done], Torn):
                self.happened.append(f"{self.step}: of a block there is its token alone")
                torn.tear()
            elif steps is not None and done < len(todo):
                self.happened.append(f"{self.step}: the rest lands {steps} steps later")
                self._late.append((self.step + steps, todo[done:]))
            raise

    def land(self, until: int) -> None:
        """Let late inserts land that are due by step `until`."""
        due = [blocks for step, blocks in self._late if step <= until]
        self._late = [(step, blocks) for step, blocks in self._late if step > until]
        for blocks in due:
            for block in blocks:
                block()

    def land_all(self) -> None:
        """Let every late insert land."""
        self.land(1 << 62)
