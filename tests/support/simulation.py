"""Running a simulation: a directory for every run, in memory where the machine has that; plans one after the other."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from pathlib import Path
from random import Random
from typing import Any

import pytest
from support.simulated_chaos import Plan
from support.simulated_traffic import small
from support.simulated_world import BrokenGuaranteeError, World

NextDir = Callable[[], Path]
SHORT = 50
FORMS = (
    pytest.param(SHORT, id="some"),
    pytest.param(None, id="all", marks=(pytest.mark.soak, pytest.mark.timeout(3600))),
)


@pytest.fixture
def data_dirs() -> Iterator[NextDir]:
    """A fresh directory for every run, gone afterwards; the product's log lines of thousands of deaths are not kept."""
    memory = Path("/dev/shm")
    root = Path(tempfile.mkdtemp(prefix="hitstream-simulation-", dir=memory if memory.is_dir() else None))
    numbers = count()
    logging.disable(logging.ERROR)
    yield lambda: root / str(next(numbers))
    logging.disable(logging.NOTSET)
    shutil.rmtree(root)


def run(data_dir: Path, plan: Plan, scripts: Callable[[], Any] = small, **how: Any) -> int:
    """Run a fixed case and check it; return the number of steps. Raises BrokenGuaranteeError."""
    world = World(data_dir, scripts(), plan, **how)
    try:
        world.run()
        world.check()
    finally:
        shutil.rmtree(data_dir, ignore_errors=True)
    return world.chaos.step


def run_all(data_dirs: NextDir, plans: Sequence[Plan], at_most: int | None, **how: Any) -> None:
    """Run every plan, or `at_most` of them; fail with how many break the guarantee, and the first."""
    broken = []
    for plan in plans if at_most is None else Random(1).sample(plans, min(at_most, len(plans))):
        try:
            run(data_dirs(), plan, **how)
        except BrokenGuaranteeError as violation:
            broken.append(f"{vars(plan)}: {violation}")
    assert not broken, f"{len(broken)} plans, the first: {broken[0]}"


def run_drawn(data_dir: Path, seed: int, world_of: Callable[[Path, int], World]) -> None:
    """Run the random case of a seed; a violation names it."""
    try:
        world = world_of(data_dir, seed)
        world.run()
        world.check()
    except BrokenGuaranteeError as violation:
        raise AssertionError(f"SIMULATION_SEED={seed}: {violation}") from violation
    finally:
        shutil.rmtree(data_dir, ignore_errors=True)


def seeds(default: Sequence[int]) -> Sequence[int]:
    """Return the seeds to run, and print them: one, where the environment names it."""
    chosen = [int(os.environ["SIMULATION_SEED"])] if "SIMULATION_SEED" in os.environ else default
    print(f"seeds {chosen[0]} to {chosen[-1]}")
    return chosen
