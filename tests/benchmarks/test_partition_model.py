"""The model of partitions and workers: what arithmetic can say it says too, and elsewhere it keeps its laws."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.partition_model import CAUGHT_UP_S, STEP_S, STEP_SHARE, Fleet, drain, even, rebalance, shares, taken


@pytest.mark.parametrize(("outage_s", "rate"), [(60, 500), (600, 500), (60, 900)])
def test_with_even_partitions_the_drain_is_what_arithmetic_says(outage_s, rate):
    fleet = Fleet(4, 250.0, even(12))
    found = drain(fleet, rate, outage_s)
    assert found.wait_s_max == pytest.approx(outage_s)
    drained_s = (outage_s * rate - CAUGHT_UP_S * rate) / (1000 - rate)
    assert found.caught_up_s == pytest.approx(outage_s + drained_s, rel=2 * STEP_SHARE, abs=2 * STEP_S)


def test_a_hot_partition_makes_the_drain_longer_and_its_worker_the_ceiling():
    hot = [0.3] + [0.7 / 11] * 11
    fleet = Fleet(12, 100.0, hot)
    assert fleet.rate_max() == pytest.approx(100 / 0.3)
    assert drain(fleet, 300, 60).caught_up_s > 3 * drain(Fleet(12, 100.0, even(12)), 300, 60).caught_up_s
    with pytest.raises(ValueError, match="333 hits/s, not 340"):
        drain(fleet, 340, 60)


def test_the_hits_of_a_worker_that_died_wait_for_its_session_to_run_out():
    found = rebalance(Fleet(4, 250.0, even(12)), 600, session_s=45, join_s=3, rebuild_s=10)
    assert found.wait_s_max == pytest.approx(58)
    assert found.caught_up_s > 58
    shorter = rebalance(Fleet(4, 250.0, even(12)), 600, session_s=10, join_s=3, rebuild_s=10)
    assert shorter.caught_up_s < found.caught_up_s / 1.5


def test_those_left_must_be_able_to_hold_the_rate():
    with pytest.raises(ValueError, match="hits/s, not 800"):
        rebalance(Fleet(4, 250.0, even(12)), 800, session_s=45, join_s=3, rebuild_s=10)
    with pytest.raises(ValueError, match="no worker"):
        rebalance(Fleet(1, 250.0, even(12)), 10, session_s=45, join_s=3, rebuild_s=10)


def test_shares_are_seeded_and_a_steeper_law_is_less_even():
    assert shares(12, 2_000, 0.8, seed=1) == shares(12, 2_000, 0.8, seed=1) != shares(12, 2_000, 0.8, seed=2)
    hottest = [max(shares(12, 20_000, skew, seed=1)) for skew in (0.0, 0.8, 1.2)]
    assert hottest == sorted(hottest)
    assert 1 / 12 < hottest[0] < 1.1 / 12
    assert hottest[2] > 0.2


@settings(max_examples=200, deadline=None)
@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=12), st.floats(0, 1e6))
def test_a_worker_takes_all_it_can_and_no_more_than_there_is(queues, amount):
    gone = taken(queues, amount)
    assert sum(gone) == pytest.approx(min(amount, sum(queues)), rel=1e-9, abs=1e-6)
    assert all(0 <= one <= queue for one, queue in zip(gone, queues, strict=True))
    left = [queue - one for one, queue in zip(gone, queues, strict=True)]
    for one, rest in zip(gone, left, strict=True):
        assert rest <= 1e-6 or one >= max(gone) - 1e-6, "who is left something got as much as anybody"
