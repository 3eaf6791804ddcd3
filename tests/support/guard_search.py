"""A guard of the protocol taken out, and the search for a run that shows it.

So neither the guards nor the simulation are for show: without the guard some run breaks the guarantee, and with it the
same run keeps it.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from fnmatch import fnmatchcase
from functools import partial
from itertools import cycle
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import pytest
from support.simulated_chaos import TORN, Drawn, Fixed, Plan
from support.simulated_traffic import aged, drawn, replays, small
from support.simulated_world import BrokenGuaranteeError, World
from support.simulation import NextDir

SEEDS_MAX = 100
STEPS_MAX = 150  # the fixed scripts take fewer
QUIET_FROM = 1500
LATE = (None, 0, 4)
STUCK = ("the run does not come to rest", "a process gives up")

Make = Callable[[Path], World]


class Guard(NamedTuple):
    """What broke the protocol once, in FACTS or in the simulation, and the guard against it taken out."""

    line: str
    without: Callable[[pytest.MonkeyPatch], None]
    needs: str  # what must happen for it to show: "kill" anywhere, or see InOrder; "": nothing at all
    traffic: str  # which of simulated_traffic shows it
    world: Mapping[str, Any] = {}
    first: int = 0  # the seed or step where the search begins, soon before a case that shows it
    stops: bool = False  # it shows in processes that give up, where others double or lose


class Anywhere:
    """A drawn plan of happenings of one kind."""

    def __init__(self, random: Random, kind: str) -> None:
        self._plan = Drawn(random, every=12, quiet_from=QUIET_FROM)
        self._kind = kind

    def at(self, step: int, name: str, *, retry: bool) -> str:
        happens = self._plan.at(step, name, retry=retry) and (retry or self._kind != "retry")
        return self._kind if happens else ""

    def late(self, step: int) -> int | None:
        return self._plan.late(step)


class InOrder:
    """Happenings at their places, one after the other, over and over: "kill at commit, land at insert events".

    What is left of a request lands when the next "land" comes, or at the very end. "pass" only waits for its place.
    "tear" loses an answer, and leaves of the block at hand its token alone.
    """

    def __init__(self, random: Random, needs: str) -> None:
        self._random = random
        self._happenings = cycle([kind.split(" at ") for kind in needs.split(", ")])
        self._kind, self._place = next(self._happenings)

    def at(self, step: int, name: str, *, retry: bool) -> str:
        here = fnmatchcase(name, self._place) and (retry or self._kind not in ("retry", "tear"))
        if not here or step >= QUIET_FROM or self._random.random() < 0.5:
            return ""
        happens = self._kind
        self._late = TORN if happens == "tear" else 1 << 40
        self._kind, self._place = next(self._happenings)
        return {"pass": "", "tear": "retry"}.get(happens, happens)

    def late(self, _: int) -> int:
        return self._late


def find_out(guard: Guard, data_dirs: NextDir) -> None:
    """Fail unless a run breaks the guarantee without the guard, and keeps it with the guard."""
    with pytest.MonkeyPatch.context() as patch:
        guard.without(patch)
        name, make, how = _first_broken(guard, data_dirs)
    print(f"{guard.without.__name__}, {guard.traffic}, {name}: {how.splitlines()[0][:200]}")
    kept = _broken(make, data_dirs())
    assert kept is None, f"{name} breaks the guarantee with the guard as well: {kept}"


def _first_broken(guard: Guard, data_dirs: NextDir) -> tuple[str, Make, str]:
    """Return (number and name of the case, its world's maker, how it breaks) for the first case that breaks."""
    for tried, (name, make) in enumerate(_cases(guard), 1):
        how = _broken(make, data_dirs())
        if how and (guard.stops or not how.startswith(STUCK)):  # a process that stops in time neither doubles nor loses
            return f"case {tried}, {name}", make, how
    return pytest.fail(f"not found out: {guard.without.__doc__}")


def _broken(make: Make, data_dir: Path) -> str | None:
    """Return how a case breaks the guarantee; None: it keeps it."""
    world = make(data_dir)
    try:
        world.run()
        world.check()
    except BrokenGuaranteeError as broken:
        places = [(row["log_partition"], row["log_offset"]) for row in world.clickhouse.rows("events")]
        stopped_too_late = str(broken).startswith(STUCK) and len(places) > len(set(places))
        return f"a record has two rows; {broken}" if stopped_too_late else str(broken)
    finally:
        shutil.rmtree(data_dir, ignore_errors=True)
    return None


def _cases(guard: Guard) -> Iterator[tuple[str, Make]]:
    """Yield makers of worlds: of a fixed script for every single happening of the kind, of drawn ones for a seed."""
    if guard.traffic == "drawn":
        for seed in range(guard.first, guard.first + SEEDS_MAX):
            yield f"seed {seed}", partial(_random_world, seed=seed, guard=guard)
        return
    scripts = {"small": small, "aged": aged, "replays": replays}[guard.traffic]
    for step in range(guard.first or 1, STEPS_MAX):
        plans = {
            "": [Fixed()] if step == 1 else [],
            "kill": [Fixed({step: late}) for late in LATE],
            "stall": [Fixed(stalls=(step,))],
            "retry": [Fixed(retries={step: late}) for late in LATE],
            "rebalance": [Fixed(rebalances=(step,))],
        }[guard.needs]
        for plan in plans:
            yield str(vars(plan)), partial(_fixed_world, scripts=scripts, plan=plan, guard=guard)


def _fixed_world(data_dir: Path, scripts: Callable[[], Any], plan: Fixed, guard: Guard) -> World:
    return World(data_dir, scripts(), plan, **guard.world)


def _random_world(data_dir: Path, seed: int, guard: Guard) -> World:
    random = Random(seed)
    scripts = drawn(random, collectors=2, hits=40)
    plan: Plan = Fixed()
    if guard.needs:
        plan = InOrder(random, guard.needs) if " at " in guard.needs else Anywhere(random, guard.needs)
    return World(data_dir, scripts, plan, random=random, **guard.world)
