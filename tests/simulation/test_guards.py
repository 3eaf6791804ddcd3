"""Each guard of the protocol, taken out: the simulation finds a run that breaks the guarantee, and with the guard the
same run keeps it. So neither the guards nor the simulation are for show."""

import logging
import shutil
import tempfile
from functools import partial
from itertools import count
from pathlib import Path
from random import Random

import pytest
from support.simulated_chaos import Drawn, Fixed
from support.simulated_guards import GUARDS
from support.simulated_traffic import aged, drawn, replays, small
from support.simulated_world import BrokenGuaranteeError, World

SEEDS_MAX = 300
STEPS_MAX = 110  # the fixed scripts take fewer
STUCK = ("the run does not come to rest", "a process gives up")


class Only:
    """A drawn plan of which only one kind of happening is carried out."""

    def __init__(self, random, kind):
        self._plan = Drawn(random, every=12, quiet_from=1500)
        self._kind = kind

    def at(self, step, name, *, retry):
        return self._kind if self._plan.at(step, name, retry=retry) and (retry or self._kind != "retry") else ""

    def late(self, step):
        return self._plan.late(step)


def cases(kind, traffic):
    """Makers of worlds: of a fixed script one for every single happening of this kind, of drawn ones one for a seed."""
    if traffic == "drawn":
        for seed in range(SEEDS_MAX):
            yield f"seed {seed}", partial(random_world, seed=seed, kind=kind)
        return
    scripts = {"small": small, "aged": aged, "replays": replays}[traffic]
    for step in range(1, STEPS_MAX):
        plans = {
            "": [Fixed()] if step == 1 else [],
            "kill": [Fixed({step: late}) for late in (None, 0, 4)],
            "stall": [Fixed(stalls=(step,))],
            "retry": [Fixed(retries={step: None})],
        }[kind]
        for plan in plans:
            yield str(vars(plan)), partial(fixed_world, scripts=scripts, plan=plan)


def fixed_world(data_dir, scripts, plan):
    return World(data_dir, scripts(), plan)


def random_world(data_dir, seed, kind):
    random = Random(seed)
    scripts = drawn(random, collectors=2, hits=40)
    return World(data_dir, scripts, Only(random, kind) if kind else Fixed(), random=random)


@pytest.fixture
def breaks():
    """Return whether a case breaks the guarantee: what of it, or None."""
    memory = Path("/dev/shm")
    root = Path(tempfile.mkdtemp(prefix="hitstream-guards-", dir=memory if memory.is_dir() else None))
    numbers = count()

    def run(make):
        data_dir = root / str(next(numbers))
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

    logging.disable(logging.ERROR)
    yield run
    logging.disable(logging.NOTSET)
    shutil.rmtree(root)


def first_broken(guard, breaks):
    """Return (number and name of the case, its world's maker, how it breaks) for the first case that breaks."""
    for tried, (name, make) in enumerate(cases(guard.needs, guard.traffic), 1):
        how = breaks(make)
        if how and not how.startswith(STUCK):  # a process that stops in time breaks no promise
            return f"case {tried}, {name}", make, how
    return pytest.fail(f"not found out: {guard.without.__doc__}")


@pytest.mark.parametrize("guard", GUARDS, ids=lambda guard: guard.line)
def test_without_its_guard_the_guarantee_breaks_and_with_it_holds(guard, breaks):
    with pytest.MonkeyPatch.context() as patch:
        guard.without(patch)
        name, make, how = first_broken(guard, breaks)
    print(f"{guard.without.__name__}, {guard.traffic}, {name}: {how.splitlines()[0][:200]}")
    assert breaks(make) is None, f"{name} breaks the guarantee with the guard as well"
