"""The whole protocol under crashes: the real forwarder, spools, worker and store; log and ClickHouse in memory.

On a small case: a death at every step (what it leaves of a request is lost, lands at once, or later), a stall at every
step (a zombie, where it is a worker), a lost answer at every step, and pairs of these; of the longer lists `make test`
runs some, the soak all. Random on larger ones: `SIMULATION_SEED=n` runs just that seed. Every failure names its seed or
steps, and all that happened.
"""

from functools import partial
from random import Random

import pytest
from support.simulated_chaos import TORN, Drawn, Fixed
from support.simulated_log import SimulatedLog
from support.simulated_traffic import drawn, over_midnight, replays
from support.simulated_world import World
from support.simulation import FORMS, run, run_all, run_drawn, seeds

LATE = (None, 0, 1, 4, 15, TORN)
SEEDS = range(30)
SEEDS_SOAK = range(1000, 21_000)

some_or_all = pytest.mark.parametrize("at_most", FORMS)


def test_a_death_at_every_step(data_dirs):
    steps = run(data_dirs(), Fixed())
    assert steps > 80
    run_all(data_dirs, [Fixed({step: None}) for step in range(1, steps + 20)], None)


@some_or_all
@pytest.mark.parametrize("members", [("one",), ("one", "two")])
def test_a_death_at_every_step_whatever_is_late(data_dirs, at_most, members):
    steps = run(data_dirs(), Fixed(), members=members)
    plans = [Fixed({step: late}) for step in range(1, steps + 20) for late in LATE]
    run_all(data_dirs, plans, at_most, members=members)


@some_or_all
@pytest.mark.parametrize("outage_forgets", [False, True])
def test_a_death_at_every_step_and_a_long_outage_after_it(data_dirs, at_most, outage_forgets):
    """Past `recovery_age_max` a batch is healed, whether the engine still knows its token or not."""
    steps = run(data_dirs(), Fixed())
    plans = [Fixed({step: late}) for step in range(1, steps + 20) for late in (None, 0)]
    pairs = [Fixed({step: None, step + behind: None}) for step in range(1, steps + 1) for behind in (4, 9)]
    run_all(data_dirs, plans + pairs, at_most, outage_s=3600, outage_forgets=outage_forgets)


@some_or_all
@pytest.mark.parametrize("outage_s", [0, 3600])
def test_a_death_of_clickhouse_at_every_step(data_dirs, at_most, outage_s):
    """Its tokens without rows are found, also those of what was to heal others."""
    steps = run(data_dirs(), Fixed())
    plans = [Fixed(retries={step: TORN}) for step in range(1, steps + 1)]
    plans += [
        Fixed({step: TORN}, retries={step + behind: TORN}) for step in range(1, steps + 1) for behind in range(1, 25)
    ]
    run_all(data_dirs, plans, at_most, outage_s=outage_s)


def test_a_stall_at_every_step(data_dirs):
    steps = run(data_dirs(), Fixed())
    run_all(data_dirs, [Fixed(stalls=(step,)) for step in range(1, steps + 1)], None)


def test_a_lost_answer_at_every_step(data_dirs):
    steps = run(data_dirs(), Fixed())
    run_all(data_dirs, [Fixed(retries={step: None}) for step in range(1, steps + 1)], None)


@some_or_all
def test_a_stall_and_a_death_while_others_act(data_dirs, at_most):
    steps = run(data_dirs(), Fixed())
    pairs = [(stall, stall + behind) for stall in range(1, steps + 1) for behind in (1, 6, 17, 30)]
    run_all(data_dirs, [Fixed({death: 4}, stalls=(stall,)) for stall, death in pairs], at_most)


@some_or_all
def test_a_death_a_stall_or_a_lost_answer_at_every_step_of_replays(data_dirs, at_most):
    """Of a rejected hit that is replayed many times, one replay leaves a row, whoever dies when."""
    steps = run(data_dirs(), Fixed(), replays)
    deaths = [Fixed({step: late}) for step in range(1, steps + 20) for late in (None, 0, 4)]
    stalls = [Fixed(stalls=(step,)) for step in range(1, steps + 1)]
    lost = [Fixed(retries={step: None}) for step in range(1, steps + 1)]
    run_all(data_dirs, deaths + stalls + lost, at_most, scripts=replays)


@some_or_all
def test_a_death_at_every_step_of_a_cookieless_visit_across_midnight(data_dirs, at_most):
    steps = run(data_dirs(), Fixed(), over_midnight)
    plans = [Fixed({step: late}) for step in range(1, steps + 20) for late in (None, 4)]
    run_all(data_dirs, plans, at_most, scripts=over_midnight)


@some_or_all
def test_replays_whose_batches_are_healed(data_dirs, at_most):
    steps = run(data_dirs(), Fixed(), replays)
    plans = [Fixed({step: None}) for step in range(1, steps + 20)]
    run_all(data_dirs, plans, at_most, scripts=replays, outage_s=3600, outage_forgets=True)


@some_or_all
@pytest.mark.parametrize("late", [None, 1])
def test_pairs_of_deaths(data_dirs, at_most, late):
    steps = run(data_dirs(), Fixed())
    pairs = [(first, second) for first in range(1, steps + 1) for second in range(first + 1, steps + 30)]
    run_all(data_dirs, [Fixed({first: late, second: late}) for first, second in pairs], at_most)


def drawn_world(data_dir, seed):
    random = Random(seed)
    return World(
        data_dir,
        drawn(random, random.randint(1, 3), random.choice((10, 25, 60)), replayed=random.random() < 0.3),
        Drawn(random, every=random.choice((8, 15, 40, 100)), quiet_from=1500, lates=(None, 0, 1, 3, 10, 40, TORN)),
        members=("one", "two", "three")[: random.randint(1, 3)],
        log_of=partial(SimulatedLog, random.randint(1, 3), stride=random.choice((1, 1, 3))),
        random=random,
    )


def test_random_cases(data_dirs):
    for seed in seeds(SEEDS):
        run_drawn(data_dirs(), seed, drawn_world)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_many_random_cases(data_dirs):
    for seed in seeds(SEEDS_SOAK):
        run_drawn(data_dirs(), seed, drawn_world)
