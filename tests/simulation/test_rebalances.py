"""The whole protocol on Kafka: the real forwarder, worker, store and group member; broker and ClickHouse in memory.

Rebalances, zombies and refused commits at every step of a small case whose offsets have holes: members come and go,
stall past their time and wake up, their commits are lost, refused, or arrive when nobody waits for them any more. Of
each list `make test` runs some, the soak all; random cases as in test_crashes.
"""

from functools import partial
from random import Random

import pytest
from aiokafka.errors import KafkaConnectionError
from support.simulated_chaos import Drawn, Fixed
from support.simulated_kafka import SimulatedKafka
from support.simulated_traffic import drawn, small
from support.simulated_world import World
from support.simulation import FORMS, run, run_all, run_drawn, seeds

HOLES = (0, 1, 0, 0, 3)
LATE = (None, 0, 4, 40)
SEEDS = range(20)
SEEDS_SOAK = range(1000, 11_000)
KINDS = ("kill", "kill", "stall", "retry", "rebalance")
QUIET_FROM = 1500

some_or_all = pytest.mark.parametrize("at_most", FORMS)
members = pytest.mark.parametrize(
    "group",
    [{}, {"static": True}, {"prompt": True}, {"static": True, "prompt": True, "no_answer": KafkaConnectionError}],
    ids=["dynamic", "static", "prompt", "static-prompt"],
)


def kafka(**group):
    return partial(SimulatedKafka, 2, holes=HOLES, **group)


def test_a_rebalance_at_every_step(data_dirs):
    steps = run(data_dirs(), Fixed(), log_of=kafka())
    assert steps > 120
    run_all(data_dirs, [Fixed(rebalances=(step,)) for step in range(1, steps + 1)], None, log_of=kafka())


@some_or_all
@members
def test_a_death_at_every_step(data_dirs, at_most, group):
    log_of = kafka(**group)
    steps = run(data_dirs(), Fixed(), log_of=log_of)
    run_all(data_dirs, [Fixed({step: late}) for step in range(1, steps + 20) for late in LATE], at_most, log_of=log_of)


@some_or_all
@members
def test_a_stall_a_lost_answer_or_a_rebalance_at_every_step(data_dirs, at_most, group):
    """A worker that stalls is a zombie when it wakes up, and its commit is refused."""
    log_of = kafka(**group)
    steps = range(1, run(data_dirs(), Fixed(), log_of=log_of) + 1)
    lost = [Fixed(retries={step: late}) for step in steps for late in LATE]
    plans = [*lost, *(Fixed(stalls=(step,)) for step in steps), *(Fixed(rebalances=(step,)) for step in steps)]
    run_all(data_dirs, plans, at_most, log_of=log_of)


@some_or_all
@members
def test_a_stall_or_a_rebalance_and_a_death_after_it(data_dirs, at_most, group):
    log_of = kafka(**group)
    steps = range(1, run(data_dirs(), Fixed(), log_of=log_of) + 1)
    pairs = [(step, step + behind) for step in steps for behind in (1, 6, 17, 30)]
    plans = [Fixed({death: 4}, **{kind: (step,)}) for step, death in pairs for kind in ("stalls", "rebalances")]
    run_all(data_dirs, plans, at_most, log_of=log_of)


def test_a_commit_of_a_worker_that_stalled_is_refused(data_dirs):
    """Else the cases above would show nothing: among them are zombies that commit, and the broker says no."""
    refused = 0
    for step in range(1, 120, 4):
        world = World(data_dirs(), small(), Fixed(stalls=(step,)), log_of=kafka())
        world.run()
        world.check()
        refused += world.log.refused
    assert refused


def drawn_world(data_dir, seed):
    random = Random(seed)
    holes = [random.choice((0, 0, 1, 5)) for _ in range(7)]
    group = {
        "static": random.random() < 0.5,
        "prompt": random.random() < 0.5,
        "no_answer": random.choice((TimeoutError, KafkaConnectionError)),
    }
    return World(
        data_dir,
        drawn(random, random.randint(1, 3), random.choice((10, 25, 60)), replayed=random.random() < 0.3),
        Drawn(random, every=random.choice((8, 15, 40, 100)), quiet_from=QUIET_FROM, kinds=KINDS),
        members=("one", "two", "three")[: random.randint(1, 3)],
        log_of=partial(SimulatedKafka, random.randint(1, 3), holes=holes, **group),
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
